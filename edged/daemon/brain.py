"""The mesh's own trigger: once a second this node looks at its sessions and moves some (DESIGN §7).

Decides when to look, what not to touch (what an operator moved lately, what is moving), and what becomes of a move that
failed. Which session should be where is `core.planning.policy`'s; how it gets there `moves`'. What others have is
known by gossip: hints, as everywhere; a wrong one costs a move that somebody undoes.
"""

import logging
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import trio

from edged.core.planning.figures import figures
from edged.core.planning.ledger import Ledger
from edged.core.planning.policy import plan
from edged.core.planning.view import (
    Function,
    Move,
    Peer,
    Plan,
    Session,
    Settings,
    View,
    figures_of,
    told,
)
from edged.core.records import Mode, SessionKey
from edged.core.routing import There
from edged_protocol import messages as m
from edged_protocol.errors import CallError

from .memory import MACHINE, Memory
from .status import body_of

if TYPE_CHECKING:
    from .node import Node

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""Between two plans: as often as nodes tell each other how they are."""

PART = 0.1
"""Of the time, at most, that plans take: with thousands of sessions a node looks less often."""

AT_ONCE = 64
"""Sessions looked at before other tasks have their turn."""

HOLD_SECONDS = 600.0
"""For which a session stays where an operator moved it: time to see what came of it."""

MOST_HELD = 1024
"""Sessions that operators moved lately; the first are let go."""

MOST_MOVES = 200
"""Moves remembered for whoever asks."""


@dataclass(frozen=True, slots=True)
class Made:
    """A move of this node's plan, and how it ended: "" well, else why not."""

    at: str
    move: Move
    failed: str


