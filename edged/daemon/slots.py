"""The places for containers on one node: their number, and the memory promised to them by their functions' `[limits]
memory` (DESIGN §8, §9). Decides which containers give way when a place is missing: idle ones, and where a function has
none at all those of another's `[pool] min`, or one that has had its time.

Refuses to know how containers start and end, and what memory they really take (`memory`).
"""

from collections.abc import Callable, Iterable, Iterator

import trio

from edged_protocol.limits import MIB

from .deployed import Deployed, Worker

SLICE = 0.25
"""Seconds a container works before it may have to end for a function that has none: some ten times what a start takes."""


class Slots:
    """`total` of them, and `memory` bytes, 0 for any; who starts containers tells of each start and end."""

    def __init__(
        self, total: int, memory: int, versions: Callable[[], Iterable[Deployed]], end: Callable[[Worker], None]
    ) -> None:
        self.total = total
        self.memory = memory
        self.promised = 0
        """Bytes that all containers together may take."""
        self.starting = 0
        self.alive: set[Worker] = set()
        self._versions = versions
        self._end = end

    @property
    def used(self) -> int:
        """Slots taken."""
        return len(self.alive) + self.starting

    # Starts and ends

    def begin(self, function: Deployed) -> None:
        """A container of that version is to start."""
        self.starting += 1
        self.promised += _limit(function)

    def failed(self, function: Deployed) -> None:
        """It did not."""
        self.starting -= 1
        self.promised -= _limit(function)

    def started(self, worker: Worker) -> None:
        """It did."""
        self.starting -= 1
        self.alive.add(worker)

    def ended(self, worker: Worker) -> None:
        """It is gone."""
        self.alive.remove(worker)
        self.promised -= _limit(worker.function)

    # Room

    def spare(self, function: Deployed) -> int:
        """Containers of that version for which there is room."""
        slots, limit = self.total - self.used, _limit(function)
        return slots if not self.memory or not limit else min(slots, (self.memory - self.promised) // limit)

    def has_room(self, function: Deployed, own: bool = False) -> bool:
        """Whether `make_room` would find any."""
        return self.spare(function) > 0 or bool(self._in_the_way(function, own))

    def make_room(self, function: Deployed, own: bool = False) -> bool:
        """Whether there is room, after ending idle pool containers if need be: for the pool of `function` those of other
        functions, for a session's own container any."""
        if self.spare(function) > 0:
            return True
        leaving = self._in_the_way(function, own)
        for worker in leaving:
            self._end(worker)
        return bool(leaving)

    def fits_beside_sessions(self, function: Deployed) -> bool:
        """Whether there would be room if all containers but those of local sessions ended."""
        kept = [_limit(worker.function) for worker in self.alive if worker.seats is not None]
        return len(kept) < self.total and (not self.memory or sum(kept) + _limit(function) <= self.memory)

    def full(self, function: Deployed) -> str:
        """Why there is no room, for people."""
        if self.used >= self.total:
            return f"all {self.total} container slots are taken"
        there, limit = (size // MIB for size in (self.memory, _limit(function)))
        return f"{self.promised // MIB} of {there} MiB are promised to containers, another one of this function is to have {limit} ([capacity] memory)"

    def gives_way(self, worker: Worker, starved: Iterable[Deployed], now: float) -> bool:
        """Whether a pool's container that has just answered should end, because one of the `starved` has none at all."""
        counts = {version: len(version.pool.containers()) for version in self._versions()}
        if not any(counts.get(one) == 0 and not one.pool.starting and self.fits_beside_sessions(one) for one in starved):
            return False
        return counts.get(worker.function) == max(counts.values()) and now - worker.since > SLICE

    def _in_the_way(self, function: Deployed, own: bool) -> list[Worker]:
        """Idle containers whose end makes room, as few as will do; none if that takes more than are idle. What those
        leave that end already is promised to others."""
        missing = _limit(function) - max(0, self.memory - self.promised) if self.memory else 0
        leaving: list[Worker] = []
        for worker in self._idle(function, own):
            leaving.append(worker)
            missing -= _limit(worker.function)
            if missing <= 0:
                return leaving
        return []

    def _idle(self, function: Deployed, own: bool) -> Iterator[Worker]:
        """Who may end, in that order. `[pool] min` is for calls that do not have to wait, not for others that never run."""
        now = trio.current_time()
        others = [version for version in self._versions() if own or version is not function]
        spared = [worker for version in others for worker in version.pool.idle(now, 0.0)]
        if not own and not function.pool.containers() and not function.pool.starting:
            kept = (version.pool.idlest() for version in others)
            spared += [worker for worker in kept if worker is not None and worker not in spared]
        yield from spared


def _limit(function: Deployed) -> int:
    return function.spec.manifest.limits.memory
