"""One node in virtual time: the daemon's relay as a model, around the real router, balancer, pools and sessions.

Stands for `edged.daemon.relay` and `moves`, `spread` beside it for the daemon's. What is real: every decision of
`edged.core`. What is modelled: connections (a fixed delay, in order), containers, store, gossip, and that a dead node's
connections break at once.
"""

from collections.abc import Callable
from itertools import count
from random import Random
from typing import TYPE_CHECKING, Any

from edged.core import effects as fx
from edged.core.balancing import Balancer, Load
from edged.core.calls import Call
from edged.core.records import SessionKey
from edged.core.rerouting import NO_ROOM, WRONG_PLACE, routed_again
from edged.core.rests import Rests
from edged.core.routing import Anywhere, Here, Router, There
from edged.core.sessions import Seat
from edged_protocol.limits import MAX_HOPS

from .agent import Agent
from .containers import Container, Containers
from .leasing import Leasing
from .moves import ARRIVING, TAKE
from .scenario import Function
from .spread import Spread
from .visits import Hop, Visit

if TYPE_CHECKING:
    from .mesh import Mesh

ALONE = b"alone"
"""Stands for the state of a call that no session's actor knows of."""


class Node:
    """One life of one node; a dead one does nothing."""

    def __init__(self, mesh: "Mesh", name: str, boot: str, slots: int, chance: Random) -> None:
        self.mesh = mesh
        self.name = name
        self.boot = boot
        self.alive = True
        self.clock = mesh.clock
        self.functions = mesh.scenario.functions
        self.containers = Containers(mesh.clock, slots, self.functions, self._ran, self._lost)
        self.seats: dict[SessionKey, Seat] = {}
        self.rests = Rests()
        self.calls: dict[int, Call] = {}
        self.router = Router(name)
        self.router.serves(self.functions, self.functions)
        self.balancer = Balancer(name, chance, self.load)
        for function in self.functions.values():
            self.balancer.policy(function.name, function.balance)
        self._rules = mesh.rules
        self._serials = count()
        self.spread = Spread(self)
        self._moves = count(1)
        self.agent = Agent(self)
        self.leasing = Leasing(self)
        self.clock.after(0.0, self.leasing.turn)

    def load(self, function: str) -> Load:
        """As it tells the others."""
        return Load(*self.containers.figures(function))

    # In

    def visited(self, visit: Visit) -> None:
        """A client's call."""
        client = visit.client
        if not self.alive:
            self.mesh.refused(visit, 403)
            return
        meta = {"prefer": visit.wished} if visit.wished is not None and self.mesh.choice.wishes else None
        self.take(visit, client.function, client.session, self.clock.now + client.function.deadline, visit.work, meta)

    def take(
        self, origin: Any, function: Function, session: str, deadline: float, body: bytes, meta: dict[str, Any] | None
    ) -> None:
        """INVOKE, from a client or a node."""
        call = Call(origin, next(self._serials), function.name, session, "call", None, self.clock.now, deadline, body, meta)
        self.calls[call.serial] = call
        self.agent.called(call, origin.node.name if isinstance(origin, Hop) else "")
        self.route(call)

    def route(self, call: Call) -> None:
        """Here, or to where the session is said to be."""
        where = self.router.route(call.function, call.session, call.hops)
        if isinstance(where, Here):
            seat = self.seats.get(SessionKey(call.function, call.session or ""))
            node = self.spread.elsewhere(call, seat)
            if node is None:
                self._here(call, seat)
            else:
                self.forward(call, node)
        elif isinstance(where, There):
            self.forward(call, where.node)
        elif isinstance(where, Anywhere):
            node = self.spread.another(call)
            if node is None:
                self.answer(fx.Answer(call, 101, b"", "every node is overloaded", None))
            else:
                self.forward(call, node)
        else:
            self.answer(fx.Answer(call, where.code, b"", where.reason, None))

    def _here(self, call: Call, seat: Seat | None) -> None:
        key = SessionKey(call.function, call.session or "")
        if self.functions[call.function].overlapping and (seat is None or seat.quiet):
            self._overlapping(call, key)
            return
        seat = self.seat(key)
        self.perform(seat, seat.arrived(call, self.clock.now))

    def _overlapping(self, call: Call, key: SessionKey) -> None:
        """The paper's model: a remote-state call runs as if it were the session's only one."""
        epoch, owner = self.mesh.store.standing(key)
        self.rests.seen(key, epoch, self.clock.now)
        if owner is not None and owner != self.name:
            self.forward(call, owner)
            return
        call.state, call.mode, call.entry = ALONE, "remote", epoch
        if not self.containers.submit(call):
            self.answer(fx.Answer(call, 101, b"", "the function's queue is full", None))
        elif call.prefer == "local":
            self.want(key, "localize")

    # Between nodes

    def forward(self, call: Call, name: str) -> None:
        """Let another node answer the call."""
        other = self.mesh.nodes[name]
        if not other.alive:
            self.router.forget(SessionKey(call.function, call.session or ""))
            self.answer(fx.Answer(call, 105, b"", f"{name} is not reachable", None))
            return
        call.started = call.started or self.clock.now
        call.away = True
        meta = {"hops": call.hops + 1, "prefer": call.prefer}
        function = self.functions[call.function]
        hop = Hop(self, call)
        self.mesh.watch(other, hop)
        self.clock.after(
            self.mesh.scenario.link, self._reach, other, hop, function, call.session, call.deadline, call.body, meta
        )

    def _reach(self, other: "Node", *words: Any) -> None:
        if other.alive:
            other.take(*words)

    def hop_answered(self, hop: Hop, answer: fx.Answer, load: Load | None) -> None:
        """Another node answered, or broke its connection."""
        call = hop.call
        if not self.alive or call.serial not in self.calls:
            return
        call.away = False
        node, meta, now = call.sent_to, answer.meta or {}, self.clock.now
        if node is not None and load is not None:
            self.balancer.heard(call.function, node, load, now)
        self.spread.ended(call, now, meta if answer.code == 0 else None)
        if answer.code in NO_ROOM and node is not None and self.spread.asks_another(call, node, now):
            return
        key = SessionKey(call.function, call.session or "")
        if type(meta.get("epoch")) is int:
            owner = meta.get("node") if meta.get("mode") == "local" else None
            self.router.located(key, owner, meta["epoch"])
            self.rests.seen(key, meta["epoch"], self.clock.now)
        if answer.code in WRONG_PLACE:
            self.router.forget(key)
            if routed_again(call, answer.code):
                self.route(call)
                return
        self.answer(answer._replace(call=call))

    # Sessions

    def seat(self, key: SessionKey) -> Seat:
        """The session's actor on this node, made when it is not there."""
        seat = self.seats.get(key)
        if seat is None:
            rules, leases = self._rules[key.function], self.leasing.core
            seat = self.seats[key] = Seat(key, self.name, self.boot, rules, leases, lambda: self.router.nodes_for(key.function), self.rests)
        return seat

    def want(self, key: SessionKey, move: str, target: str = "", asker: Callable[[int, str], None] | None = None) -> None:
        """A wish of the network's, which has to wait while the session rests."""
        move_id = next(self._moves).to_bytes(4, "big") + self.boot.encode().ljust(12, b"\0")
        seat = self.seat(key)
        to = f"{target}/{self.mesh.nodes[target].boot}" if target else ""
        self.perform(seat, seat.want(move, asker, to, move_id, self.clock.now, dwells=True))

    def perform(self, seat: Seat, effects: list[fx.Effect]) -> None:
        """Everything a step of a session leads to."""
        for effect in effects:
            if self.alive:
                PERFORM[type(effect)](self, seat, effect)
        if seat.quiet and self.seats.get(seat.key) is seat:
            del self.seats[seat.key]

    def environment(self, event: str) -> None:
        """The node's lease ended, or is good again."""
        for seat in list(self.seats.values()):
            step = seat.on_renewed if event == "renewed" else seat.on_lapsed
            self.perform(seat, step(self.clock.now))

    def _current(self, seat: Seat) -> bool:
        return self.alive and self.seats.get(seat.key) is seat

    def answer(self, answer: fx.Answer) -> None:
        """Tell whoever waits for the call."""
        call = answer.call
        self.calls.pop(call.serial, None)
        if call.answered:
            return
        call.answered = True
        if call.sent_to is not None:
            self.spread.ended(call, self.clock.now, answer.meta if answer.code == 0 else None)
        origin = call.origin
        if isinstance(origin, Hop):
            self.mesh.unwatch(self, origin)
            self.clock.after(self.mesh.scenario.link, origin.node.hop_answered, origin, answer, self.load(call.function))
        else:
            self.mesh.answered(origin, answer)

    def sweep(self) -> None:
        """An answer at the deadline, whatever becomes of the call."""
        now = self.clock.now
        for call in [call for call in self.calls.values() if call.deadline <= now and not call.answered]:
            call.answered = True
            self.calls.pop(call.serial, None)
            self.spread.ended(call, now, None)
            if isinstance(call.origin, Visit):
                self.mesh.refused(call.origin, 401)

    def _answer(self, seat: Seat, effect: fx.Answer) -> None:
        self.answer(effect)

    def _forward(self, seat: Seat, effect: fx.Forward) -> None:
        call = effect.call
        if call.answered:
            self.calls.pop(call.serial, None)
        elif call.hops >= MAX_HOPS:
            self.answer(fx.Answer(call, 103, b"", "forwarded twice already", None))
        else:
            self.forward(call, effect.node)

    def _run_pool(self, seat: Seat, effect: fx.RunPool) -> None:
        if not self.containers.submit(effect.call):
            self._lost(effect.call, 101, "the function's queue is full")

    def _run_own(self, seat: Seat, effect: fx.RunOwn) -> None:
        self.containers.run_own(effect.container, effect.call)

    def _ran(self, call: Call, container: Container, seconds: float) -> None:
        """A container answered."""
        if not self.alive:
            return
        self.agent.ledger.ran(call.function, "remote" if container.seat is None else "local", seconds)
        if call.state is ALONE:
            self.mesh.store.count(2 * self.functions[call.function].state)
            meta = {"mode": "remote", "node": self.name, "epoch": call.entry, "run_us": int(seconds * 1e6)}
            meta["queue_us"] = int((call.started - call.arrived) * 1e6)
            self.answer(fx.Answer(call, 0, b"", "", meta))
            return
        seat = self.seats.get(SessionKey(call.function, call.session or ""))
        if seat is not None:
            blob = self.mesh.states[call.function] if container.seat is None else None
            meta = {"run_us": int(seconds * 1e6)}
            self.perform(seat, seat.on_answer(call, 0, b"", "", meta, blob, self.clock.now))

    def _lost(self, call: Call, code: int, message: str) -> None:
        seat = self.seats.get(SessionKey(call.function, call.session or ""))
        if seat is not None:
            self.perform(seat, seat.on_lost(call, code, message, self.clock.now))

    def _start(self, seat: Seat, effect: fx.Start) -> None:
        deltas = self.functions[seat.key.function].change > 0

        def started(container: Container | None, reason: str) -> None:
            if self._current(seat):
                self.perform(seat, seat.on_container(effect.token, container, reason, self.clock.now, deltas))
            elif container is not None:
                self.containers.end(container)

        if self.agent.grants(seat):
            self.containers.start_own(seat.key.function, seat, started)
        else:
            self.clock.after(0.0, started, None, "the pools need what is left")

    def _control(self, seat: Seat, effect: fx.Control) -> None:
        def told(said: fx.Said) -> None:
            if self._current(seat):
                self.perform(seat, seat.on_control(effect.token, said, self.clock.now))

        self.containers.control(effect.container, effect, told)

    def _release(self, seat: Seat, effect: fx.Release) -> None:
        self.containers.end(effect.container)

    def _ask(self, seat: Seat, effect: fx.Ask) -> None:
        note = self.agent.notes.get(seat.state)
        asked = self.clock.now

        def done(outcome: Any) -> None:
            if note is not None:
                note(seat.key.function, self.clock.now - asked)
            if self._current(seat):
                self.perform(seat, seat.on_store(effect.token, outcome, self.clock.now))

        self.mesh.store.submit(effect.op, done)

    def _timer(self, seat: Seat, effect: fx.Timer) -> None:
        def due() -> None:
            if self._current(seat):
                self.perform(seat, seat.on_timer(effect.token, self.clock.now))

        self.clock.after(effect.seconds, due)

    def _located(self, seat: Seat, effect: fx.Located) -> None:
        self.router.located(seat.key, effect.node, effect.epoch)

    def _due(self, seat: Seat, effect: fx.Due) -> None:
        """No session here has alarms."""

    def _aside(self, seat: Seat, effect: fx.Aside) -> None:
        """A copy that was superseded: nobody looks at it here."""

    def _noted(self, seat: Seat, effect: fx.Noted) -> None:
        self.mesh.noted(seat, effect)

    def _done(self, seat: Seat, effect: fx.Done) -> None:
        if effect.asker is not None:
            effect.asker(effect.code, effect.message)

    # Moves between nodes

    def _tell(self, seat: Seat, effect: fx.Tell) -> None:
        other = self.mesh.nodes[effect.node.partition("/")[0]]
        link = self.mesh.scenario.link

        def back(code: int, message: str) -> None:
            self.clock.after(link, told, code, message)

        def told(code: int, message: str) -> None:
            if effect.token and self._current(seat):
                self.perform(seat, seat.on_peer(effect.token, code, message, self.clock.now))

        if other.alive:
            self.clock.after(link + self.mesh.seconds(effect.blob), other.told, seat.key, effect, back)
        else:
            self.clock.after(0.0, told, 105, "it is not reachable")

    def told(self, key: SessionKey, effect: fx.Tell, back: Callable[[int, str], None]) -> None:
        """Another node's step of a move."""
        if not self.alive:
            return
        now, params = self.clock.now, effect.params
        seat = self.seat(key) if effect.verb in ARRIVING else self.seats.get(key)
        if seat is None:
            back(103, "nothing of it is here")
        else:
            self.perform(seat, TAKE[effect.verb](seat, back, params, effect.blob or b"", now))

    def die(self) -> None:
        """SIGKILL."""
        self.alive = False
        self.containers.stop()
        for call in self.calls.values():
            if isinstance(call.origin, Visit) and not call.answered:
                self.mesh.refused(call.origin, 403)


PERFORM = fx.carried_out_by(Node)
