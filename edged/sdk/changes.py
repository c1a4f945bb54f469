"""Which keys of a state changed, in the order of their last change (DESIGN §5 "Migration", "Durability").

Decides what a delta holds. Refuses to know who asks: a checkpoint and a migration read the same log, each from a
place (`serial`) of its own, so that neither has to be told of the other and an abandoned one leaves nothing behind.
Keys that nobody changed since the session was loaded have serials up to 0, given when first somebody wants the whole
state piece by piece; a key that changes again moves to the end. A dirty set for each reader was the alternative: it
has to be emptied by one that may never learn whether what it took has arrived.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

import msgpack  # type: ignore[import-untyped]

FROM_NOTHING = -(2**62)
"""A place before everything: the reader has no part of the state."""

SLACK = 1024
"""Entries a log may hold beyond twice the keys of its state before it is made shorter."""

MASK = 2**128 - 1

_packer = msgpack.Packer(use_bin_type=True, autoreset=True)


class Stale(Exception):
    """The log does not reach back to where a reader stopped: it has to begin anew."""


class Delta(NamedTuple):
    """A piece of what changed: `data`, empty if nothing did, leads to `serial`; about `left` bytes are behind it."""

    data: bytes
    serial: int
    left: int
    digest: int


class ChangeLog:
    """`note` each change; `after` a serial what changed since."""

    def __init__(self) -> None:
        self.head = 0
        self._floor = FROM_NOTHING
        self._complete = False
        self._serials: list[int] = []
        self._keys: list[Any] = []
        self._last: dict[Any, int] = {}

    def note(self, key: Any) -> None:
        """`key` has another value, or none any more."""
        self.head += 1
        self._last[key] = self.head
        self._serials.append(self.head)
        self._keys.append(key)

    def shorten(self, alive: Mapping[Any, Any]) -> None:
        """Drop what later changes made void, and, if that is too little, which keys are gone."""
        if len(self._keys) <= 2 * len(alive) + SLACK:
            return
        pairs = [p for p in zip(self._serials, self._keys, strict=True) if self._last[p[1]] == p[0]]
        if len(pairs) > len(alive) + SLACK // 2:
            gone = [serial for serial, key in pairs if key not in alive]
            self._floor = max(self._floor, *gone)
            pairs = [pair for pair in pairs if pair[1] in alive]
        self._serials = [serial for serial, _ in pairs]
        self._keys = [key for _, key in pairs]
        self._last = {key: serial for serial, key in pairs}

    def after(self, since: int, alive: Iterable[Any]) -> Iterator[tuple[int, Any]]:
        """Serial and key of each last change behind `since`. Raises Stale."""
        if since < 0 and not self._complete:
            self._complete_with(alive)
        if FROM_NOTHING < since < self._floor:
            raise Stale("the log of changes is shorter than that")
        for place in range(bisect_right(self._serials, since), len(self._serials)):
            serial, key = self._serials[place], self._keys[place]
            if self._last[key] == serial:
                yield serial, key

    def behind(self, serial: int) -> int:
        """At most so many changes are behind `serial`."""
        return len(self._serials) - bisect_right(self._serials, serial)

    def _complete_with(self, alive: Iterable[Any]) -> None:
        """Give the keys nobody has changed serials before all changes."""
        fresh = [key for key in alive if key not in self._last]
        serials = range(1 - len(fresh), 1)
        self._serials[:0] = serials
        self._keys[:0] = fresh
        self._last.update(zip(fresh, serials, strict=True))
        self._complete = True


class Digest:
    """A number for all entries of a state: the sum of one per entry, so that a change costs its own keys only."""

    def __init__(self) -> None:
        self._of: dict[Any, int] = {}
        self.value = 0

    def put(self, key: bytes, packed: bytes) -> None:
        """`key`, packed, has this packed value."""
        new = int.from_bytes(blake2b(key + packed, digest_size=16).digest(), "big")
        self.value = (self.value - self._of.get(key, 0) + new) & MASK
        self._of[key] = new

    def drop(self, key: bytes) -> None:
        """`key` is gone."""
        self.value = (self.value - self._of.pop(key, 0)) & MASK


class DeltaReader:
    """Takes pieces of a state off its log, for one session."""

    def __init__(self, log: ChangeLog) -> None:
        self._log = log
        self._digest = Digest()

    def take(self, cells: dict[Any, Any], size: int, since: int, limit: int, digest: bool) -> Delta:
        """What changed behind `since`, of about `limit` bytes at most but at least one key. Raises Stale.

        `digest` is that of all pieces so far when those who ask for it begin with nothing.
        """
        if since == FROM_NOTHING and digest:
            self._digest = Digest()
        parts: list[bytes] = []
        gone: list[Any] = []
        taken, reached = 0, self._log.head
        for serial, key in self._log.after(since, cells):
            packed = _packer.pack(key)
            if key in cells:
                parts += (packed, _packer.pack(dict.__getitem__(cells, key)))
                taken += len(packed) + len(parts[-1])
            else:
                gone.append(packed)
                taken += len(packed)
            if taken >= limit:
                reached = serial
                break
        if digest:
            self._follow(parts, gone)
        mean = size // max(1, len(cells)) + 1
        return Delta(_joined(parts, gone), reached, self._log.behind(reached) * mean, self._digest.value)

    def _follow(self, parts: list[bytes], gone: list[bytes]) -> None:
        for place in range(0, len(parts), 2):
            self._digest.put(parts[place], parts[place + 1])
        for key in gone:
            self._digest.drop(key)


def _joined(parts: list[bytes], gone: list[bytes]) -> bytes:
    """The array of the changed entries as a map, and of the keys that are gone."""
    if not parts and not gone:
        return b""
    changed = _packer.pack_map_header(len(parts) // 2)
    return b"".join((b"\x92", changed, *parts, _packer.pack_array_header(len(gone)), *gone))
