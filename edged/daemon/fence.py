"""What this node's lease means for the sessions that are here: each of them is told (DESIGN §5.3).

Decides nothing: `core.sessions.fencing` does. In one go, within the turn of the loop that found it out, so that no reply
leaves in between. Refuses to know how leases are kept.
"""

import logging
from collections.abc import Callable

import trio

from edged.core import effects as fx
from edged.core.records import SessionKey
from edged.core.sessions import Seat

from .relay import Relay

log = logging.getLogger(__name__)

Step = Callable[[Seat], list[fx.Effect]]


class Fence:
    """`ended` and `good_again` for the lease, `epoch_seen` for what others say of a session."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    def ended(self) -> None:
        """The lease has ended: what fences stops."""
        log.warning("the lease has lapsed: local sessions that fence are not served")
        self._relay.seating.note("lease.lapsed")
        self._tell(lambda seat: seat.on_lapsed(trio.current_time()))

    def good_again(self) -> None:
        """The lease is good: what is here is served once the record was read."""
        self._relay.seating.note("lease.renewed")
        self._tell(lambda seat: seat.on_renewed(trio.current_time()))
        self._relay.settle()

    def _tell(self, step: Step) -> None:
        for seat in list(self._relay.seats.values()):
            self._relay.seating.perform(seat, step)

    def epoch_seen(self, key: SessionKey, epoch: int) -> None:
        """Another node speaks of a session's epoch."""
        seat = self._relay.seats.get(key)
        if seat is not None and epoch > seat.epoch and seat.local:
            self._relay.seating.perform(seat, lambda s: s.on_epoch_seen(epoch, trio.current_time()))
            self._relay.settle()
