"""A state that arrives piece by piece at the target of a migration (reliability §2.5).

Decides what the pieces make: units for the container, in the order they came. The source numbers them, and never uses a
number for two: one that is here already came once more because its answer was lost, one that leaves a gap is refused.
"""

from typing import Any

MAX_UNIT = 20 * 1024 * 1024
"""Bytes of a delta or state in pieces: what one frame to the container may have."""

NOTHING = bytes(16)
"""The digest of a state that is empty: no piece of it is ever sent."""


class Arrival:
    """What has come of a session so far."""

    def __init__(self, source: str) -> None:
        self.source = source
        """The node that serves the session until the record names another one."""
        self.cut = False
        """Whether its connection has ended since the last piece."""
        self._last = 0
        self._parts: list[bytes] = []
        self._bytes = 0
        self.whole: bytes | None = None
        """A state that came in one; else deltas went to the container as they came."""
        self.restoring: dict[int, Any] = {}
        """Who waits for which of the container's answers."""
        self.digest = NOTHING
        self.offer: dict[str, Any] = {}
        """What comes behind the last piece."""
        self.failed: tuple[int, str] | None = None

    def has(self, number: int) -> bool:
        """Whether a piece of that number has come."""
        return number <= self._last

    def is_next(self, number: int) -> bool:
        """Whether a piece of that number may come now; it is then the last that came."""
        if number != self._last + 1:
            return False
        self._last = number
        return True

    def add(self, data: bytes, more: bool) -> bytes | None:
        """The unit that this piece completes. Raises ValueError when it gets too long."""
        self._parts.append(data)
        self._bytes += len(data)
        if self._bytes > MAX_UNIT:
            raise ValueError(f"more than {MAX_UNIT} bytes in one piece of a state")
        if more:
            return None
        unit, self._parts, self._bytes = b"".join(self._parts), [], 0
        return unit
