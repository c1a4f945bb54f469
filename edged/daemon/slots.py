"""The places for containers on one node (DESIGN §8). Decides which idle container gives way when none is free.

Refuses to know how containers start and end.
"""

from collections.abc import Callable, Iterable

import trio

from .deployed import Deployed, Worker


class Slots:
    """`total` of them; `starting` and `alive` are kept by who starts containers."""

    def __init__(self, total: int, versions: Callable[[], Iterable[Deployed]], end: Callable[[Worker], None]) -> None:
        self.total = total
        self.starting = 0
        self.alive: set[Worker] = set()
        self._versions = versions
        self._end = end

    @property
    def used(self) -> int:
        """Slots taken."""
        return len(self.alive) + self.starting

    @property
    def spare(self) -> int:
        """Slots free."""
        return self.total - self.used

    def has_room(self, asking: Deployed | None) -> bool:
        """Whether `make_room` would find any."""
        return self.spare > 0 or self._idle_elsewhere(asking) is not None

    def make_room(self, asking: Deployed | None) -> bool:
        """Whether a slot is free, after ending an idle pool container if need be: for the pool of `asking` one of
        another function, for a session (None) any."""
        if self.spare > 0:
            return True
        idle = self._idle_elsewhere(asking)
        if idle is not None:
            self._end(idle)
        return idle is not None

    def _idle_elsewhere(self, asking: Deployed | None) -> Worker | None:
        now = trio.current_time()
        for function in self._versions():
            for worker in function.pool.idle(now, 0.0) if function is not asking else ():
                assert isinstance(worker, Worker)
                return worker
        return None
