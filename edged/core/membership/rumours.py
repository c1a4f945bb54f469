"""What is passed on, how often, and in which order (reliability §2.6).

Decides by how often each thing was passed on already: the newest first, so that a change spreads in a few rounds;
and what a new word makes void is passed on no more. Refuses to know what the words mean.
"""

from heapq import nsmallest
from typing import NamedTuple

ITEM_OVERHEAD = 3
"""Bytes that an item costs beside its own: the header of a byte string."""


class _Item(NamedTuple):
    sent: int
    serial: int
    data: bytes
    subject: str


class Rumours:
    """One item per kind and subject: a newer one takes its place."""

    def __init__(self) -> None:
        self._items: dict[tuple[str, str], _Item] = {}
        self._serial = 0

    def __len__(self) -> int:
        return len(self._items)

    def add(self, kind: str, subject: str, data: bytes) -> None:
        """Pass `data` on from now on, instead of what was said of that before."""
        self._serial += 1
        self._items[kind, subject] = _Item(0, -self._serial, data, subject)

    def drop(self, kind: str, subject: str) -> None:
        """It is void."""
        self._items.pop((kind, subject), None)

    def keep_only(self, subject: str) -> None:
        """Everything about others is void."""
        self._items = {key: item for key, item in self._items.items() if item.subject == subject}

    def take(self, room: int, repeats: int) -> list[bytes]:
        """Items for one datagram of at most `room` bytes, those passed on least often first."""
        taken: list[bytes] = []
        for key, item in nsmallest(24, self._items.items(), key=lambda pair: pair[1][:2]):
            size = len(item.data) + ITEM_OVERHEAD
            if size > room:
                continue
            room -= size
            taken.append(item.data)
            if item.sent + 1 >= repeats:
                del self._items[key]
            else:
                self._items[key] = item._replace(sent=item.sent + 1)
        return taken
