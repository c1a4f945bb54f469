"""What happened on this node that an operator may want to know of (DESIGN §9).

Decides how many events are kept. They are told once and never acted upon: who must know the present state asks
for it. Refuses to know who reads them; what must be kept for longer belongs to the journal.
"""

from datetime import UTC, datetime
from typing import Any

from edged_protocol.codec import pack
from edged_protocol.messages import Map

from .kept_logs import Tail


class Events:
    """`note` what happened, read it with `after`. Serials rise by one; a restart begins anew."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._serial = 0
        self._kept = Tail()

    def note(self, event: str, **about: Any) -> None:
        """`event` is a dotted name, `about` what it concerns: texts and numbers."""
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        item = {"at": at, "node": self._node, "event": event, **about}
        self._serial += 1
        self._kept.append(self._serial, item, len(pack(item)))

    def after(self, serial: int) -> list[tuple[int, Map]]:
        """The kept ones with a higher serial, oldest first."""
        return self._kept.after(serial)
