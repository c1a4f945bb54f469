"""The places for containers on one node (DESIGN §8). Decides which container gives way when none is free: an idle one,
and where a function has none at all one of another's `[pool] min`, or one that has had its time.

Refuses to know how containers start and end.
"""

from collections.abc import Callable, Iterable

import trio

from .deployed import Deployed, Worker

SLICE = 0.25
"""Seconds a container works before it may have to end for a function that has none: some ten times what a start takes."""


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

    def gives_way(self, worker: Worker, starved: Iterable[Deployed], now: float) -> bool:
        """Whether a pool's container that has just answered should end, because one of the `starved` has none at all."""
        counts = {version: len(version.pool.containers()) for version in self._versions()}
        if not any(counts.get(one) == 0 and not one.pool.starting for one in starved):
            return False
        return counts.get(worker.function) == max(counts.values()) and now - worker.since > SLICE

    def _idle_elsewhere(self, asking: Deployed | None) -> Worker | None:
        now = trio.current_time()
        for function in self._versions():
            for worker in function.pool.idle(now, 0.0) if function is not asking else ():
                assert isinstance(worker, Worker)
                return worker
        if asking is None or asking.pool.containers() or asking.pool.starting:
            return None
        return self._of_a_minimum(asking)

    def _of_a_minimum(self, asking: Deployed) -> Worker | None:
        """`[pool] min` is for calls that do not have to wait, not for others that never run."""
        for function in self._versions():
            idlest = function.pool.idlest() if function is not asking else None
            if idlest is not None:
                assert isinstance(idlest, Worker)
                return idlest
        return None
