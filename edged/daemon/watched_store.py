"""Any store, and how its last answers were (DESIGN §5, §9).

Decides what is said of the store's health. A disk that is full answers reads and refuses writes, so the last
write counts beside whatever was asked just now. Refuses to know drivers.
"""

from collections.abc import Callable
from functools import partial

import trio

from edged.core.records import Op, Outcome, StoreFailed, Write

from .stores import Store, StoreStatistics, ask

PROBE_SECONDS = 2.0
"""As long as a call may wait for the store."""


class WatchedStore:
    """A `Store` around another one."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._refused: str | None = None

    def submit(self, op: Op, done: Callable[[Outcome], None]) -> None:
        """As of the store within."""
        if type(op) is Write:
            done = partial(self._written, done)
        self._store.submit(op, done)

    def _written(self, done: Callable[[Outcome], None], outcome: Outcome) -> None:
        self._refused = outcome.reason if type(outcome) is StoreFailed else None
        done(outcome)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """As of the store within."""
        await self._store.run(task_status=task_status)

    def statistics(self) -> StoreStatistics:
        """As of the store within."""
        return self._store.statistics()

    async def probe(self, op: Op) -> tuple[Outcome, str | None]:
        """The outcome of `op`, which only reads, and why the store is failing, or None if it is not."""
        outcome: Outcome = StoreFailed(None, f"no answer in {PROBE_SECONDS:g} s")
        with trio.move_on_after(PROBE_SECONDS):
            outcome = await ask(self, op)
        if isinstance(outcome, StoreFailed):
            return outcome, outcome.reason
        if self._refused is not None:
            return outcome, f"the last write: {self._refused}"
        return outcome, self.statistics().problem
