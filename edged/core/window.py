"""The dedup window of one session: what became of its last call ids (DESIGN §5.1, reliability Δ6, Δ7).

Decides what a call id seen before gets. Refuses to know stores and containers. A running call stands in
the window too, so that a retry attaches to it instead of being queued a second time; the alternative, a
lookup at commit time only, would run a retry for nothing and repeat its outside effects.
"""

from enum import Enum

from .calls import Call
from .records import Entry

MAX_ATTACHED = 4
"""Retries waiting for one running call; more come from a client that does not wait for its deadlines."""

MAX_REMEMBERED_BODY = 4096
"""A larger answer is remembered as done (302)."""

MAX_WINDOW_BYTES = 256 * 1024
"""Bodies of one session's window; it travels with every move."""


class Verdict(Enum):
    """What to do with a call by its id."""

    RUN = "run"
    ATTACHED = "attached"
    REMEMBERED = "remembered"
    FORGOTTEN = "forgotten"
    TOO_MANY = "too_many"


def attach(running: Call, call: Call) -> bool:
    """Let `call`, and what waits with it, wait for the outcome of `running`; whether there was room."""
    if len(running.attached) + len(call.attached) >= MAX_ATTACHED:
        running.attached = [other for other in running.attached if not other.answered]
        if len(running.attached) + len(call.attached) >= MAX_ATTACHED:
            return False
    running.attached = [*running.attached, call, *call.attached]
    call.attached = ()
    return True


class Window:
    """Outcomes by call id, oldest first, and the calls that run now."""

    def __init__(self, keep: int, entries: tuple[Entry, ...] = (), floor: bool = False) -> None:
        self._keep = keep
        self._entries: dict[bytes, Entry] = {}
        self._running: dict[bytes, Call] = {}
        self._bytes = 0
        self.floor = floor
        for entry in entries:
            self._add(entry)

    def entries(self) -> tuple[Entry, ...]:
        """Everything remembered, oldest first."""
        return tuple(self._entries.values())

    def remembered(self, call_id: bytes) -> Entry | None:
        """The outcome of a call id that ended."""
        return self._entries.get(call_id)

    def admit(self, call: Call) -> Verdict:
        """Judge `call`; with RUN it counts as running until `settle` or `abandon`."""
        call_id = call.call_id
        if call_id is None:
            return Verdict.RUN
        if call_id in self._entries:
            return Verdict.REMEMBERED
        running = self._running.get(call_id)
        if running is not None:
            return Verdict.ATTACHED if attach(running, call) else Verdict.TOO_MANY
        if call.attempt > 0 and self.floor:
            return Verdict.FORGOTTEN
        self._running[call_id] = call
        return Verdict.RUN

    def settle(self, call: Call, code: int, body: bytes, version: int) -> Entry | None:
        """Remember the outcome of `call`; the new entry, or None for a call without an id."""
        if call.call_id is None:
            return None
        self._running.pop(call.call_id, None)
        kept = body if len(body) <= MAX_REMEMBERED_BODY else None
        entry = Entry(call.call_id, code, kept, version)
        self._add(entry)
        return entry

    def abandon(self, call: Call) -> None:
        """`call` ended without an effect: its id is free again."""
        if call.call_id is not None and self._running.get(call.call_id) is call:
            del self._running[call.call_id]

    def _add(self, entry: Entry) -> None:
        self._entries[entry.call_id] = entry
        self._bytes += len(entry.body or b"")
        while len(self._entries) > self._keep or self._bytes > MAX_WINDOW_BYTES:
            oldest = self._entries.pop(next(iter(self._entries)))
            self._bytes -= len(oldest.body or b"")
            self.floor = True
