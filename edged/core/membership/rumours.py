"""What is passed on, how often, and in which order (reliability §2.6).

Decides by how often each thing was passed on already: the newest first, so that a change spreads in a few rounds;
and what a new word makes void is passed on no more. Refuses to know what the words mean.
"""

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

ITEM_OVERHEAD = 3
"""Bytes that an item costs beside its own: the header of a byte string."""

MOST_LOOKED_AT = 24
"""Items looked at for one datagram; those that are too long for what is left are passed over."""

Key = tuple[str, str]


class _Item(NamedTuple):
    sent: int
    data: bytes


class Rumours:
    """One item per kind and subject: a newer one takes its place."""

    def __init__(self) -> None:
        self._items: dict[Key, _Item] = {}
        self._by_sent: dict[int, dict[Key, None]] = {0: {}}
        """Keys by how often they were passed on, the newest last."""

    def __len__(self) -> int:
        return len(self._items)

    def add(self, kind: str, subject: str, data: bytes) -> None:
        """Pass `data` on from now on, instead of what was said of that before."""
        self.drop(kind, subject)
        self._put((kind, subject), _Item(0, data))

    def _put(self, key: Key, item: _Item) -> None:
        self._items[key] = item
        self._by_sent.setdefault(item.sent, {})[key] = None

    def drop(self, kind: str, subject: str) -> None:
        """It is void."""
        item = self._items.pop((kind, subject), None)
        if item is not None:
            del self._by_sent[item.sent][kind, subject]

    def keep_only(self, subject: str) -> None:
        """Everything about others is void."""
        for key in [key for key in self._items if key[1] != subject]:
            self.drop(*key)

    def take(self, room: int, repeats: int) -> list[bytes]:
        """Items for one datagram of at most `room` bytes, those passed on least often first."""
        taken: list[bytes] = []
        for key in self._first():
            item = self._items[key]
            size = len(item.data) + ITEM_OVERHEAD
            if size > room:
                continue
            room -= size
            taken.append(item.data)
            self.drop(*key)
            if item.sent + 1 < repeats:
                self._put(key, item._replace(sent=item.sent + 1))
        return taken

    def _first(self) -> list[Key]:
        """The first few in their order: the least often passed on, of those the newest."""
        return list(islice(self._ordered(), MOST_LOOKED_AT))

    def _ordered(self) -> Iterator[Key]:
        for sent in sorted(self._by_sent):
            yield from reversed(self._by_sent[sent])
