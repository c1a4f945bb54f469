"""A store whose answers are looked at: a session that went back is refused, never silently continued (DESIGN §5.3).

Decides nothing (`core.regression` does); here because every read and write of a node, and of those it serves its
store to, comes by. Refuses to know drivers and sessions.
"""

import logging
from collections.abc import Callable
from functools import partial

import trio

from edged.core.records import Forget, Load, Op, Outcome, StoreFailed, Write, Written
from edged.core.regression import Guard, Regression

from .stores import Store, StoreStatistics, answer_soon

log = logging.getLogger(__name__)

Done = Callable[[Outcome], None]


class GuardedStore:
    """A `Store` around another one; `frozen` is called once for each session that is found gone back."""

    def __init__(self, store: Store, guard: Guard, frozen: Callable[[Regression], None]) -> None:
        self._store = store
        self._guard = guard
        self._frozen = frozen

    def submit(self, op: Op, done: Done) -> None:
        """As of the store within; of a frozen session nothing is asked, and certainly nothing applies."""
        if isinstance(op, Load | Write | Forget):
            regression = self._guard.frozen.get(op.key)
            if regression is not None:
                answer_soon(done, StoreFailed(False, regression.reason))
                return
            done = partial(self._answered, op, done)
        self._store.submit(op, done)

    def _answered(self, op: Op, done: Done, outcome: Outcome) -> None:
        regression = self._guard.look(op, outcome)
        if regression is not None:
            log.error("%s/%s: %s", *regression.key, regression.reason)
            self._frozen(regression)
            won = isinstance(outcome, Written) and outcome.won
            outcome = StoreFailed(None if won else False, regression.reason)
        done(outcome)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """As of the store within."""
        await self._store.run(task_status=task_status)

    def statistics(self) -> StoreStatistics:
        """As of the store within."""
        return self._store.statistics()