class Brain:
    """`run` for ever; `ledger` is fed by the relay, `grants` asked by it."""

    def __init__(self, node: "Node", ledger: Ledger) -> None:
        self._node = node
        self.ledger = ledger
        self._memory = Memory(node.workers)
        policy = node.config.policy
        self.settings = Settings(policy.guard, policy.wish_guard, policy.budget, policy.hysteresis)
        self.last: Plan | None = None
        self.made: deque[Made] = deque(maxlen=MOST_MOVES)
        self._room: dict[str, int] = {}
        self._held: OrderedDict[SessionKey, tuple[Mode, float]] = OrderedDict()
        self._moving: dict[SessionKey, Move] = {}
        self.freezes = 0
        self._figures: m.Map = {}

    @property
    def memory_used(self) -> int:
        """Bytes of all containers, as last measured."""
        return self._memory.used.total

    async def run(self) -> None:
        """Look, plan, act."""
        took = 0.0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._memory.run)
            while True:
                await trio.sleep(max(LOOK_SECONDS, took / PART))
                began = trio.current_time()
                try:
                    await self._round(nursery)
                except Exception:
                    log.exception("the policy failed")
                took = trio.current_time() - began

    async def _round(self, nursery: trio.Nursery) -> None:
        if self._node.relay.draining or self._node.workers.resting:
            self.last = None
            return
        now = trio.current_time()
        for number in self._others_freezes():
            self.follow_freeze(number)
        self.ledger.keep(frozenset(self._node.workers.served.functions))
        view = await self.view(now)
        found, self._figures = await trio.to_thread.run_sync(_thought, view, now)
        self.last, self._room = found, dict(found.room)
        for move in () if self.frozen else found.moves:
            if move.session not in self._moving and self._may(move, now) and self._has_room(move):
                self._moving[move.session] = move
                nursery.start_soon(self._make, move)

    def _may(self, move: Move, now: float) -> bool:
        """What a person asked for is not undone by the mesh; sessions follow their clients where their function says
        so (`following`), which is not decided here."""
        seat = self._node.relay.seats.get(move.session)
        follows = bool(move.to) and seat is not None and seat.local
        return not follows and self.held(move.session, now) is None

    def _has_room(self, move: Move) -> bool:
        """Where all containers are busy, the next look may find one that is not."""
        workers = self._node.workers
        function = workers.served.version_for(*move.session)
        return move.to != self._node.name or function is None or workers.own.has_room(function)

    async def _make(self, move: Move) -> None:
        """One move, like an operator's."""
        about = {**move.session._asdict(), "to": move.to, "cause": "network", "reason": move.reason}
        failed = ""
        try:
            await self._carried_out(move)
        except CallError as error:
            failed = str(error)
        except Exception as error:
            log.exception("a move of %s/%s failed", *move.session)
            failed = repr(error)[:500]
        finally:
            del self._moving[move.session]
        if failed:
            self.ledger.moved(move.session, trio.current_time())  # not again before its dwell time is over
        self._node.events.note("policy.failed" if failed else "policy.moved", **about, **({"why": failed} if failed else {}))
        self.made.append(Made(datetime.now(UTC).isoformat(timespec="seconds"), move, failed))

    async def _carried_out(self, move: Move) -> None:
        """Raises CallError."""
        node, key = self._node, move.session
        if not move.to:
            await node.moves.move(key, "externalize", "", dwells=True)
        elif move.to == node.name:
            await node.moves.move(key, "localize", "", dwells=True)
        else:
            reply = await node.peers.ask(move.to, "session.localize", self._asked(key))
            epoch = reply.result.get("epoch")
            if type(epoch) is int:
                node.router.located(key, move.to, epoch)
                node.seating.rests.seen(key, epoch, trio.current_time())

    def _asked(self, key: SessionKey) -> m.Map:
        """What a node that shall have a session may not know of it. Durations, since its clock is another one."""
        wish, (epoch, since) = self.ledger.wish(key), self._node.seating.rests.known(key)
        rested = {"epoch": epoch, "rested_ms": int((trio.current_time() - since) * 1000)} if epoch else {}
        return {**key._asdict(), "here": True, "cause": "network", **rested, **({"wish": wish} if wish else {})}

    # What is asked of it

    def grants(self, key: SessionKey, wanted: Mode) -> bool:
        """Whether a session may have what its application wants now; what it may not, it may have later."""
        now = trio.current_time()
        self.ledger.wished(key, wanted, now)
        version, seat = self._node.workers.served.version_for(*key), self._node.relay.seats.get(key)
        policy = version.spec.manifest.modes.policy if version else "pinned-remote"
        if policy != "auto" or wanted == "remote" or seat is None or seat.local:
            return not policy.startswith("pinned")
        if key.function not in self._room or seat.rests.left(key, seat.rules.min_dwell, now) > 0:
            return True  # no plan yet; or it does not move now, which the session knows itself
        self._room[key.function] -= 1
        return self._room[key.function] >= 0

    def hold(self, key: SessionKey, mode: Mode) -> None:
        """An operator moved it: it stays there for a while."""
        self._held[key] = mode, trio.current_time() + HOLD_SECONDS
        self._held.move_to_end(key)
        if len(self._held) > MOST_HELD:
            self._held.popitem(last=False)

    def held(self, key: SessionKey, now: float) -> tuple[Mode, float] | None:
        """The mode an operator wants, and for how many seconds yet."""
        mode, until = self._held.get(key, ("remote", 0.0))
        if until <= now:
            self._held.pop(key, None)
            return None
        return mode, until - now

    def keeps_local(self, key: SessionKey) -> bool:
        """Whether an operator has made it local-state lately."""
        held = self.held(key, trio.current_time())
        return held is not None and held[0] == "local"

    def freeze(self, frozen: bool) -> None:
        """Plan no moves any more, or again."""
        if self.frozen != frozen:
            self.freezes += 1

    def follow_freeze(self, number: int) -> None:
        """Another node was told to freeze or thaw: the highest number counts everywhere, an odd one is frozen."""
        self.freezes = max(self.freezes, number)

    @property
    def frozen(self) -> bool:
        """Whether nothing is moved."""
        return self.freezes % 2 == 1

    # What it knows

    async def view(self, now: float) -> View:
        """This node's sessions and containers, and what the others tell. A session that moves meanwhile is seen before
        or after: what follows is checked when it is done."""
        node = self._node
        rows: dict[str, list[Session]] = {name: [] for name in node.workers.served.functions}
        for number, key in enumerate(self._known(now)):
            if number % AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
            mode = self._mode(key, now)
            if mode is not None and key.function in rows:
                rows[key.function].append(self._session(key, mode, now))
        functions = tuple(self._function(name, tuple(row)) for name, row in rows.items() if name in node.workers.served.functions)
        settings = replace(self.settings, frozen=self.frozen)
        bytes_ = node.config.capacity.memory or MACHINE, self.memory_used
        return View(node.name, node.workers.slots.total, functions, tuple(self._peers()), *bytes_, settings)

    def _known(self, now: float) -> list[SessionKey]:
        """Sessions that may be this node's to look after."""
        local = [key for key, seat in self._node.relay.seats.items() if seat.local]
        return list(dict.fromkeys([*local, *self.ledger.remembered(now)]))

    def _mode(self, key: SessionKey, now: float) -> Mode | None:
        """Local here, or remote-state and called by devices of this node; None: not this node's, or nobody's for so long
        that it would leave its container at once."""
        seat = self._node.relay.seats.get(key)
        if seat is not None and seat.local:
            return "local"
        elsewhere = self.ledger.entrance(key) or isinstance(self._node.router.route(*key, 0), There)
        version = self._node.workers.served.version_for(*key)
        idle = version.spec.manifest.modes.idle if version is not None else 0.0
        return None if elsewhere or (idle and self.ledger.quiet(key, now) >= idle) else "remote"

    def _session(self, key: SessionKey, mode: Mode, now: float) -> Session:
        held = self.held(key, now)
        return self.ledger.session(key, mode, now, 0, self._node.seating.rests.since(key), held[0] if held else None)

    def _function(self, name: str, sessions: tuple[Session, ...]) -> Function:
        version = self._node.workers.served.functions[name]
        modes, pool, times = version.spec.manifest.modes, version.pool.statistics(), self.ledger.times(name)
        return Function(
            name,
            sessions,
            policy=modes.policy,
            allow=modes.allow,
            dwell=modes.min_dwell,
            containers=pool.containers,
            busy=pool.busy,
            queued=pool.queued,
            service_local=times.local,
            service_remote=times.remote,
            store=times.store,
            transition=times.transition,
            memory=self._memory.used.each.get(name, 0),
            sharing=version.places.limit,
        )

    def _bodies(self) -> Iterator[tuple[str, m.Map]]:
        """What the other nodes that live say of themselves."""
        for one in self._node.gossip.core.members():
            if one.here:
                yield one.record.node, body_of(one.record.body)

    def _peers(self) -> Iterator[Peer]:
        for name, body in self._bodies():
            slots, said = body.get("containers"), body.get("sessions_of")
            if body.get("state") == "alive" and isinstance(slots, list) and len(slots) == 2 and type(slots[1]) is int:
                rows = {f: figures_of(row) for f, row in said.items()} if isinstance(said, dict) else {}
                yield Peer(name, slots[1], {f: row for f, row in rows.items() if row is not None})

    def _others_freezes(self) -> Iterator[int]:
        for _, body in self._bodies():
            number = body.get("freezes")
            if type(number) is int and 0 <= number < 2**31:
                yield number

    def told(self) -> m.Map:
        """What the others are told in this node's record: only functions that have sessions here."""
        rows = dict(self._figures)
        return {**({"freezes": self.freezes} if self.freezes else {}), **({"sessions_of": rows} if rows else {})}


def _thought(view: View, now: float) -> tuple[Plan, m.Map]:
    """The plan, and the figures for the others; in a thread of its own, since it looks at every session."""
    return plan(view, now), {f.name: told(figures(f)) for f in view.functions if f.sessions}
