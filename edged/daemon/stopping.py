"""The end of a node that was told to stop (DESIGN §6 "Drain").

Decides when nothing is left to wait for: calls that run get their answers, those that wait are refused with
102 and go elsewhere, sessions whose state is here go to the store. Refuses to know how long it may take:
whoever cancels `run` decides that, and then is told what could not be saved.
"""

import logging

import trio

from edged.core.records import SessionKey
from edged.core.sessions import Seat
from edged.core.transition import SERVING_REMOTE
from edged_protocol.errors import CallError, Code

from .moves import Moves
from .relay import Relay
from .workers import Workers

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.01
"""Between two looks at what is left; each is a walk over the sessions."""

AGAIN_SECONDS = 0.05
"""Before a session that is moving, or whose store is away, is tried again."""

AT_ONCE = 32
"""Sessions saved at the same time: each may hold a state of many MiB."""

CHECKPOINT = -1
"""The token of the timer that makes a session save itself."""


class Stopping:
    """`run` once, after the relay was told to take no more calls."""

    def __init__(self, relay: Relay, workers: Workers, moves: Moves) -> None:
        self._relay = relay
        self._workers = workers
        self._moves = moves
        self._slots = trio.CapacityLimiter(AT_ONCE)
        self._saving: set[SessionKey] = set()
        self._staying: set[SessionKey] = set()
        self._given_up: set[SessionKey] = set()
        self._reasons: dict[SessionKey, str] = {}

    async def run(self) -> None:
        """Until nothing is left; cancelled before, what is left is logged."""
        try:
            async with trio.open_nursery() as nursery:
                while self._relay.busy or self._left():
                    self._refuse_waiting()
                    for key in self._left() - self._saving:
                        self._saving.add(key)
                        nursery.start_soon(self._save, key)
                    await trio.sleep(LOOK_SECONDS)
        finally:
            self._report()

    def _refuse_waiting(self) -> None:
        """What waits for a container; a refused call makes room for the next one of its session."""
        for function in self._workers.functions.values():
            while waiting := function.pool.drain_queue():
                for call in waiting:
                    self._relay.call_lost(call, Code.DRAINING, "the node is stopping")
        self._relay.settle()

    # Sessions

    def _left(self) -> set[SessionKey]:
        return {key for key, seat in self._relay.seats.items() if self._is_left(key, seat)}

    def _is_left(self, key: SessionKey, seat: Seat) -> bool:
        """Whether its state is here, or on its way, and would be lost or unknown."""
        if key in self._given_up:
            return False
        if key in self._staying and seat.local:
            return seat.unsaved > 0
        return seat.state not in SERVING_REMOTE

    async def _save(self, key: SessionKey) -> None:
        async with self._slots:
            while (seat := self._relay.seats.get(key)) and self._is_left(key, seat):
                try:
                    await self._moves.move(key, "externalize", "")
                except CallError as error:
                    self._reasons[key] = error.message
                    if error.code == Code.BAD_REQUEST and seat.local:
                        self._keep_local(key, seat)
                await trio.sleep(AGAIN_SECONDS)
        self._saving.discard(key)

    def _keep_local(self, key: SessionKey, seat: Seat) -> None:
        """Its function has no remote-state: a checkpoint is all there is, if it has those."""
        self._staying.add(key)
        function = self._workers.functions.get(key.function)
        if function is not None and function.spec.manifest.durability.local == "none":
            self._given_up.add(key)
        self._relay.perform(seat, lambda s: s.on_timer(CHECKPOINT, trio.current_time()))
        self._relay.settle()

    def _report(self) -> None:
        """Say what could not be saved, and what it costs."""
        if self._relay.busy:
            log.error("calls that were still running are cut off: their outcome is unknown")
        for key in sorted(self._left() | self._given_up):
            reason = self._reasons.get(key, "it was still running a call")
            lost = self._relay.seats[key].unsaved
            log.error("%s/%s is not saved: %s; calls lost: %d", *key, reason, lost)
