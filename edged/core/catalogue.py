"""Which version of which function the mesh runs (DESIGN §6): name → hash, last writer wins.

Decides which of two pointers is newer, what a rollout makes of one, and which calls a canary gets. Refuses to
know bundles, disks and peers. A canary is part of the pointer, not a second name: then one write replaces both,
and no node can have heard of the one without the other.
"""

from collections.abc import Iterable
from typing import NamedTuple
from zlib import crc32

SHARES = range(1, 100)
"""Per cent of the sessions that a canary may get."""


class Pointer(NamedTuple):
    """What `name` means since `version`, said by node `by`; an empty hash is a removal.

    `canary` is the hash that `share` per cent of the sessions get, `before` the one to roll back to.
    """

    name: str
    version: int
    by: str
    hash: str
    canary: str = ""
    share: int = 0
    before: str = ""

    def hashes(self) -> list[str]:
        """What has to be there to serve it."""
        return [hash_ for hash_ in (self.hash, self.canary) if hash_]


def supersedes(new: Pointer, old: Pointer | None) -> bool:
    """Whether `new` replaces `old`: the higher version, and the node name breaks a tie."""
    return old is None or new[1:] > old[1:]


def deployed(old: Pointer | None, name: str, by: str, hash_: str) -> Pointer:
    """`name` means `hash_` for all; "" removes it."""
    if old is None:
        return Pointer(name, 1, by, hash_)
    before = old.hash if old.hash != hash_ else old.before
    return Pointer(name, old.version + 1, by, hash_, before=before)


def with_canary(old: Pointer | None, by: str, hash_: str, share: int) -> Pointer:
    """`share` per cent get `hash_`. Raises ValueError."""
    if share not in SHARES:
        raise ValueError("a canary gets 1 to 99 per cent")
    if old is None or not old.hash:
        raise ValueError("a canary stands beside a version that is deployed, and there is none")
    if old.hash == hash_:
        raise ValueError("this is the version that is deployed")
    return old._replace(version=old.version + 1, by=by, canary=hash_, share=share)


def promoted(old: Pointer, by: str) -> Pointer:
    """All get the canary. Raises ValueError."""
    if not old.canary:
        raise ValueError(f"{old.name} has no canary")
    return deployed(old, old.name, by, old.canary)


def rolled_back(old: Pointer, by: str) -> Pointer:
    """Without the canary; without one, the version before. Raises ValueError."""
    if old.canary:
        return old._replace(version=old.version + 1, by=by, canary="", share=0)
    if not old.hash or not old.before:
        raise ValueError(f"{old.name} has no version before this one")
    return deployed(old, old.name, by, old.before)


def in_canary(key: str, share: int) -> bool:
    """Whether a session (or a call without one, by a key of its own) is among the `share` per cent.

    The same on all nodes, and a session stays in when the share grows.
    """
    return crc32(key.encode()) % 100 < share


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

    def get(self, name: str) -> Pointer | None:
        """What `name` means; a removal, too."""
        return self._pointers.get(name)

    def all(self) -> list[Pointer]:
        """Every pointer, removals too."""
        return list(self._pointers.values())

    def deployed(self) -> dict[str, Pointer]:
        """Every function that is not removed."""
        return {p.name: p for p in self._pointers.values() if p.hash}
