"""The sessions that have an actor on this node, and what becomes of their wishes (DESIGN §5).

Decides how each effect of a `Seat` is carried out: by the relay, the store, the containers or other nodes; `PERFORM`
has a row for each. Refuses to know what sessions decide, and how calls find their way.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from edged.core import effects as fx
from edged.core.leases import Leases
from edged.core.records import SessionKey
from edged.core.rests import Rests
from edged.core.sessions import Rules, Seat
from edged.core.takes import FIRST_FORM
from edged_protocol import messages as m
from edged_protocol.errors import Code

from .deployed import Deployed, Worker
from .hub import boottime
from .stores import Store
from .timers import Timers
from .workers import WAITS_FOR_ITSELF

if TYPE_CHECKING:
    from .relay import Relay

Step = Callable[[Seat], list[fx.Effect]]
Tell = Callable[[fx.Tell, Callable[[int, str], None]], None]
Done = Callable[[int, str, dict[str, Any]], None]


class Seating:
    """`perform` takes a step of a session and carries out what it leads to."""

    tell: Tell
    note: Callable[..., None]
    alarm_due: Callable[[SessionKey, float | None], None]
    look_at_lease: Callable[[], None]
    set_aside: Callable[[SessionKey, fx.Aside], None]

    def __init__(
        self, node: str, leases: Leases, relay: "Relay", store: Store, timers: Timers, serials: Iterator[int]
    ) -> None:
        self._node = node
        self._leases = leases
        self._relay = relay
        self._store = store
        self._timers = timers
        self._serials = serials
        self._seats = relay.seats
        self.rests = Rests()
        self.reached: Callable[[str], None] | None = None

    def seat(self, key: SessionKey) -> Seat:
        """The session's actor on this node, made when it is not there."""
        seat = self._seats.get(key)
        if seat is None:
            version = self._relay.workers.served.version_for(*key)
            assert version is not None
            candidates = partial(self._relay.router.nodes_for, key.function)
            seat = Seat(key, self._node, self._leases.boot, rules_of(version), self._leases, candidates, self.rests)
            self._seats[key] = seat
        return seat

    def node_lost(self, name: str) -> None:
        """There is no connection to that node any more: sessions on their way from there come no further."""
        now = trio.current_time()
        for seat in list(self._seats.values()):
            self.perform(seat, lambda s: s.node_lost(name, now))

    def perform(self, seat: Seat, step: Step) -> None:
        """One step of a session, and everything it leads to: no answer leaves but under a lease looked at just now."""
        if boottime() >= self._leases.check_at:
            self.look_at_lease()
        before = seat.state
        effects = step(seat)
        at = None if self.reached is None or seat.state is before else seat.state.value
        if at is not None and self.reached is not None:
            self.reached(at)
        for effect in effects:
            PERFORM[type(effect)](self, seat, effect)
        if at is not None and self.reached is not None:
            self._relay.settle()
            self.reached(f"{at}+")
        if seat.quiet and self._seats.get(seat.key) is seat:
            del self._seats[seat.key]

    def later(self, seat: Seat, step: Step) -> None:
        """A step that comes from outside a connection's wakeup."""
        if self._seats.get(seat.key) is seat:
            self.perform(seat, step)
            self._relay.settle()

    def container_lost(self, seat: Seat) -> None:
        """The container of a session died."""
        if self._seats.get(seat.key) is seat:
            self.perform(seat, lambda s: s.on_container_lost(trio.current_time()))

    # What effects come to

    def _answer(self, _: Seat, effect: fx.Answer) -> None:
        self._relay.answer(effect)

    def _run_own(self, _: Seat, effect: fx.RunOwn) -> None:
        self._relay.workers.own.run(effect.container, effect.call, trio.current_time())

    def _run_pool(self, _: Seat, effect: fx.RunPool) -> None:
        unfit = self._relay.workers.unfit(effect.call)
        if unfit:
            self._relay.call_lost(effect.call, Code.WRONG_SCHEMA, unfit)
            return
        reason = self._relay.workers.submit(effect.call)
        if reason is not None:
            self._relay.call_lost(effect.call, 201 if reason == WAITS_FOR_ITSELF else 101, reason)

    def _ask(self, seat: Seat, effect: fx.Ask) -> None:
        token = effect.token
        self._store.submit(
            effect.op,
            self._relay.measuring.asked(
                seat, lambda outcome: self.later(seat, lambda s: s.on_store(token, outcome, trio.current_time()))
            ),
        )

    def _forward(self, _: Seat, effect: fx.Forward) -> None:
        call = effect.call
        if call.answered:
            self._relay.done_with(call)
        elif call.hops >= 2:
            meta = {"retry_after_ms": 20, "home": effect.node}
            self._relay.answer(fx.Answer(call, 103, b"", "forwarded twice already", meta))
        else:
            self._relay.forward(call, effect.node, trio.current_time())

    def _located(self, seat: Seat, effect: fx.Located) -> None:
        self._relay.router.located(seat.key, effect.node, effect.epoch)

    def _done(self, _: Seat, effect: fx.Done) -> None:
        if effect.asker is not None:
            effect.asker(effect.code, effect.message, effect.result)

    def _due(self, seat: Seat, effect: fx.Due) -> None:
        self.alarm_due(seat.key, effect.at)

    def _aside(self, seat: Seat, effect: fx.Aside) -> None:
        self.set_aside(seat.key, effect)

    def _noted(self, seat: Seat, effect: fx.Noted) -> None:
        self.note(effect.event, function=seat.key.function, session=seat.key.session, **effect.about)

    def _start(self, seat: Seat, effect: fx.Start) -> None:
        token = effect.token

        def started(worker: Worker | None, reason: str) -> None:
            if worker is not None and worker.seats is not None:
                worker.seats.append(seat)
            if self._seats.get(seat.key) is not seat:
                if worker is not None:
                    self._relay.workers.own.leave(worker, seat)
                return
            now = trio.current_time()
            deltas = worker is not None and worker.deltas
            takes = FIRST_FORM if worker is None else worker.function.takes
            self.later(seat, lambda s: s.on_container(token, worker, reason, now, deltas, takes))

        self._relay.workers.start_own(seat.key, started)

    def _control(self, seat: Seat, effect: fx.Control) -> None:
        token = effect.token

        def done(message: m.Reply | m.Error) -> None:
            said = _said(message)
            self.later(seat, lambda s: s.on_control(token, said, trio.current_time()))

        worker: Worker = effect.container
        params = {"session": seat.key.session, "epoch": seat.epoch, "version": seat.version, **(effect.params or {})}
        worker.request(next(self._serials), effect.verb, params, effect.blob, done)
        self._relay.touch(worker.link)

    def _release(self, seat: Seat, effect: fx.Release) -> None:
        self._relay.workers.own.leave(effect.container, seat)

    def _timer(self, seat: Seat, effect: fx.Timer) -> None:
        token = effect.token
        self._timers.call_at(
            trio.current_time() + effect.seconds,
            lambda: self.later(seat, lambda s: s.on_timer(token, trio.current_time())),
        )

    def _tell(self, seat: Seat, effect: fx.Tell) -> None:
        token = effect.token
        self.tell(
            effect._replace(node=effect.node.partition("/")[0]),
            lambda code, message: self.later(seat, lambda s: s.on_peer(token, code, message, trio.current_time())),
        )


PERFORM = fx.carried_out_by(Seating)


def rules_of(version: Deployed) -> Rules:
    """What a function's manifest says of its sessions."""
    manifest = version.spec.manifest
    return Rules(
        allow=tuple(manifest.modes.allow),
        start=manifest.modes.start,
        min_dwell=manifest.modes.min_dwell,
        queue=manifest.calls.queue,
        dedup=manifest.calls.dedup,
        durability=manifest.durability.local,
        checkpoint_calls=manifest.durability.calls,
        checkpoint_seconds=manifest.durability.seconds,
        follow=manifest.modes.follow,
        on_partition=manifest.durability.on_partition,
        max_pause=manifest.modes.max_pause,
        max_state=manifest.state.max_bytes,
        shared=version.shared,
    )


def _said(message: m.Reply | m.Error) -> fx.Said:
    """A container's answer to a verb, of which anything may be wrong but its being one."""
    if isinstance(message, m.Error):
        return fx.Said(message.code or Code.INTERNAL, message.message, {}, None)
    return fx.Said(0, "", message.result if type(message.result) is dict else {}, message.blob)
