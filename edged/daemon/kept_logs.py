"""The last lines that each function's containers printed here (DESIGN §9, §10).

Decides how many are kept and what a line too long for the wire becomes. Refuses to know who reads them; what
must be kept for longer belongs to the journal, or to a service the function itself writes to.
"""

from collections import deque
from datetime import UTC, datetime

from edged_protocol.messages import Map

MAX_LINES = 1000
"""Lines kept per function, and shown of all nodes together."""

MAX_TEXT = 256 * 1024
"""Characters these may have: sent in one go, far below what a connection may have unsent."""

PIECE = 1000
"""Characters of a line: at most 4,000 bytes, which a string of the wire may have. A longer one is cut up."""


class KeptLogs:
    """`keep` lines, read them with `after`. Serials rise by one; a restart begins anew."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._serial = 0
        self._kept: dict[str, Tail] = {}

    def keep(self, function: str, container: str, line: bytes) -> None:
        """A container printed a line, without its end."""
        text = line.decode(errors="replace")
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        for begin in range(0, max(len(text), 1), PIECE):
            piece = text[begin : begin + PIECE]
            item = {"at": at, "node": self._node, "container": container, "line": piece}
            self._serial += 1
            self._kept.setdefault(function, Tail()).append(self._serial, item, len(piece))

    def after(self, function: str, serial: int) -> list[tuple[int, Map]]:
        """The kept lines of a function with a higher serial, oldest first."""
        tail = self._kept.get(function)
        return tail.after(serial) if tail is not None else []


class Tail:
    """The newest of many items."""

    def __init__(self) -> None:
        self._rows: deque[tuple[int, Map, int]] = deque()
        self._text = 0

    def append(self, serial: int, item: Map, size: int) -> None:
        """Take an item of so many characters; the oldest go where there is no room."""
        self._rows.append((serial, item, size))
        self._text += size
        while len(self._rows) > MAX_LINES or self._text > MAX_TEXT:
            self._text -= self._rows.popleft()[2]

    def after(self, serial: int) -> list[tuple[int, Map]]:
        """Those with a higher serial, oldest first."""
        found = []
        for number, item, _ in reversed(self._rows):
            if number <= serial:
                break
            found.append((number, item))
        return found[::-1]
