"""One world: three nodes, a store, clients, an operator, and faults, all from one seed.

A world has two phases: everything goes wrong that its faults allow; then it heals, and all that was begun
must come to its end. `python -m sim.mesh SEED` (in tests/) prints what happened in one world.
"""

import sys
from collections import Counter, deque
from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

from edged.core.leases import TAKE
from edged.core.records import Record, SessionKey
from edged.core.sessions import Rules, Seat
from edged.core.sessions.writes import close_at
from edged.core.transition import HOLDING, OWNING, S
from edged.lab.clock import Clock

from .alarms import missing
from .between import link_lost
from .clients import Request, Try
from .faults import Faults
from .history import KEPT, LETTING_GO, History
from .leasing import LEASE, RATES, must_own
from .node import Node
from .store import Store

NAMES = ("a", "b", "c")
REQUESTS = 24
FADING = 2.0
"""Seconds from the last call to the end of the faults."""

LOOK = 0.05
LONG_LOOK = 0.25
"""Seconds between two looks at what costs more to find out."""
HEALED = 120.0
"""Seconds after which nothing may be under way any more: deadlines, polls and invitations are shorter."""

TARGET = frozenset({S.INVITED, S.SEALING, S.SEALED})
HAS_ALL = HOLDING | KEPT | {S.SEALED}
SOON = 3.0
SOON_OVER = frozenset({"store_refused", "store_lost", "store_applied", "store_away", "node_killed", "node_cut", "client_lost"})
STUCK = 30.0
"""Until a container that answers no verb is given up, at the worst moment."""

KEPT_LINES = 400


class Aim(NamedTuple):
    """What is not left to chance in a world: which faults, at which step something dies, what the function says."""

    kinds: tuple[str, ...] | None = None
    moment: S | None = None
    on_partition: str | None = None
    durability: str | None = None
    keep: int | None = None
    """Call ids that are remembered."""
    shared: bool = False
    """Whether the session shares its containers with others."""


ANY = Aim()


class Watched(Seat):
    """Counts the steps it takes."""

    steps: Counter[tuple[S, S]]

    def go(self, state: S) -> None:
        """As a session's actor does it."""
        self.steps[self.state, state] += 1
        super().go(state)


