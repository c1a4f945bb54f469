"""A client's open questions: which there are, which wait to be sent, and when each must be looked at.

Decides when there are too many. Refuses to know what they ask, and what their time means.
"""

import heapq
from collections import OrderedDict
from math import inf

from .errors import Code, call_error
from .limits import MIB
from .tickets import State, Ticket

MAX_OPEN = 4096
"""Questions of one client without an outcome; more come from a caller that waits for none."""

MAX_OPEN_BYTES = 64 * MIB
"""Their bodies: 64 of the largest that a device may send."""


class Book:
    """Open tickets by serial number, the queue of those not sent, and everybody's alarm."""

    def __init__(self) -> None:
        self.queue: OrderedDict[int, Ticket] = OrderedDict()
        self._open: dict[int, Ticket] = {}
        self._bytes = 0
        self._serial = 0
        self._alarms: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return len(self._open)

    def all(self) -> list[Ticket]:
        """Every open ticket, oldest first."""
        return list(self._open.values())

    def admit(self, ticket: Ticket) -> None:
        """Enter it. Raises NotRunRetry (101) when the book is full."""
        if len(self._open) >= MAX_OPEN or self._bytes + ticket.size > MAX_OPEN_BYTES:
            text = f"this client has {len(self._open)} calls open, {self._bytes} bytes"
            raise call_error(Code.OVERLOADED, text, {"retry_after_ms": 20})
        self._serial += 1
        ticket.serial = self._serial
        self._open[ticket.serial] = ticket
        self._bytes += ticket.size

    def enqueue(self, ticket: Ticket, *, first: bool = False) -> None:
        """It waits to be sent, until its deadline."""
        ticket.state = State.WAITING
        self.queue[ticket.serial] = ticket
        if first:
            self.queue.move_to_end(ticket.serial, last=False)
        self.arm(ticket, ticket.deadline)

    def strike(self, ticket: Ticket) -> None:
        """It is done."""
        ticket.state = State.DONE
        self._bytes -= ticket.size
        self.queue.pop(ticket.serial, None)
        del self._open[ticket.serial]

    def arm(self, ticket: Ticket, when: float) -> None:
        """Look at it then, and not before."""
        ticket.alarm = when
        if when == inf:
            return
        heapq.heappush(self._alarms, (when, ticket.serial))
        if len(self._alarms) > 4 * len(self._open) + 64:
            # Most are of tickets that are done; they would stay until their time.
            self._alarms = [(t.alarm, t.serial) for t in self._open.values() if t.alarm < inf]
            heapq.heapify(self._alarms)

    def alarm(self) -> float:
        """When to ask for what is `due`; perhaps too early, never too late."""
        return self._alarms[0][0] if self._alarms else inf

    def due(self, now: float) -> list[Ticket]:
        """The tickets whose alarm has come."""
        due: dict[int, Ticket] = {}
        while self._alarms and self._alarms[0][0] <= now:
            serial = heapq.heappop(self._alarms)[1]
            ticket = self._open.get(serial)
            if ticket is not None and ticket.alarm <= now:
                due[serial] = ticket
        return list(due.values())
