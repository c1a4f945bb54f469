"""Which version of which function the mesh runs (DESIGN §6): name → hash, last writer wins.

Decides which of two pointers is newer. Refuses to know bundles, disks and peers.
"""

from collections.abc import Iterable
from typing import NamedTuple


class Pointer(NamedTuple):
    """What `name` means since `version`, said by node `by`; an empty hash is a removal."""

    name: str
    version: int
    by: str
    hash: str


def supersedes(new: Pointer, old: Pointer | None) -> bool:
    """Whether `new` replaces `old`: the higher version, and the node name breaks a tie."""
    return old is None or (new.version, new.by, new.hash) > (old.version, old.by, old.hash)


class Catalogue:
    """All pointers this node has heard of."""

    def __init__(self, pointers: Iterable[Pointer] = ()) -> None:
        self._pointers: dict[str, Pointer] = {}
        for pointer in pointers:
            self.merge(pointer)

    def merge(self, pointer: Pointer) -> bool:
        """Take in a pointer; whether it was news."""
        if not supersedes(pointer, self._pointers.get(pointer.name)):
            return False
        self._pointers[pointer.name] = pointer
        return True

    def point(self, name: str, hash_: str, by: str) -> Pointer:
        """Deploy (or with an empty hash remove) `name` here; the pointer to tell others."""
        old = self._pointers.get(name)
        pointer = Pointer(name, old.version + 1 if old else 1, by, hash_)
        self._pointers[name] = pointer
        return pointer

    def all(self) -> list[Pointer]:
        """Every pointer, removals too."""
        return list(self._pointers.values())

    def deployed(self) -> dict[str, str]:
        """The hash of every function that is not removed."""
        return {p.name: p.hash for p in self._pointers.values() if p.hash}
