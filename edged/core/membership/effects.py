"""What the membership wants done."""

from typing import NamedTuple

from .records import NodeRecord, Status


class Send(NamedTuple):
    """A datagram's payload for an address (host:port)."""

    address: str
    payload: bytes


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


Effect = Send | Changed | Told | Sync