class Mesh:
    """`run` is the whole story of a seed; it raises AssertionError when something did not hold."""

    def __init__(self, seed: int, aim: Aim = ANY) -> None:
        self.seed = seed
        self.chance = chance = Random(seed)
        self.key = SessionKey("f", "s")
        self.names = NAMES
        self.shared = Random(f"{seed} shared") if aim.shared else None
        self.clock = Clock()
        self.faults = Faults(chance, aim.kinds, aim.moment)
        keep = aim.keep or chance.choice((4, 128, 128))
        self.patient = keep < REQUESTS
        durability = aim.durability or chance.choice(("none", "checkpoint", "checkpoint", "sync"))
        often = chance.choice(((2, 0.1), (5, 1.0)))
        self.deltas = chance.random() < 0.7
        chunk = chance.choice((2, 6, 1000))
        policy = aim.on_partition or chance.choice(("fence", "fence", "fence", "keep", "hold"))
        pieces: dict[str, Any] = {"deltas_from": 0, "max_pause": chance.choice((0.02, 0.5)), "chunk": chunk, "on_partition": policy}
        self.rules = Rules(("remote", "local"), 0.0, 500, keep, durability, *often, **pieces, shared={"get"})
        self.history = History(durability, policy)
        self.store = Store(self.key, self.clock, chance, self.faults, self.history)
        self.store.written = self._written
        self.store.kept = self._kept
        self.watchers: dict[str, list[Any]] = {}
        self.seen: Counter[tuple[S, str]] = Counter()
        self.steps: Counter[tuple[S, S]] = Counter()
        self.moves: Counter[int] = Counter()
        self.swept = self.handed_over = 0
        self._severed: dict[frozenset[str], float] = {}
        self.lines: deque[tuple[float, str, tuple[Any, ...]]] = deque(maxlen=KEPT_LINES)
        self._open: dict[int, tuple[Node, str]] = {}
        self._lives = 0
        self._requests: list[Request] = []
        self.nodes = {name: self._new_life(name) for name in NAMES}

    def say(self, text: str, *words: Any) -> None:
        """A line of the transcript; written only when somebody wants to read it."""
        self.lines.append((self.clock.now, text, words))

    def transcript(self) -> str:
        """The last of what happened."""
        return "\n".join(f"{at:9.4f} {text % words}" for at, text, words in self.lines)

    # Nodes

    def _new_life(self, name: str) -> Node:
        self._lives += 1
        node = Node(self, name, f"{name}{self._lives}")
        self.clock.after(self.chance.random() * 0.02, node.later(node.leasing.turn))
        return node

    def new_seat(self, node: Node) -> Seat:
        """A session's actor, watched."""
        leases = node.leasing.core
        seat = Watched(self.key, node.name, node.boot, self.rules, leases, lambda: self.names, node.rests)
        seat.steps = self.steps
        return seat

    def kill(self, node: Node) -> None:
        """SIGKILL; another life begins a little later."""
        if not node.alive:
            return
        self.say("%s is killed", node.name)
        if node.seat is not None and node.seat.container is not None:
            node.void(node.seat.container)
            node.seat.container.alive = False
        node.alive = False
        self._open = {n: (at, why) for n, (at, why) in self._open.items() if at is not node}
        soon = self.chance.random() * 0.05
        for call in node.calls.values():
            if isinstance(call.origin, Try) and not call.answered:
                self.clock.after(soon, call.origin.broken)
        for other, call in self.watchers.pop(node.boot, []):
            self.clock.after(soon, other.later(link_lost), other, call)
        for other in self.nodes.values():
            self.clock.after(soon, other.later(other.lost_sight_of), node.name)
        away = 0.1 + self.chance.random() * self.chance.choice((2, 2, 8))
        self.clock.after(away, self._revive, node.name)

    def _revive(self, name: str) -> None:
        self.nodes[name] = self._new_life(name)
        self.say("%s is back as %s", name, self.nodes[name].boot)

    # Connections

    def severed(self, one: Node, other: Node) -> bool:
        """Whether there is no connection between them."""
        return self.clock.now < self._severed.get(frozenset({one.name, other.name}), 0.0)

    def sever(self, one: Node, name: str) -> None:
        """Their connection ends; there is another one in a while."""
        if name not in self.nodes:
            return  # no other node has to do with this step
        other, seconds = self.nodes[name], self.chance.random() * self.chance.choice((0.5, 5.0))
        self.say("%s and %s are cut off from each other for %.3f s", one.name, name, seconds)
        self._severed[frozenset({one.name, name})] = self.clock.now + seconds
        self.clock.after(0.0, one.later(one.lost_sight_of), name)
        self.clock.after(0.0, other.later(other.lost_sight_of), one.name)

    # Moves

    def asker(self, node: Node, then: Callable[..., None]) -> Callable[..., None]:
        """Somebody at `node` who must be told once how a move ended."""
        number = len(self._open) + sum(self.moves.values())
        while number in self._open:
            number += 1
        self._open[number] = (node, f"since {self.clock.now:.3f}")

        def told(code: int, message: str, result: Any) -> None:
            assert self._open.pop(number, None) is not None, "the end of a move was told twice"
            self.moves[code] += 1
            then(code, message, result)

        return told

    def wish(self) -> None:
        """An operator asks for a move, mostly where it can be had."""
        up = [node for node in self.nodes.values() if node.alive and not node.paused]
        if not up:
            return
        record = self.store.record
        node = self.chance.choice(up)
        owner = self.nodes.get(record.owner or "") if record is not None else None
        if owner in up and self.chance.random() < 0.8:
            node = owner
        local = node.seat is not None and node.seat.local
        moves = ("migrate", "migrate", "externalize", "end") if local else ("localize", "localize", "localize", "end")
        move = self.chance.choice(moves if self.chance.random() < 0.9 else ("localize",))
        if move == "end" and not local:
            self._close(node)
            return
        other = self.chance.choice([n for n in up if n is not node] or [node])
        target = f"{other.name}/{other.boot}" if other is not node else node.name
        self.say("wish: %s at %s (to %s)", move, node.name, target)
        node.move(move, target if move == "migrate" else "", lambda *_: None)

    def _close(self, node: Node) -> None:
        """The end of a remote-state session, as `edged.daemon.ending` writes it."""
        record = self.store.record
        if record is not None and record.mode == "remote" and not record.ended:
            self.say("wish: the end, at %s", node.name)
            self.store.submit(close_at(self.key, record, self.chance.randbytes(16)), lambda _: None, node)

    # The story

    def run(self) -> None:
        """Faults, healing, and the reckoning."""
        at = 0.0
        pace = self.chance.choice((0.005, 0.05, 0.3))
        restless = self.chance.choice((0.05, 0.35))
        if self.chance.random() < 0.5:
            self.clock.after(0.0, self.wish)
        for number in range(REQUESTS):
            request = Request(self, number)
            self._requests.append(request)
            at += self.chance.random() * pace
            self.clock.after(at, request.send)
            if self.chance.random() < restless:
                self.clock.after(at + self.chance.random() * pace, self.wish)
        if self.chance.random() < 0.5:
            # Then there are only late retries, of what others may have forgotten.
            self.clock.after(at + self.chance.random() * FADING, self.wish)
        self.clock.after(self.chance.choice((0.0, 0.1, 0.5)) * at, self.faults.arm)
        self.clock.run(at + FADING)
        self.faults.heal()
        for node in self.nodes.values():
            node.cut_until = 0.0
        self._severed.clear()
        self.store.heal()
        self.say("healed")
        self._served_soon()
        self._run_until(lambda: not self._under_way(), HEALED)
        self._all_ended()
        self._serves_again()
        self._all_kept()

    def _served_soon(self) -> None:
        """S7: whoever is left serves the session, for a dead owner once its lease is over; with `hold` nobody has to.

        No world in which a container is stuck (it has a hard limit), a node paused, an answer of the store on its way
        or a target waiting for the source of a migration.
        """
        up = [node for node in self.nodes.values() if node.alive]
        slow = [kind for kind in self.faults.drawn if kind not in SOON_OVER]
        waits = any(node.seat is not None and node.seat.state in TARGET for node in up)
        if not up or slow or waits or self.rules.on_partition == "hold":
            return
        probe = Request(self, REQUESTS + len(NAMES))
        probe.call_id = probe.call_id or self.chance.randbytes(16)
        Try(probe, 1.0).send(self.chance.choice(up))
        self._run_until(lambda: probe.code is not None, TAKE * LEASE / min(RATES) + SOON)
        assert probe.code is not None, "a session was not served soon after the faults ended"

    def _run_until(self, holds: Callable[[], bool], seconds: float, look: float = LOOK) -> None:
        """So long at most; what does not come to hold is found by whoever looks next."""
        until = self.clock.now + seconds
        while self.clock.now < until and not holds():
            self.clock.run(self.clock.now + look)

    def _under_way(self) -> bool:
        nodes = self.nodes.values()
        seats = [node.seat.state for node in nodes if node.seat is not None]
        return (
            any(request.code is None for request in self._requests)
            or bool(self._open)
            or any(node.paused or not node.alive or node.calls for node in nodes)
            or any(state is not S.LOCAL for state in seats)
        )

    def _all_ended(self) -> None:
        waiting = [r.token.hex() for r in self._requests if r.code is None]
        assert not waiting, f"calls {waiting} never came to an end"
        assert not self._open, f"a move was never answered: {self._open}"
        for node in self.nodes.values():
            assert not node.calls, f"{node.name} still has calls in hand"
            resting = node.seat is None or node.seat.state is S.LOCAL
            assert resting, f"{node.name} does not come to rest in {node.seat and node.seat.state}"

    def _serves_again(self) -> None:
        """A call through each node is answered; one in a stuck container has to wait for its hard limit."""
        for number, node in enumerate(self.nodes.values()):
            request = Request(self, REQUESTS + number)
            request.call_id = request.call_id or self.chance.randbytes(16)
            Try(request, 1.0).send(node)
            self._run_until(lambda request=request: request.code is not None, STUCK)  # type: ignore[misc]
            codes = (0, 105, 206, 301, 404) if self.history.none else (0, 206, 301, 404)
            assert request.code in codes, f"{node.name} does not serve: {request.code}"

    def _all_kept(self) -> None:
        """The owner gives the session back: the store has all that was acknowledged."""
        self._run_until(lambda: self._given_back() and not self._never(), HEALED, LONG_LOOK)
        assert self._given_back(), "the session could not be externalized"
        assert not self._never(), f"alarms {[token.hex() for token in self._never()]} never had their effect"
        self.history.ended(self.store.state)

    def _never(self) -> list[bytes]:
        return missing(self.store.state, self.store.record)

    def _given_back(self) -> bool:
        """Whether it is remote-state; its owner is asked to see to it."""
        for node in self.nodes.values():
            if node.seat is not None and node.seat.state is S.LOCAL:
                node.move("externalize", "", lambda *_: None)
        return self.store.record is None or self.store.record.mode == "remote"

    def _written(self, old: Record | None, new: Record) -> None:
        self._handed_over(old, new)
        self.check()

    def _handed_over(self, old: Record | None, new: Record) -> None:
        """The record names the target of a migration: if that does not have the session any more, only the source has
        what the store has not, and if that does not keep a copy, nobody."""
        if old is None or (old.mode, new.mode) != ("local", "local") or old.owner_boot == new.owner_boot:
            return
        target = self.nodes[new.owner or ""]
        self.handed_over += target.boot != new.owner_boot or not self._memory(target, new, TARGET)

    def _kept(self, record: Record | None) -> dict[str, bytes]:
        """By life, the copies of those that have moved the session to its owner in `record`."""
        return {node.boot: self._memory(node, record, KEPT) for node in self.nodes.values()} if record is not None else {}

    @staticmethod
    def _memory(node: Node, record: Record, states: frozenset[S]) -> bytes:
        """What a living node has of the session that the record's last move was about, in one of these states."""
        seat = node.seat if node.alive else None
        if seat is None or seat.container is None or seat.state not in states or seat.move != record.move:
            return b""
        return seat.container.state or b""

    def left_without(self, container: Any) -> bytes:
        """What the store and all living memories that can still be served from have, but for this one."""
        record, states = self.store.record, [self.store.state]
        for node in self.nodes.values():
            seat = node.seat
            if not node.alive or record is None or seat is None or seat.container in (None, container):
                continue
            owns = record.owner_boot == node.boot and seat.state in HAS_ALL
            if owns or (seat.state in KEPT and seat.move == record.move and seat.epoch + (seat.state in LETTING_GO) == record.epoch):
                states.append(seat.container.state or b"")
        return b"".join(states)

    def check(self) -> None:
        """After every step of a session, write and look at a lease: who owns the session by its own account owns it by the
        record."""
        for node in self.nodes.values():
            seat = node.seat
            if seat is not None and seat.state in OWNING and must_own(node):
                record = self.store.record
                assert record is not None, "local without a record"
                has = (record.mode, record.owner, record.owner_boot, record.epoch)
                says = ("local", node.name, node.boot, seat.epoch)
                assert has == says, f"{node.name} says {says}, the record {has}"


def failure(seed: int, aim: Aim = ANY) -> tuple[str, Mesh]:
    """What did not hold in the world of `seed` ("" when all did), and the world."""
    mesh = Mesh(seed, aim)
    try:
        mesh.run()
    except AssertionError as error:
        return str(error).partition("\n")[0] or "an assertion in the core", mesh
    return "", mesh


def main(seed: int) -> None:
    """Print one world."""
    why, mesh = failure(seed)
    print(mesh.transcript())
    print(f"seed {seed}, {mesh.rules.durability}: {why or 'all held'}; faults {mesh.faults.drawn}")


if __name__ == "__main__":
    main(int(sys.argv[1]))
