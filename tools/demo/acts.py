"""The demo's story, act by act: what is done to the mesh, and what is shown of it.

Decides the order and how long each act is watched; ends with the verdict of `account`. Refuses to know how
processes are made and how lines are drawn.
"""

from pathlib import Path
from typing import Any, NamedTuple

import desk
import trio
from account import Carried, Check, Final, verdict
from fleet import Caller, Fleet, Point, largest_gap, recent
from nodes import Node, Nodes
from proxy import DelayProxy
from screen import Screen, ms
from watch import PATIENCE, StoryFailed, Watch, serves

from edged_protocol.trio_client import Mesh, connect

FUNCTIONS = Path(__file__).parents[2] / "configs" / "functions"
EDGES = ("edge-1", "edge-2", "edge-3")
ONE_WAY = 0.010
"""Seconds the line to the cloud adds in each direction."""

ALERT_RATE = 20.0
"""Readings a second of an arm that is looked at closely."""

LOAD_RATE = 100.0
"""Readings, and parts of each station, a second while sessions are moved: a gap of 10 ms shows."""


class Pace(NamedTuple):
    """Seconds that acts are watched."""

    warm: float
    remote: float
    local: float
    between: float
    after: float


FULL = Pace(warm=1.0, remote=6.0, local=4.0, between=2.0, after=3.0)
QUICK = Pace(warm=0.7, remote=2.0, local=1.0, between=0.5, after=1.0)


class Move(NamedTuple):
    """One move of a session, as reported by the mesh and as its clients saw it."""

    session: str
    verb: str
    to: str
    pause_ms: float
    bytes: int
    gap_ms: float
    slowest_ms: float
    answers: int


