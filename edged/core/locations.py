"""Where sessions are local, told in pages (DESIGN §6, reliability §2.7).

Keys do not fit into a gossiped record: a node tells another those of the buckets in which what it has differs from
what the other was told. Hints only: a wrong one costs a hop.
"""

from collections.abc import Iterable
from typing import Any
from zlib import crc32

from .records import SessionKey

BUCKETS = 64
MAX_TOLD = 4_096
"""Sessions a node tells of; of the others the store knows."""

MAX_PAGE_BYTES = 60 * 1024

Row = tuple[SessionKey, int]
"""A session that is local here, and its epoch."""


def _bucket(key: SessionKey) -> int:
    return crc32("/".join(key).encode()) % BUCKETS


def digests(rows: Iterable[Row]) -> list[int]:
    """One number for each bucket: the same for the same sessions at the same epochs, in any order."""
    found = [0] * BUCKETS
    for key, epoch in rows:
        found[_bucket(key)] ^= crc32(f"{'/'.join(key)} {epoch}".encode(), 1)
    return found


def page(rows: list[Row], known: list[int]) -> list[list[Any]]:
    """`[function, session, epoch]` of the buckets in which `known` differs, within the bounds: a bucket that does not
    fit is told when the ones before it are known."""
    mine, size = digests(rows), 0
    told: list[list[Any]] = []
    buckets: dict[int, list[Row]] = {}
    for key, epoch in rows[:MAX_TOLD]:
        buckets.setdefault(_bucket(key), []).append((key, epoch))
    for number, held in sorted(buckets.items()):
        if mine[number] == known[number]:
            continue
        size += sum(len(part.encode()) + 3 for key, _ in held for part in key) + 10 * len(held)
        if size > MAX_PAGE_BYTES and told:
            break
        told += [[key.function, key.session, epoch] for key, epoch in held]
    return told


def rows_of(value: object) -> list[Row] | None:
    """A page as it came, or None for what is none."""
    if not isinstance(value, list) or len(value) > MAX_TOLD:
        return None
    if not all(isinstance(row, list) and [type(part) for part in row] == [str, str, int] for row in value):
        return None
    return [(SessionKey(function, session), epoch) for function, session, epoch in value]
