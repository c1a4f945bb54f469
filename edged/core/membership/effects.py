"""What the membership wants done."""

from typing import NamedTuple

from .records import NodeRecord, Status


class Send(NamedTuple):
    """A datagram's payload for an address (host:port)."""

    address: str
    payload: bytes


class Carry(NamedTuple):
    """A datagram's payload for `carried` at a node, over a connection if there is one; its answer is for `carried` here."""

    node: str
    payload: bytes


class Deaf(NamedTuple):
    """A node lives, but no datagram gets to it and back."""

    node: str


class Changed(NamedTuple):
    """A node is seen otherwise than before; `record` is the last word of it."""

    node: str
    status: Status
    record: NodeRecord


class Told(NamedTuple):
    """A node that is seen as before says something new of itself."""

    record: NodeRecord


class Sync(NamedTuple):
    """Both sides should exchange all they know, over a connection."""

    node: str


class Namesake(NamedTuple):
    """Another living node calls itself as this one does."""

    record: NodeRecord


Effect = Send | Carry | Deaf | Changed | Told | Sync | Namesake
