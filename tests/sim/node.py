"""One life of one node: the daemon's relay as a model, around the real router and the real session."""

from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Any

from edged.core import effects as fx
from edged.core.calls import Call
from edged.core.records import StoreFailed
from edged.core.rests import Rests
from edged.core.routing import Here, Refuse, Router, There
from edged.core.sessions import Seat

from . import between
from .alarms import AlarmClock
from .clients import Try
from .containers import HARD_LIMIT, Container, Ran
from .history import KEPT
from .lanes import Lane
from .leasing import RATES, Leasing, must_own
from .pool import Pool
from .sharing import Sharing
from .striking import strike

if TYPE_CHECKING:
    from .mesh import Mesh

AWAY = 0.25
"""Seconds of a pause after which what was sent meanwhile is refused: less than any client waits before it tries elsewhere."""

Step = Callable[[Seat], list[fx.Effect]]


class Node:
    """`perform` carries out effects as `edged.daemon.relay` does; a dead node does nothing."""

    def __init__(self, mesh: "Mesh", name: str, boot: str) -> None:
        self.mesh = mesh
        self.name = name
        self.boot = boot
        self.alive = True
        self.paused = False
        self.was_away = False
        self._paused_at = 0.0
        self.cut_until = 0.0
        self.leasing = Leasing(self, mesh.chance.random() * 1e5, mesh.chance.choice(RATES))
        self.seat: Seat | None = None
        self.rests = Rests()
        self.calls: dict[int, Call] = {}
        self.router = Router(name)
        self.router.serves([mesh.key.function], [mesh.key.function])
        for other in mesh.names:
            if other != name:
                self.router.peer(other, [mesh.key.function])
        self._serials = count()
        self._lanes: dict[str, Lane] = {}
        self.pool = Pool(self)
        self._sharing: dict[Container, Sharing] = {}
        self.alarms = AlarmClock(self)
        self._backlog: list[Callable[[], None]] = []

    # Being away

    def later(self, action: Callable[..., None]) -> Callable[..., None]:
        """`action` as it is done by this life: not after its end, and after a pause when that is over."""

        def act(*words: Any) -> None:
            if self.paused:
                self._backlog.append(lambda: act(*words))
            elif self.alive:
                action(*words)

        return act

    def pause(self) -> None:
        """SIGSTOP, a suspended machine, a virtual one that was not given a processor."""
        if self.alive and not self.paused:
            self.paused, self._paused_at = True, self.mesh.clock.now
            seconds = self.mesh.chance.random() * self.mesh.chance.choice((0.5, 2.0, 6.0))
            self.mesh.say("%s is paused for %.3f s", self.name, seconds)
            self.mesh.clock.after(seconds, self._resume)

    def _resume(self) -> None:
        """All that came meanwhile, in its order; what the loop's own tasks had to do at some place among it."""
        self.paused = False
        self.was_away = self.mesh.clock.now - self._paused_at > AWAY
        backlog, self._backlog = self._backlog, []
        self.mesh.say("%s goes on", self.name)
        for action in backlog:
            action()

    # In

    def invoked(self, attempt: Try) -> None:
        """A client's call."""
        if not self.alive:
            attempt.broken()
            return
        if self.paused:
            self._backlog.append(lambda: self.stale(lambda: self.invoked(attempt), attempt))
            return
        request = attempt.request
        meta = {"attempt": attempt.number, "prefer": request.prefer}
        self.take(attempt, request.method, request.call_id, attempt.timeout, request.token, meta)

    def stale(self, take: Callable[[], None], origin: Any) -> None:
        """A call that was sent while the node was away: it may have been repeated elsewhere, run, and been forgotten."""
        if not self.alive or not self.was_away:
            take()
        elif isinstance(origin, Try):
            origin.answered(103, "the node was away", None)
        else:
            origin(fx.Answer(Call(None, 0, *self.mesh.key, "", None, 0.0, 0.0, b"", None), 103, b"", "the node was away", None))

    def take(
        self, origin: Any, method: str, call_id: bytes | None, timeout: float, body: bytes, meta: dict[str, Any]
    ) -> None:
        """INVOKE, from a client or a node that finds this one at work."""
        now = self.mesh.clock.now
        serial, key = next(self._serials), self.mesh.key
        call = Call(origin, serial, *key, method, call_id, now, now + timeout, body, meta)
        self.calls[serial] = call
        self.mesh.clock.after(timeout, self.later(self._expire), call)
        self.route(call)

    def route(self, call: Call) -> None:
        """Here, or to where the session is said to be."""
        where = self.router.route(*self.mesh.key, call.hops)
        if isinstance(where, Here):
            now = self.mesh.clock.now
            self.step("arrived", lambda seat: seat.arrived(call, now), self.there())
        elif isinstance(where, There):
            between.forward(self, call, where.node)
        else:
            assert isinstance(where, Refuse)
            self.answer(fx.Answer(call, where.code, b"", where.reason, None))

    def there(self) -> Seat:
        """The session's actor, made when it is not there."""
        if self.seat is None:
            self.seat = self.mesh.new_seat(self)
        return self.seat

    def move(self, move: str, target: str, done: Callable[..., None]) -> None:
        """An operator's wish."""
        move_id = self.mesh.chance.randbytes(16)
        now, ended = self.mesh.clock.now, self.mesh.asker(self, done)
        self.step("want", lambda s: s.want(move, ended, target, move_id, now), self.there())

    # Steps

    def step(self, event: str, step: Step, seat: Seat) -> None:
        """One step of the session, unless it is another one by now."""
        if self.paused:
            self._backlog.append(lambda: self.step(event, step, seat))
            return
        if not self.alive or self.seat is not seat:
            return
        self.leasing.look()
        self.mesh.seen[seat.state, event] += 1
        before, container = seat.state, seat.container
        effects = step(seat)
        self.mesh.say("%s %s: %s -> %s %s", self.name, event, before, seat.state, effects)
        for effect in effects:
            if self.alive:
                self._perform(seat, effect)
        if before in KEPT and seat.container is None and container is not None and container.state:
            self.mesh.history.let_go(self.mesh.left_without(container), container.state)
        if seat.quiet and self.seat is seat:
            self.seat = None
        self.mesh.check()

    def _perform(self, seat: Seat, effect: fx.Effect) -> None:
        if type(effect) is not fx.Noted:
            strike(self, seat)
        PERFORM[type(effect)](self, seat, effect)

    def environment(self, event: str) -> None:
        """The lease ended, or is good again."""
        self.mesh.say("%s: lease %s", self.name, event)
        if self.seat is not None:
            now = self.mesh.clock.now
            self.step(event, lambda seat: getattr(seat, f"on_{event}")(now), self.seat)

    # Calls

    def _answer(self, seat: Seat, answer: fx.Answer) -> None:
        owns = seat.local or seat.closing or seat.over  # the answer before the end leaves in the step that writes it
        memory = seat.container.state if owns and seat.container is not None else b""
        call, record = answer.call, self.mesh.store.record
        shared = call.method == "get" or (call.alarm is not None and call.alarm.act != "fire")
        self.mesh.history.answered(call.body, shared, answer, record, memory or b"")
        self.answer(answer)

    def answer(self, answer: fx.Answer) -> None:
        """Tell whoever waits for the call, and what is attached to it."""
        self.calls.pop(answer.call.serial, None)
        self._tell_origin(answer)
        for call in answer.call.attached:
            self.calls.pop(call.serial, None)
            self._tell_origin(answer._replace(call=call))

    def _tell_origin(self, answer: fx.Answer) -> None:
        call = answer.call
        if call.answered:
            return
        call.answered = True
        origin = call.origin
        if isinstance(origin, Try):
            delay = self.mesh.chance.random() * 0.003
            self.mesh.clock.after(delay, lambda: origin.answered(answer.code, answer.message, answer.meta))
        else:
            origin(answer)

    def _expire(self, call: Call) -> None:
        """The sweep: an answer at the deadline, and the pool lets go of what it did not start."""
        if not self.alive or call.answered:
            return
        self.mesh.swept += 1
        ran = {"ran": False} if call.container is None and call.started == 0.0 else None
        self._tell_origin(fx.Answer(call, 401, b"", "the deadline has passed", ran))
        if call.container is None:
            self.calls.pop(call.serial, None)
        if self.pool.holds(call):
            self.lost(call, 401, "the deadline has passed")

    def _run_pool(self, seat: Seat, effect: fx.RunPool) -> None:
        self.pool.run(seat, effect.call)

    def lost(self, call: Call, code: int, message: str) -> None:
        """The pool does not run it, or nobody knows what became of it there."""
        if self.seat is not None:
            now = self.mesh.clock.now
            self.step("lost", lambda seat: seat.on_lost(call, code, message, now), self.seat)

    def _run_own(self, seat: Seat, effect: fx.RunOwn) -> None:
        call, container = effect.call, effect.container
        call.container = container

        def allowed() -> None:
            record = self.mesh.store.record
            if must_own(self):
                assert record is not None and record.owner_boot == self.boot, "two owners run calls"
                assert record.epoch == seat.epoch, "a superseded owner runs calls"

        sharing = self._sharing.get(container)
        if sharing is None:
            container.call(call, allowed, lambda ran: self.ran(seat, call, ran))
            self.mesh.clock.after(HARD_LIMIT, self.later(self._overran), call, container)
        else:

            def ended(ran: Ran) -> None:
                sharing.finished(call, lambda: self.ran(seat, call, ran))

            sharing.run(call, lambda: container.call(call, allowed, self.later(ended)))

    def ran(self, seat: Seat, call: Call, ran: Ran) -> None:
        """A container answered the call."""
        now = self.mesh.clock.now
        blob = ran.state if call.container == "pool" else None
        step = lambda s: s.on_answer(call, ran.code, ran.body, ran.message, ran.meta, blob, now)  # noqa: E731
        self.step("answer", step, seat)

    def _overran(self, call: Call, container: Container) -> None:
        """The hard limit, for the call that is at the front."""
        if call.serial not in self.calls or call.container is not container:
            return
        ends = call.started + HARD_LIMIT if call.started else self.mesh.clock.now + HARD_LIMIT
        if ends <= self.mesh.clock.now:
            self.container_died(container)
        else:
            again = ends - self.mesh.clock.now
            self.mesh.clock.after(again, self.later(self._overran), call, container)

    def container_died(self, container: Container) -> None:
        """A session's own container is gone, and with it what only it held."""
        if not self.alive or not container.alive:
            return
        container.alive = False
        self.later(self._misses)(container)

    def _misses(self, container: Container) -> None:
        """What it answered before was taken before."""
        seat = self.seat
        if seat is not None and seat.container is container:
            self.void(container)
            self.step("container_lost", lambda s: s.on_container_lost(self.mesh.clock.now), seat)

    def void(self, container: Container) -> None:
        """What only it had is gone: if it was the owner's, or a copy that was kept, what it promised is void."""
        record, history = self.mesh.store.record, self.mesh.history
        if self.seat is not None:
            history.memory_lost(self.seat.epoch)
        owned = record is not None and (record.mode, record.owner_boot) == ("local", self.boot)
        if owned or (self.seat is not None and self.seat.state in KEPT):
            self.mesh.say("%s: memory is lost", self.name)
            history.lost(self.mesh.left_without(container), container.state or b"")

    # Between nodes

    def lane(self, other: str) -> Lane:
        """The connection to `other`: frames stay in order."""
        if other not in self._lanes:
            self._lanes[other] = Lane(self.mesh.clock, self.mesh.chance, 0.005)
        return self._lanes[other]

    def lost_sight_of(self, name: str) -> None:
        """The connection to another node ended."""
        if self.seat is not None:
            self.step("node_lost", lambda s: s.node_lost(name, self.mesh.clock.now), self.seat)

    @property
    def watchers(self) -> list[tuple["Node", Call]]:
        """Whoever forwarded a call here learns of this node's end."""
        return self.mesh.watchers.setdefault(self.boot, [])

    def _forward(self, seat: Seat, effect: fx.Forward) -> None:
        call = effect.call
        if call.answered:
            self.calls.pop(call.serial, None)
        elif call.hops >= 2:
            self.answer(fx.Answer(call, 103, b"", "forwarded twice already", None))
        else:
            between.forward(self, call, effect.node)

    def _tell(self, seat: Seat, effect: fx.Tell) -> None:
        between.tell(self, seat, effect)

    # Containers, store, time

    def _start(self, seat: Seat, effect: fx.Start) -> None:
        faults, chance = self.mesh.faults, self.mesh.chance
        token, took = effect.token, 0.005 + chance.random() * 0.1
        if faults.hit("start_failed"):
            if chance.random() < 0.5:
                self._started(seat, token, None)  # all slots are taken: known at once
            else:
                self.mesh.clock.after(took, lambda: self._started(seat, token, None))
            return
        if faults.hit("start_slow"):
            took = 12.0
        container = Container(f"{self.boot}/{token}", self.mesh.clock, chance, faults)
        if self.mesh.shared is not None:
            over = Ran(401, b"", "the deadline has passed", {"ran": False}, None)
            self._sharing[container] = Sharing(self, container, self.mesh.shared, lambda call: self.ran(seat, call, over))
        self.mesh.clock.after(took, lambda: self._started(seat, token, container))

    def _started(self, seat: Seat, token: int, container: Container | None) -> None:
        now, reason = self.mesh.clock.now, "" if container else "no slot"
        deltas = self.mesh.deltas
        self.step("container", lambda s: s.on_container(token, container, reason, now, deltas), seat)

    def _control(self, seat: Seat, effect: fx.Control) -> None:
        def told(said: fx.Said) -> None:
            now = self.mesh.clock.now
            self.step("control", lambda s: s.on_control(effect.token, said, now), seat)

        effect.container.verb(effect.verb, effect.params or {}, effect.blob, told)

    def _release(self, seat: Seat, effect: fx.Release) -> None:
        effect.container.alive = False

    def _timer(self, seat: Seat, effect: fx.Timer) -> None:
        def due() -> None:
            self.step("timer", lambda s: s.on_timer(effect.token, self.mesh.clock.now), seat)

        self.mesh.clock.after(effect.seconds, due)

    def _ask(self, seat: Seat, effect: fx.Ask) -> None:
        def done(outcome: Any) -> None:
            failed = f"store_{outcome.applied}" if isinstance(outcome, StoreFailed) else "store"
            now = self.mesh.clock.now
            self.step(failed, lambda s: s.on_store(effect.token, outcome, now), seat)

        self.mesh.store.submit(effect.op, done, self)

    def _located(self, seat: Seat, effect: fx.Located) -> None:
        self.router.located(self.mesh.key, effect.node, effect.epoch)

    def _due(self, seat: Seat, effect: fx.Due) -> None:
        self.alarms.due(effect.at)

    def _aside(self, seat: Seat, effect: fx.Aside) -> None:
        self.mesh.history.set_aside(effect)

    def _noted(self, seat: Seat, effect: fx.Noted) -> None:
        """Nobody reads it here, but for what cannot be set aside."""
        if "its copy" in str(effect.about.get("reason", "")):
            self.mesh.history.memory_lost(seat.epoch)

    def _done(self, seat: Seat, effect: fx.Done) -> None:
        if effect.asker is not None:
            effect.asker(effect.code, effect.message, effect.result)


PERFORM = fx.carried_out_by(Node)
