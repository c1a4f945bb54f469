"""The end of a node that was told to stop (DESIGN §6 "Drain").

Decides when nothing is left to wait for: calls that run get their answers, those that wait are refused with
102 and go elsewhere, sessions whose state is here leave (`emptying`) or are at least saved. Refuses to know how
long it may take: whoever cancels `run` decides that, and then is told what could not be saved.
"""

import logging

import trio

from edged.core.records import SessionKey
from edged.core.sessions import Seat
from edged_protocol.errors import Code

from .emptying import Emptying
from .moves import Moves
from .peers import Peers
from .relay import Relay
from .workers import Workers

log = logging.getLogger(__name__)

CHECKPOINT = -1
"""The token of the timer that makes a session save itself."""


class Stopping(Emptying):
    """`finish` once, after the relay was told to take no more calls."""

    def __init__(self, relay: Relay, workers: Workers, moves: Moves, peers: Peers) -> None:
        super().__init__(relay, moves, peers)
        self._workers = workers
        self._staying: set[SessionKey] = set()
        self._given_up: set[SessionKey] = set()

    async def finish(self) -> None:
        """Until nothing is left; cancelled before, what is left is logged."""
        try:
            await self.run(self._busy)
        finally:
            self._report()

    def _busy(self) -> bool:
        """Whether calls are in hand; those that wait are refused, which makes room for the next ones."""
        for function in self._workers.served.versions():
            while waiting := function.pool.drain_queue():
                for call in waiting:
                    self._relay.call_lost(call, Code.DRAINING, "the node is stopping")
        self._relay.settle()
        return self._relay.busy

    def _is_left(self, key: SessionKey, seat: Seat) -> bool:
        if key in self._given_up:
            return False
        if key in self._staying and seat.local:
            return seat.unsaved > 0
        return super()._is_left(key, seat)

    def _stays(self, key: SessionKey, seat: Seat) -> None:
        """A checkpoint is all there is, if its function has those."""
        self._staying.add(key)
        function = self._workers.served.version_for(*key)
        if function is not None and function.spec.manifest.durability.local == "none":
            self._given_up.add(key)
        self._relay.seating.perform(seat, lambda s: s.on_timer(CHECKPOINT, trio.current_time()))
        self._relay.settle()

    def _report(self) -> None:
        """Say what could not be saved, and what it costs."""
        if self._relay.busy:
            log.error("calls that were still running are cut off: their outcome is unknown")
        for key in sorted(self.left() | self._given_up):
            reason = self.reasons.get(key, "it was still running a call")
            lost = self._relay.seats[key].unsaved
            log.error("%s/%s is not saved: %s; calls lost: %d", *key, reason, lost)