class Story:
    """One run. `tell` it; then `checks` is the verdict and `figures` what was measured."""

    def __init__(self, screen: Screen, nodes: Nodes, proxy: DelayProxy, fleet: Fleet, pace: Pace):
        self._screen, self._nodes, self._proxy = screen, nodes, proxy
        self._fleet, self._pace = fleet, pace
        self._watch = Watch(screen, fleet)
        self._edges: list[Node] = []
        self._cloud: Node
        self.moves: list[Move] = []
        self.checks: list[Check] = []
        self.figures: dict[str, Any] = {}

    async def tell(self) -> None:
        """All acts. Raises StoryFailed, NodeFailed, DeskFailed."""
        await self.mesh_comes_up()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._nodes.watch)
            await self._with_the_fleet()
            nursery.cancel_scope.cancel()

    async def _with_the_fleet(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._fleet.run, [node.address for node in self._edges])
            await self.all_remote()
            await self.one_turns_abnormal()
            await self.moved_under_load()
            await self.back_to_remote()
            self._fleet.stop()
        await self.judged()

    # 1

    async def mesh_comes_up(self) -> None:
        """The cloud behind its line, three nodes, two functions."""
        round_trip = 2 * ONE_WAY * 1e3
        self._screen.act(1, f"The mesh comes up: three nodes, their store {round_trip:.0f} ms away")
        host, port = self._proxy.target
        self._cloud = await self._nodes.start_cloud(port, self._proxy.address)
        self._screen.say(
            f"cloud   {host}:{port}, the state store; reached at {self._proxy.address}"
        )
        for name in EDGES:
            edge = await self._nodes.start_edge(name, self._proxy.address)
            self._edges.append(edge)
            self._screen.say(f"{name}  {edge.address}")
        for edge in self._edges:
            await self._knows_all(edge)
        for name in ("arm-monitor", "counter"):
            await self._deploy(name)

    async def _knows_all(self, edge: Node) -> None:
        wanted, names = {"cloud", *EDGES}, set[str]()
        with trio.move_on_after(PATIENCE):
            while True:
                rows = await desk.run(desk.words("nodes", node=edge.address))
                names = {row["name"] for row in rows}
                if wanted <= names:
                    return
        raise StoryFailed(f"{edge.name} knows only {sorted(names)} after {PATIENCE:.0f} s")

    async def _deploy(self, name: str) -> None:
        directory = FUNCTIONS / name
        command = desk.words("deploy", desk.shown(str(directory)), node=self._edges[0].address)
        self._screen.command(command)
        said = await desk.run(command)
        if set(said["nodes"]) != set(EDGES):
            raise StoryFailed(f"{name} is served by {said['nodes']}, not by {EDGES}")
        self._screen.say(f"{name} is served by {', '.join(said['nodes'])}")

    # 2

    async def all_remote(self) -> None:
        """Every call reads the state from the cloud and commits it there."""
        arms, watched = len(self._fleet.arms), self._fleet.watched
        self._screen.act(
            2, f"{arms} arms call, all remote-state: each call reads and commits in the cloud"
        )
        await self._watch.until(
            lambda: all(arm.caller.points for arm in self._fleet.arms), "an answer for every arm"
        )
        await self._watch.watch(self._pace.warm)  # the first calls start the containers
        began = trio.current_time()
        await self._watch.watch(self._pace.remote)
        rows = [
            ("all arms", self._fleet.points(began)),
            (watched.name, list(recent(watched.caller.points, began))),
        ]
        self.figures["remote"] = self._watch.latencies(
            [(name, [p.seconds for p in points]) for name, points in rows]
        )

    # 3

    async def one_turns_abnormal(self) -> None:
        """The function itself asks for a container of its own."""
        arm = self._fleet.watched
        self._screen.act(
            3, f"{arm.name} turns abnormal: its function asks for local state by itself"
        )
        before = trio.current_time()
        arm.abnormal, arm.rate = True, ALERT_RATE
        await self._watch.until(
            lambda: serves(arm.caller, "local"), f"{arm.name} to be local-state"
        )
        arm.caller.ledger.moves += 1
        first = next(p for p in arm.caller.points if p.at > before and p.mode == "local")
        self._screen.say(
            f"local-state on {first.node} {ms(first.at - before)} after the change "
            f"(one reading, a container, a read and a commit in the cloud)"
        )
        await self._watch.watch(self._pace.local)
        local = [p.seconds for p in recent(arm.caller.points, first.at) if p.mode == "local"]
        others = [p.seconds for p in self._fleet.points(first.at, but=arm)]
        self._screen.say(f"{arm.name}'s last calls: {self._watch.spark()}")
        self.figures["local"] = self._watch.latencies(
            [(f"{arm.name}, local-state", local), ("the others, remote-state", others)]
        )

    # 4

    async def moved_under_load(self) -> None:
        """An operator moves both sessions of the arm from node to node while they are called."""
        arm, parts = self._fleet.watched, self._fleet.parts
        self._screen.act(
            4, "An operator moves its sessions from node to node while they are called"
        )
        parts.rate = ALERT_RATE / 2
        await self._watch.watch(self._pace.between)
        await self._move("localize", parts.callers, EDGES[0])
        arm.rate, parts.rate = LOAD_RATE, LOAD_RATE
        for to in EDGES[1:]:
            await self._watch.watch(self._pace.between)
            await self._move("migrate", [arm.caller], to)
            await self._move("migrate", parts.callers, to)
        await self._watch.watch(self._pace.between)
        self._screen.table(
            ("", "pause (mesh)", "gap (client)", "slowest call", "answers meanwhile", "bytes"),
            [
                (
                    f"{move.session} {move.verb} to {move.to}",
                    f"{move.pause_ms:.1f} ms",
                    f"{move.gap_ms:.1f} ms",
                    f"{move.slowest_ms:.1f} ms",
                    str(move.answers),
                    str(move.bytes),
                )
                for move in self.moves
            ],
        )
        self._so_far()

    async def _move(self, verb: str, callers: list[Caller], to: str = "") -> None:
        ledger = callers[0].ledger
        session = ledger.name
        where = ["--to", to] if to else []
        command = desk.words("session", verb, session, *where, node=self._edges[0].address)
        self._screen.command(command)
        began = trio.current_time()
        said = await desk.run(command)
        ended = trio.current_time()
        mode = "local" if to else "remote"
        await self._watch.until(
            lambda: all(serves(one, mode, ended, to) for one in callers),
            f"{session} to answer from {to or mode}",
        )
        points = sorted(point for caller in callers for point in recent(caller.points, began))
        move = Move(
            session,
            verb,
            to or "the store",
            said["pause_ms"],
            said["bytes"],
            max(largest_gap(caller.points, began) for caller in callers) * 1e3,
            max(point.seconds for point in points) * 1e3,
            len(points),
        )
        self.moves.append(move)
        ledger.moves += 1
        self._screen.say(
            f"epoch {said['epoch']}, pause {move.pause_ms:.1f} ms, largest gap {move.gap_ms:.1f} ms"
        )

    def _so_far(self) -> None:
        for ledger in (self._fleet.watched.caller.ledger, self._fleet.parts.ledger):
            told, distinct = len(ledger.values), len(set(ledger.values))
            gaps = max(ledger.values, default=0) - distinct
            self._screen.say(
                f"{ledger.name}: {told} calls acknowledged, {told - distinct} values twice, {gaps} missing or under way"
            )

    # 5

    async def back_to_remote(self) -> None:
        """Calm again: the function gives its container back; the operator externalizes the counter."""
        arm, parts = self._fleet.watched, self._fleet.parts
        self._screen.act(5, f"{arm.name} is normal again: the function gives its container back")
        parts.rate, arm.rate, arm.abnormal = ALERT_RATE, LOAD_RATE / 2, False
        began = trio.current_time()
        await self._watch.until(
            lambda: serves(arm.caller, "remote", began), f"{arm.name} to be remote-state"
        )
        arm.caller.ledger.moves += 1
        self._screen.say(
            f"remote-state after {trio.current_time() - began:.1f} s and 50 normal readings"
        )
        await self._move("externalize", parts.callers)
        arm.rate = parts.rate = self._fleet.rate
        await self._watch.watch(self._pace.after)
        self._screen.say(f"{arm.name}'s last calls: {self._watch.spark()}")

    # 6

    async def judged(self) -> None:
        """Compare the ledgers with the states, as another client reads them, and with the records."""
        self._screen.act(6, "The account")
        finals = await self._finals()
        carried = await self._carried()
        self.checks = verdict(self._fleet.ledgers, finals, carried)
        self._screen.table(
            ("", "", ""),
            [("ok" if check.ok else "OFF", check.name, check.detail) for check in self.checks],
            text=3,
        )
        self.figures |= {
            "moves": [move._asdict() for move in self.moves],
            "proxy": carried._asdict(),
        }

    async def _finals(self) -> dict[str, Final]:
        rows = await desk.run(desk.words("sessions", node=self._edges[0].address))
        records = {f"{row['function']}/{row['session']}": row for row in rows}
        finals = {}
        async with connect([self._edges[1].address], name="auditor") as mesh:
            for ledger in self._fleet.ledgers:
                if ledger.name in records:
                    finals[ledger.name] = await self._final(mesh, records[ledger.name])
        return finals

    @staticmethod
    async def _final(mesh: Mesh, row: dict[str, Any]) -> Final:
        session = mesh.session(row["function"], row["session"])
        if row["function"] == "counter":
            n, alarms = await session.call("get"), None
        else:
            report = await session.call("report")
            n, alarms = report["n"], report["alarms"]
        return Final(n, row["version"], row["epoch"], row["mode"], alarms)

    def _all_points(self) -> list[Point]:
        callers = [*(arm.caller for arm in self._fleet.arms), *self._fleet.parts.callers]
        return [point for caller in callers for point in caller.points]

    async def _carried(self) -> Carried:
        status = await desk.run(desk.words("status", admin=self._cloud.admin))
        traffic = self._proxy.traffic()
        remote = [p.seconds for p in self._all_points() if p.mode == "remote"]
        return Carried(
            2 * ONE_WAY,
            min(remote, default=0.0),
            len(remote),
            traffic.frames_up,
            traffic.frames_down,
            traffic.bytes_up,
            traffic.bytes_down,
            len(EDGES),
            traffic.open,
            status["connections"] - 1,  # the one that asks
        )
