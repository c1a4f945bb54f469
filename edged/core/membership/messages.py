"""The datagrams between nodes, before they are sealed (SPEC "Gossip datagrams").

A payload is one msgpack array `[kind, from, number, subject, address, digest, [item]]`. An item is a record (see
`records`) or a rumour `[word, node, boot, inc, from]`, each a byte string, so that what is only passed on is
neither decoded nor encoded anew.
"""

from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple

from edged_protocol.codec import pack, unpack
from edged_protocol.errors import RemoteProtocolError
from edged_protocol.ids import valid_name

from .records import DECODED, MAX_NUMBER, valid_address, valid_boot

MAX_ITEMS = 64

RUMOUR = b"\x95"
"""How a rumour begins, an array of five; a record has more elements."""


class Kind(IntEnum):
    """What a datagram is."""

    PING = 1
    ACK = 2
    NACK = 3
    PING_FOR_ME = 4
    GOSSIP = 5


class Datagram(NamedTuple):
    """`number` joins an answer to its question; `subject` (a node) and `address` are of PING_FOR_ME and PING."""

    kind: Kind
    sender: str
    number: int
    subject: str = ""
    address: str = ""
    digest: int = 0
    items: tuple[bytes, ...] = ()

    def packed(self) -> bytes:
        """As it is sealed."""
        return pack([*self[:6], list(self.items)])


class Rumour(NamedTuple):
    """What `by` says of another node: suspect (1) or down (2) in that life and incarnation."""

    word: int
    node: str
    boot: str
    inc: int
    by: str

    def packed(self) -> bytes:
        """As an item."""
        return pack(list(self))


def parsed(payload: bytes) -> Datagram | None:
    """The datagram, or None for what is none."""
    try:
        fields = unpack(payload)
    except (RemoteProtocolError, ValueError, TypeError):
        return None
    if not isinstance(fields, list) or [type(field) for field in fields[:7]] != _TYPES:
        return None
    kind, sender, number, subject, address, digest, items = fields[:7]
    named = valid_name(sender) and (not subject or valid_name(subject))
    sized = 0 <= number < MAX_NUMBER and 0 <= digest < 2**64 and len(items) <= MAX_ITEMS
    right = not address or valid_address(address)
    if kind not in _KINDS or not (named and sized and right) or {type(i) for i in items} - {bytes}:
        return None
    return Datagram(Kind(kind), sender, number, subject, address, digest, tuple(items))


_TYPES = [int, str, int, str, str, int, list]
_KINDS = frozenset(Kind)


@lru_cache(DECODED)
def rumour(data: bytes) -> Rumour | None:
    """The rumour, or None for what is none: a record, perhaps."""
    try:
        fields = unpack(data)
    except (RemoteProtocolError, ValueError, TypeError):
        return None
    if not isinstance(fields, list) or [type(field) for field in fields] != [
        int,
        str,
        str,
        int,
        str,
    ]:
        return None
    said = Rumour(*fields)
    named = valid_name(said.node) and valid_name(said.by) and valid_boot(said.boot)
    return said if named and said.word in (1, 2) and 0 <= said.inc < MAX_NUMBER else None
