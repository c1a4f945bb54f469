"""Local sessions that give way to a function for which no slot is left (DESIGN §5, §8).

Decides which session goes back to the store when its node's slots are all sessions' own and another function has
calls but no container: the one called longest ago, of those whose function leaves the mode to its applications or
to the mesh. Where several share a container all of them go, from the one with the fewest first. A container of its own
is a gain to one session; none at all is the loss of a function. Where no session gives way its calls are told so at
once: waiting would end at their deadline. To refuse local-state while one slot is left was the alternative; it would
cost a slot where nobody calls another function.

Refuses to know which pool's container gives way (`slots`), and how a session leaves (`moves`).
"""

import logging
from collections.abc import Callable

import trio

from edged.core.records import SessionKey
from edged.core.sessions import Seat
from edged.core.transition import S
from edged_protocol.errors import CallError

from .deployed import Deployed, Worker
from .moves import Moves
from .relay import Relay
from .workers import Workers

log = logging.getLogger(__name__)

LEAVE_SECONDS = 0.5
"""For a session to leave; behind a long call it leaves later, and the next one is asked."""

PAUSE_SECONDS = 0.02
"""Between two looks while a function waits: about what a container's start takes."""

LEAVE_IT_TO_OTHERS = ("application", "auto")
"""`[modes] policy` of functions whose sessions may be moved unasked; the others' mode is the manifest's word."""


class GivingWay:
    """`wanted` when a pool finds no slot; `run` for ever."""

    def __init__(
        self, relay: Relay, workers: Workers, moves: Moves, held: Callable[[SessionKey], bool], note: Callable[..., None]
    ) -> None:
        self._relay = relay
        self._workers = workers
        self._moves = moves
        self._held = held
        self._note = note
        self._woken = trio.Event()

    def wanted(self) -> None:
        """A function has calls, no container, and no slot for one."""
        self._woken.set()

    async def run(self) -> None:
        """Look when somebody wants a slot."""
        while True:
            await self._woken.wait()
            self._woken = trio.Event()
            for function in self._workers.shut_out():
                try:
                    await self._make_room(function)
                except Exception:
                    log.exception("no room could be made for %s", function.spec.manifest.name)
            await trio.sleep(PAUSE_SECONDS)

    async def _make_room(self, function: Deployed) -> None:
        for worker in self._candidates():
            if function not in self._workers.shut_out():
                return
            if await self._empties(worker, function):
                return
        if function in self._workers.shut_out() and not self._any_moving():
            self._workers.refuse(function, f"{self._workers.slots.full(function)}; the local sessions here do not give way")

    async def _empties(self, worker: Worker, function: Deployed) -> bool:
        """All sessions of a container leave it, and no other comes meanwhile; whether it is empty."""
        places, home = worker.function.places, worker.home
        places.shut(home, True)
        try:
            for seat in list(worker.seats or ()):
                with trio.move_on_after(LEAVE_SECONDS) as waiting:
                    if not await self._leaves(seat.key, function):
                        return False
                if waiting.cancelled_caught:
                    return False
        finally:
            places.shut(home, False)
        return not worker.seats

    async def _leaves(self, key: SessionKey, function: Deployed) -> bool:
        name = function.spec.manifest.name
        try:
            await self._moves.move(key, "externalize", "")
        except CallError as error:
            log.info("%s/%s does not give way to %s: %s", *key, name, error)
            return False
        self._note("session.gave_way", function=key.function, session=key.session, to=name)
        return True

    def _candidates(self) -> list[Worker]:
        """Whose sessions may leave: fewest first, idle ones before others, then those called longest ago."""
        own = [worker for worker in self._workers.slots.alive if worker.seats and all(map(self._may_leave, worker.seats))]
        return sorted(own, key=self._costs)

    def _costs(self, worker: Worker) -> tuple[int, bool, float]:
        seats = worker.seats or []
        return len(seats), any(seat.own for seat in seats), max(self._last_called(seat.key) for seat in seats)

    def _may_leave(self, seat: Seat) -> bool:
        worker = seat.container
        if seat.state is not S.LOCAL or not isinstance(worker, Worker) or self._held(seat.key):
            return False
        modes = worker.function.spec.manifest.modes
        return modes.policy in LEAVE_IT_TO_OTHERS and "remote" in modes.allow

    def _last_called(self, key: SessionKey) -> float:
        return self._relay.measuring.ledger.last_called(key)

    def _any_moving(self) -> bool:
        """Whether a slot may become free without anybody's giving way."""
        alive = self._workers.slots.alive
        return any(seat.state is not S.LOCAL for worker in alive for seat in worker.seats or ())
