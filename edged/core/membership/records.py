"""A node's own words, and which of two counts (reliability §2.7).

Only the node itself writes them; what others say of it are rumours. Elements that a later version adds at the end
are kept and passed on.
"""

from enum import IntEnum
from functools import lru_cache
from typing import Any, NamedTuple

from edged_protocol.codec import pack, unpack
from edged_protocol.errors import RemoteProtocolError
from edged_protocol.ids import valid_name

SCHEMA = 1
MAX_RECORD = 1_200
MAX_BODY = 1_000
MAX_NUMBER = 2**48

DECODED = 1024
"""Records and rumours that are not decoded again: each comes a dozen times, from as many nodes."""


class Status(IntEnum):
    """How a node is seen; of the same life and incarnation the higher one counts."""

    ALIVE = 0
    SUSPECT = 1
    DOWN = 2
    LEFT = 3


Rank = tuple[int, str, int, int]


class NodeRecord(NamedTuple):
    """`boot` "counter-chance" is a life of the node, `inc` rises when it contradicts, `ver` with each new body."""

    node: str
    boot: str
    inc: int
    ver: int
    left: bool
    address: str
    body: bytes
    more: tuple[Any, ...] = ()

    @property
    def rank(self) -> Rank:
        """The larger one is the newer word. A goodbye is the last of its life."""
        count, _, chance = self.boot.partition("-")
        return int(count), chance, MAX_NUMBER if self.left else self.inc, self.ver

    @property
    def life(self) -> tuple[int, str]:
        """Which life of the node this is of; a later one is larger."""
        return self.rank[:2]

    def packed(self) -> bytes:
        """As it travels."""
        return pack([SCHEMA, *self[:7], *self.more])


@lru_cache(DECODED)
def parsed(data: bytes) -> NodeRecord | None:
    """The record, or None for what is none."""
    if len(data) > MAX_RECORD:
        return None
    try:
        fields = unpack(data)
    except (RemoteProtocolError, ValueError, TypeError):
        return None
    if not isinstance(fields, list) or [type(field) for field in fields[:8]] != _TYPES:
        return None
    record = NodeRecord._make([*fields[1:8], tuple(fields[8:])])
    return record if fields[0] >= SCHEMA and _sane(record) else None


_TYPES = [int, str, str, int, int, bool, str, bytes]


def _sane(record: NodeRecord) -> bool:
    counted = 0 <= record.inc < MAX_NUMBER and 0 <= record.ver < MAX_NUMBER
    return (
        counted
        and valid_name(record.node)
        and valid_boot(record.boot)
        and valid_address(record.address)
        and len(record.body) <= MAX_BODY
    )


def valid_boot(boot: str) -> bool:
    """Eight digits or more, a dash, and chance in hexadecimal."""
    count, dash, chance = boot.partition("-")
    digits = count.isascii() and count.isdigit() and 8 <= len(count) <= 15
    return (
        digits and dash == "-" and 0 < len(chance) <= 32 and set(chance) <= set("0123456789abcdef")
    )


def valid_address(address: str) -> bool:
    """host:port, of characters that no log and no shell minds."""
    host, colon, port = address.rpartition(":")
    right = set(host) <= _HOST and 0 < len(host) <= 253
    return (
        colon == ":" and right and port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65_536
    )


_HOST = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-:[]%")
