"""The store whose answers are looked at: what it refuses, and what it must not."""

from collections.abc import AsyncIterator, Callable

import pytest
import trio
import trio.testing

from edged.core.records import (
    Listed,
    ListSessions,
    Load,
    Loaded,
    Op,
    Outcome,
    Record,
    SessionKey,
    StoreFailed,
)
from edged.core.regression import Guard, Regression
from edged.daemon import guarded_store
from edged.daemon.guarded_store import GuardedStore
from edged.daemon.stores import StoreStatistics

KEY = SessionKey("f", "s")
PATIENCE = 60


def record(version: int) -> Record:
    """A session at that version."""
    return Record(1, "remote", None, None, version, None, b"", False, 1, 0.0, None)


class Asked:
    """A store that is answered by the test."""

    def __init__(self) -> None:
        self.ops: list[tuple[Op, Callable[[Outcome], None]]] = []
        self.lives = 1

    def submit(self, op: Op, done: Callable[[Outcome], None]) -> None:
        self.ops.append((op, done))

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()

    def statistics(self) -> StoreStatistics:
        return StoreStatistics("asked", None, 0, 0, 0, 0, lives=self.lives)

    async def asked(self) -> tuple[Op, Callable[[Outcome], None]]:
        """The next operation, when it comes."""
        with trio.fail_after(PATIENCE):
            while not self.ops:  # noqa: ASYNC110 - it comes from a task that has no event for it
                await trio.sleep(0.001)
        return self.ops.pop(0)


@pytest.fixture
def within() -> Asked:
    """The store within."""
    return Asked()


@pytest.fixture
async def guarded(
    within: Asked, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[GuardedStore, list[Regression]]]:
    """A store around it that looks often, and what it has told of."""
    monkeypatch.setattr(guarded_store, "LOOK_SECONDS", 0.001)
    told: list[Regression] = []
    store = GuardedStore(within, Guard(), told.append)
    await nursery.start(store.run)
    yield store, told


async def seen(store: GuardedStore, within: Asked, version: int) -> Outcome:
    """Read the session at that version."""
    outcomes: list[Outcome] = []
    store.submit(Load(KEY), outcomes.append)
    _, done = await within.asked()
    done(Loaded(record(version)))
    return outcomes[0]


async def test_a_session_that_went_back_is_asked_for_no_more(
    guarded: tuple[GuardedStore, list[Regression]], within: Asked
) -> None:
    """The answer that shows it is a refusal, told once; what comes later is refused without asking."""
    store, told = guarded
    assert await seen(store, within, 5) == Loaded(record(5))
    refused = await seen(store, within, 4)
    assert isinstance(refused, StoreFailed)
    assert refused.applied is False
    outcomes: list[Outcome] = []
    store.submit(Load(KEY), outcomes.append)
    assert outcomes == within.ops == []
    await trio.testing.wait_all_tasks_blocked()
    assert outcomes == [refused]
    assert told == [Regression(KEY, (1, 5), (1, 4))]


async def test_a_listing_is_as_old_as_its_answer(
    guarded: tuple[GuardedStore, list[Regression]], within: Asked
) -> None:
    """A page that was answered just before a later record is no sign that the session went back."""
    store, told = guarded
    await seen(store, within, 5)
    within.lives = 2
    op, page = await within.asked()
    assert op == ListSessions()
    outcomes: list[Outcome] = []
    store.submit(Load(KEY), outcomes.append)
    _, read = await within.asked()
    page(Listed(((KEY, record(5)),)))
    read(Loaded(record(6)))
    await trio.testing.wait_all_tasks_blocked()
    assert (outcomes, told) == ([Loaded(record(6))], [])


async def test_a_store_that_comes_back_is_looked_at_whole(
    guarded: tuple[GuardedStore, list[Regression]], within: Asked
) -> None:
    """What went back is found without being asked for; a look that failed is taken again."""
    store, told = guarded
    await seen(store, within, 5)
    within.lives = 2
    _, page = await within.asked()
    page(StoreFailed(False, "away again"))
    _, page = await within.asked()
    page(Listed(((KEY, record(3)),)))
    assert told == [Regression(KEY, (1, 5), (1, 3))]
