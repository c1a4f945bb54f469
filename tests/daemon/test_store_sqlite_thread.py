"""The embedded store's thread: its queue, its batches, its end, and a disk that does not answer."""

import os
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
import trio.testing
from support.sqlite_store import check_acknowledged, write

from edged.core.records import Op, Outcome, StoreFailed, Written
from edged.daemon.stores import ask, sqlite
from edged.daemon.stores.sqlite import SqliteStore


class Stalled:
    """A database on a disk that does not answer before it is told to."""

    problem = None

    def __init__(self, path: Path) -> None:
        self.go = threading.Event()
        self.batches: list[int] = []
        self.closed = threading.Event()
        made.append(self)

    def apply(self, ops: Sequence[Op]) -> list[Outcome]:
        """As many refusals as operations, once the disk answers."""
        self.go.wait(60)
        self.batches.append(len(ops))
        return [Written(True)] * len(ops)

    def close(self) -> None:
        """Nothing to close."""
        self.closed.set()


made: list[Stalled] = []


@pytest.fixture
def stalled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disks of stores opened from here on stall, and their end waits for a moment only."""
    monkeypatch.setattr(sqlite, "Database", Stalled)
    monkeypatch.setattr(sqlite, "CLOSE_SECONDS", 0.05)


@pytest.mark.usefixtures("stalled")
async def test_a_stalled_disk_stops_nobody(tmp_path: Path) -> None:
    """The end does not wait for a dead disk: what waits is unknown, and a late answer is harmless."""
    outcomes: list[Outcome] = []
    async with trio.open_nursery() as nursery:
        store = SqliteStore(tmp_path / "store.db")
        await nursery.start(store.run)
        for version in (1, 2, 3):
            store.submit(write("a", version), outcomes.append)
        nursery.cancel_scope.cancel()
    assert [type(o) for o in outcomes] == [StoreFailed] * 3
    assert all(isinstance(o, StoreFailed) and o.applied is None for o in outcomes)
    disk = made.pop()
    disk.go.set()
    await trio.to_thread.run_sync(disk.closed.wait, 30)
    await trio.testing.wait_all_tasks_blocked()
    assert len(outcomes) == 3
    assert sum(disk.batches) == 3


class Collected:
    """Outcomes as they come."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self._came = trio.Event()

    def __call__(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self._came.set()

    async def count(self, number: int) -> list[Outcome]:
        """All, once there are `number`."""
        while len(self.outcomes) < number:
            self._came = trio.Event()
            await self._came.wait()
        return self.outcomes


@pytest.mark.usefixtures("stalled")
@pytest.mark.parametrize(("count", "size"), [(2, 10**6), (100, 5000)])
async def test_the_queue_is_bounded(tmp_path: Path, count: int, size: int) -> None:
    """Beyond its count or its bytes an operation is refused at once as certainly not applied."""
    async with trio.open_nursery() as nursery:
        store = SqliteStore(tmp_path / "store.db", max_waiting=count, max_bytes=size)
        await nursery.start(store.run)
        taken, refused = Collected(), Collected()
        # One that is larger than the bound passes alone, or it never would.
        store.submit(write("a", 1, state=b"s" * 9000) if size == 5000 else write("a", 1), taken)
        if count == 2:
            store.submit(write("a", 2), taken)
        store.submit(write("a", 3), refused)
        assert refused.outcomes == []
        outcome = (await refused.count(1))[0]
        assert isinstance(outcome, StoreFailed)
        assert outcome.applied is False
        assert store.statistics().waiting == (2 if count == 2 else 1)
        made.pop().go.set()
        assert set(await taken.count(2 if count == 2 else 1)) == {Written(True)}
        assert store.statistics().waiting_bytes == 0
        nursery.cancel_scope.cancel()


@pytest.mark.usefixtures("stalled")
async def test_what_queues_becomes_one_batch(tmp_path: Path) -> None:
    """All that came while the disk was busy is committed together."""
    async with trio.open_nursery() as nursery:
        store = SqliteStore(tmp_path / "store.db")
        await nursery.start(store.run)
        disk = made.pop()
        outcomes = Collected()
        for version in range(1, 101):
            store.submit(write("a", version), outcomes)
        disk.go.set()
        await outcomes.count(100)
        assert len(disk.batches) <= 2
        nursery.cancel_scope.cancel()


async def test_what_is_queued_at_the_end_is_committed(tmp_path: Path) -> None:
    """A cancelled store commits and answers what it took, then closes the file."""
    outcomes: list[Outcome] = []
    path = tmp_path / "store.db"
    async with trio.open_nursery() as nursery:
        store = SqliteStore(path)
        await nursery.start(store.run)
        for version in range(1, 501):
            store.submit(write("a", version), outcomes.append)
        nursery.cancel_scope.cancel()
    assert [o.won for o in outcomes if isinstance(o, Written)] == [True] * 500
    assert "store.db-wal" not in os.listdir(tmp_path)
    check_acknowledged(tmp_path, [("a", 500)])


async def test_a_store_that_is_not_open_refuses(tmp_path: Path) -> None:
    """Before and after its life a store answers that nothing was applied."""
    store = SqliteStore(tmp_path / "store.db")
    assert await ask(store, write("a", 1)) == StoreFailed(False, "the store is not open")
    async with trio.open_nursery() as nursery:
        await nursery.start(store.run)
        nursery.cancel_scope.cancel()
    assert await ask(store, write("a", 1)) == StoreFailed(False, "the store is closed")


async def test_a_broken_callback_costs_no_other_its_answer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception in one `done` is logged; the next operation of the batch is answered."""

    def broken(_: Outcome) -> None:
        raise RuntimeError("a defect")

    async with trio.open_nursery() as nursery:
        store = SqliteStore(tmp_path / "store.db")
        await nursery.start(store.run)
        store.submit(write("a", 1), broken)
        assert isinstance(await ask(store, write("a", 2)), Written)
        nursery.cancel_scope.cancel()
    assert "a defect" in caplog.text
