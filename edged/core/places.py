"""Which container a local session gets, where several share one (DESIGN §8 `sessions_per_container`).

Decides it for one version of one function on one node: the fullest container with room, so that few are used, and
those that sessions leave become empty. The emptiest was the alternative: each call would wait less, and a node would keep
all its containers for ever. Refuses to know processes and sessions: containers are opaque keys, sessions only counted.
"""

from collections.abc import Collection, Hashable


class Places:
    """`take` before a session goes in, `leave` when it has left. A container is known from its first session to its last."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        """Sessions of one container."""
        self._taken: dict[Hashable, int] = {}
        self._shut: set[Hashable] = set()

    @property
    def free(self) -> int:
        """Places in containers that are there."""
        return sum(self.limit - self._taken[container] for container in self._open())

    def choose(self, slow: Collection[Hashable] = ()) -> Hashable | None:
        """The fullest container with room, of equal ones the oldest; none of the `slow`."""
        return max((one for one in self._open() if one not in slow), key=self._taken.__getitem__, default=None)

    def _open(self) -> list[Hashable]:
        return [one for one, taken in self._taken.items() if taken < self.limit and one not in self._shut]

    def take(self, container: Hashable) -> None:
        """One session more is, or will be, in it."""
        taken = self._taken.get(container, 0)
        assert taken < self.limit, "a container with more sessions than it may have"
        self._taken[container] = taken + 1

    def leave(self, container: Hashable) -> bool:
        """One session less; whether it was the last one. Of a container that is gone nothing is left to leave."""
        taken = self._taken.get(container, 0)
        if taken > 1:
            self._taken[container] = taken - 1
        elif taken == 1:
            self.gone(container)
        return taken == 1

    def shut(self, container: Hashable, shut: bool) -> None:
        """Let nobody in for now, or again: its sessions are asked to leave."""
        if shut and container in self._taken:
            self._shut.add(container)
        else:
            self._shut.discard(container)

    def gone(self, container: Hashable) -> None:
        """It has ended, with whatever was in it."""
        self._taken.pop(container, None)
        self._shut.discard(container)
