"""Containers that are local sessions' own: one each, or several in one (DESIGN §8 `sessions_per_container`).

Decides nothing by itself: `core.places` says which container a session goes to, `core.turns` whose call is next where
several share one. Starts containers for sessions, tells those that wait for a start how it went, and ends a container
when its last session leaves. Refuses to know sessions (`seating`) and pools (`workers`).

A session that leaves a shared container while that runs a call of it leaves the call: to kill the container, as a
session's very own is, would cost the others there what their durability says.
"""

import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import trio

from edged.core.calls import Call
from edged.core.places import Places
from edged.core.turns import Turns
from edged_protocol import messages as m
from edged_protocol.codec import encode
from edged_protocol.errors import Code

from .deployed import Deployed, Done, Worker
from .host import StartFailed
from .link import Link
from .served import Served
from .slots import Slots

log = logging.getLogger(__name__)

SLOW_SECONDS = 1.0
"""After so long with one call a shared container gets no further session while another can be had: its state would wait for
the call's end, and after ten seconds in vain."""

SAME_CONTAINER = "its session is in one container with a call that waits for it: [modes] sessions_per_container = 1 keeps them apart"

Placed = Callable[[Worker | None, str], None]
"""Gets a session's container, or None and why there is none."""


class Home:
    """A container for local sessions, from the decision to start it; `waiting`: who will have it when it is there."""

    def __init__(self) -> None:
        self.worker: Worker | None = None
        self.waiting: list[Placed] = []


class Own:
    """`place` and `leave` for sessions, `run` for their calls, the others for what happens to their containers."""

    nursery: trio.Nursery | None = None

    def __init__(
        self,
        served: Served,
        slots: Slots,
        start: Callable[[Deployed, trio.Nursery], Awaitable[Worker]],
        end: Callable[[Worker], None],
        overran: Callable[[Call], None],
        answered: Callable[[list[Done], float], None],
        touch: Callable[[Link], None],
        serials: Iterator[int],
    ) -> None:
        self._served = served
        self._slots = slots
        self._start = start
        self._end = end
        self._overran = overran
        self._answered = answered
        self._touch = touch
        self._serials = serials

    # Places

    def has_room(self, function: Deployed) -> bool:
        """Whether `place` would find any."""
        return function.places.free > 0 or self._slots.has_room(function, own=True)

    def free(self) -> dict[str, int]:
        """Places in containers that are there, by function: a session there takes no slot."""
        rows = {name: version.places.free for name, version in self._served.functions.items()}
        return {name: free for name, free in rows.items() if free}

    def place(self, function: Deployed, done: Placed) -> None:
        """A container for one session; `done` gets it, or None and why."""
        places: Places = function.places
        home = places.choose(self._slow(function))
        if home is None and self.nursery is not None and self._slots.make_room(function, own=True):
            home = Home()
            self._slots.begin(function)
            self.nursery.start_soon(self._begin, function, home, self.nursery)
        home = home or places.choose()
        if not isinstance(home, Home):
            done(None, self._slots.full(function))
            return
        places.take(home)
        if home.worker is None:
            home.waiting.append(done)
        else:
            done(home.worker, "")

    def _slow(self, function: Deployed) -> list[Home]:
        since = trio.current_time() - SLOW_SECONDS
        found = []
        for worker in function.workers if function.places.limit > 1 else ():
            call = worker.turns.running if worker.turns is not None else None
            if call is not None and call.started < since:
                found.append(worker.home)
        return found

    async def _begin(self, function: Deployed, home: Home, nursery: trio.Nursery) -> None:
        try:
            worker = await self._start(function, nursery)
        except StartFailed as failed:
            function.places.gone(home)
            for done in home.waiting:
                done(None, str(failed))
            return
        self._ready(worker, home)

    def _ready(self, worker: Worker, home: Home) -> None:
        """It is there; a program that does not say that it can hold several sessions gets the first one only."""
        function, places, waiting = worker.function, worker.function.places, home.waiting
        if not worker.several and places.limit > 1:
            log.warning("%s: its program holds one session in a container", function.spec.manifest.name)
            places.limit = 1
        worker.home, worker.seats = home, []
        worker.turns = Turns() if places.limit > 1 else None
        home.worker, home.waiting = worker, []
        here, elsewhere = waiting[: places.limit], waiting[places.limit :]
        for _ in elsewhere:
            places.leave(home)
        for done in here:
            done(worker, "")
        for done in elsewhere:
            self.place(function, done)

    def leave(self, worker: Worker, seat: Any) -> None:
        """A session needs its container no longer: the others there do, or nobody."""
        if worker.seats is None:
            return  # it is ending
        if seat in worker.seats:
            worker.seats.remove(seat)
        if worker.function.places.leave(worker.home):
            self._end(worker)
            return
        assert worker.turns is not None, "several sessions in a container of one"
        session = seat.key.session
        for call in worker.turns.withdraw(session):
            worker.calls.pop(call.serial, None)
            worker.link.send(encode(m.Cancel(call.serial)))
        worker.request(next(self._serials), "worker.stop", {"session": session}, None, lambda _: None)
        self._touch(worker.link)

    # Calls

    def run(self, worker: Worker, call: Call, now: float) -> None:
        """Let a session's own container run the call, in turn with those of others there."""
        call.state, call.deltas, call.form = None, (), 0
        if worker.turns is None:
            worker.invoke(call, now)
            self._touch(worker.link)
        elif call.chain and _waits_here(worker, call):
            self._answered([(call, m.Error(call.serial, Code.BAD_REQUEST, SAME_CONTAINER, None), None)], now)
        else:
            worker.turns.add(call)
            self._give(worker, worker.turns, now)

    def _give(self, worker: Worker, turns: Turns, now: float) -> None:
        """Hand over whose turn it is; a session is told of its calls that nobody waits for any more."""
        given, dropped = turns.give(now)
        for call in given:
            worker.invoke(call, now)
        if given:
            self._touch(worker.link)
        if dropped:
            over = {"ran": False}
            self._answered([(call, m.Error(call.serial, Code.DEADLINE_EXCEEDED, "expired before it ran", over), None) for call in dropped], now)

    def finished(self, worker: Worker, done: list[Done], now: float) -> None:
        """A shared container has answered these calls: their sessions are told, and the next ones are handed over."""
        turns = worker.turns
        assert turns is not None, "nobody else's call comes between those of a session's very own container"
        turns.finished([(call, seconds) for call, _, seconds in done], now)
        self._answered(done, now)
        turns.behind()
        if worker.seats is not None:
            self._give(worker, turns, now)

    def look_after(self, now: float) -> None:
        """Once a second: end shared containers that are stuck. A call of a session that has left has nobody else to look
        after it; and a hook of one session that does not end, between two calls, would keep all others waiting."""
        for worker in self._slots.alive:
            if worker.turns is None:
                continue
            call, limit = worker.turns.running, worker.function.spec.manifest.calls.hard_limit
            asked = worker.asked_since(now, call is not None)
            if call is not None and now - call.started > limit:
                self._overran(call)
            elif now - asked > limit:
                log.warning("%s: it has not answered for %g s", worker.name, limit)
                worker.container.kill()
                worker.link.cut("hard limit")


def _waits_here(worker: Worker, call: Call) -> bool:
    """Whether one of those that wait for the call keeps this very container busy."""
    here = {seat.key for seat in worker.seats or ()}
    return any(link in here for link in call.chain)
