"""A store whose answers are looked at: a session that went back is refused, never silently continued (DESIGN §5.3).

Decides nothing but when to look (`core.regression` does): at every answer, for every read and write of a node, and of
those it serves its store to, comes by here; and at all that the node knows of when the store comes back, before others
have written to what went back. Refuses to know drivers and sessions.
"""

import logging
from collections.abc import Callable
from functools import partial

import trio

from edged.core.records import (
    MAX_PAGE,
    Forget,
    Listed,
    ListSessions,
    Load,
    Op,
    Outcome,
    StoreFailed,
    Write,
    Written,
)
from edged.core.regression import Guard, Regression

from .hub import boottime
from .stores import Store, StoreStatistics, answer_soon

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.2
"""Between two looks at whether the store was away."""

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
        regression = self._guard.look(op, outcome, boottime())
        if regression is not None:
            self._tell(regression)
            won = isinstance(outcome, Written) and outcome.won
            outcome = StoreFailed(None if won else False, regression.reason)
        done(outcome)

    def _tell(self, regression: Regression) -> None:
        log.error("%s/%s: %s", *regression.key, regression.reason)
        self._frozen(regression)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve; started when the store within is."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._store.run)
            task_status.started()
            await self._look_after()

    async def _look_after(self) -> None:
        """Whenever the store was away, look at everything once."""
        lives = self._store.statistics().lives
        while True:
            await trio.sleep(LOOK_SECONDS)
            now = self._store.statistics().lives
            if now != lives and await self._audit():
                lives = now

    async def _audit(self) -> bool:
        """Page by page; False if the store is away again."""
        op = ListSessions()
        while True:
            outcome = await self._audited(op)
            if not isinstance(outcome, Listed):
                return False
            if len(outcome.rows) < MAX_PAGE:
                return True
            op = op._replace(after=outcome.rows[-1][0])

    async def _audited(self, op: ListSessions) -> Outcome:
        """A page, looked at as it is answered: when this task goes on, later writes may have been answered too."""
        answered = trio.Event()
        outcomes: list[Outcome] = []

        def done(outcome: Outcome) -> None:
            for regression in self._guard.audit(op, outcome, boottime()) if isinstance(outcome, Listed) else ():
                self._tell(regression)
            outcomes.append(outcome)
            answered.set()

        self._store.submit(op, done)
        await answered.wait()
        return outcomes[0]

    def statistics(self) -> StoreStatistics:
        """As of the store within."""
        return self._store.statistics()
