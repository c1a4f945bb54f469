"""What the store has of a local session's state, seen from its container (DESIGN §5.4).

Decides whether the next write may be a delta. It may if the store certainly has the state of a place in the
container's history that is known here, if the state is worth it, and while the deltas on it stay short: a new owner
has to take them all. After a write whose outcome was not told the next one is whole.
"""

from dataclasses import dataclass
from typing import NamedTuple

from edged_protocol.limits import MAX_STATE

from ..records import MAX_DELTAS, Record

WORTH = 4096
"""Bytes of a state below which a delta saves nothing: a write costs a few pages of the store's disk anyway."""


class Part(NamedTuple):
    """What one write brings to the store: a state, a delta, or nothing; it leads to `serial`."""

    state: bytes | None = None
    delta: bytes | None = None
    serial: int | None = None


@dataclass(slots=True)
class Basis:
    """The store has the state as of `serial`: `size` bytes, and `count` deltas of together `behind` bytes on it."""

    serial: int | None = None
    size: int = 0
    behind: int = 0
    count: int = 0

    @property
    def room(self) -> int:
        """Bytes that a delta may have: no more than the state, and all of them together still fit into a frame."""
        return min(self.size, MAX_STATE - self.size - self.behind)

    def since(self, worth: int) -> int | None:
        """The place a delta has to begin at; None: the state has to be written whole."""
        short = self.count < MAX_DELTAS and self.behind <= self.size and self.room > 0
        return self.serial if short and self.size >= worth else None

    def loaded(self, record: Record, serial: int | None) -> None:
        """The container was given what `record` has, and is at `serial` with it."""
        self.serial = serial
        self.size = len(record.state or b"")
        self.behind = sum(map(len, record.deltas))
        self.count = len(record.deltas)

    def wrote(self, part: Part) -> None:
        """The store took it."""
        self.serial = part.serial
        if part.state is not None:
            self.size, self.behind, self.count = len(part.state), 0, 0
        if part.delta is not None:
            self.behind += len(part.delta)
            self.count += 1

    def forget(self) -> None:
        """Nobody knows what the store has."""
        self.serial = None
