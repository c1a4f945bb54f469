"""The embedded store's file and thread: refusals, full and broken disks, kills, the end."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from edged.core.records import (
    Entry,
    ListAlarms,
    Load,
    Loaded,
    Op,
    Outcome,
    Renew,
    SessionKey,
    StoreFailed,
    Write,
    Written,
)
from edged.daemon.stores import StoreUnusable, ask, open_store, sqlite
from edged.daemon.stores.database import Database
from edged.daemon.stores.mesh import MeshStore
from edged.daemon.stores.redis import RedisStore
from edged.daemon.stores.schema import StoreCorrupt, StoreInUse, StoreVersion
from edged.daemon.stores.sqlite import SqliteStore

PROGRAM = Path(__file__).with_name("store_program.py")


def write(session: str, version: int, durable: bool = False, state: bytes = b"s") -> Write:
    """The commit of `version` on top of the one before, with one result."""
    call = Entry(version.to_bytes(16, "big"), 0, b"", version)
    epoch = 1 if version > 1 else 0
    rest = (1, version, "remote", None, None, None, state, (call,), 8, 4096, durable)
    return Write(SessionKey("f", session), epoch, version - 1, *rest)  # type: ignore[arg-type]


async def refused(path: Path) -> StoreUnusable:
    """Why the store at `path` does not open."""
    async with trio.open_nursery() as nursery:
        with pytest.raises(StoreUnusable) as caught:
            await nursery.start(SqliteStore(path).run)
    return caught.value


# ---- opening


async def test_a_store_belongs_to_one_daemon(tmp_path: Path) -> None:
    """While one process has the file, a second is refused in words; afterwards it may have it."""
    path = tmp_path / "store.db"
    first = Database(path)
    error = await refused(path)
    assert isinstance(error, StoreInUse)
    assert "in use by another edged process" in str(error)
    first.close()
    Database(path).close()


def filled(path: Path) -> bytes:
    """The bytes of a store with some sessions in it."""
    database = Database(path)
    database.apply([write(f"{n}", 1, state=b"s" * 500) for n in range(100)])
    database.close()
    return path.read_bytes()


@pytest.mark.parametrize("damage", ["empty", "half", "header", "tree", "text", "other"])
async def test_a_damaged_file_is_refused_and_left_alone(tmp_path: Path, damage: str) -> None:
    """A file that is not a whole store is refused by name; nothing begins anew in its place."""
    path = tmp_path / "store.db"
    whole = filled(path)
    if damage == "other":
        path.unlink()
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE notes (text)")
    else:
        spoiled = {
            "empty": b"",
            "half": whole[: len(whole) // 2],
            "header": b"\xff" * 100 + whole[100:],
            "tree": whole[:8192] + os.urandom(len(whole) - 8192),
            "text": b"to be, or not to be\n" * 1000,
        }
        path.write_bytes(spoiled[damage])
    error = await refused(path)
    assert isinstance(error, StoreCorrupt)
    assert str(path) in str(error)
    again = await refused(path)
    assert isinstance(again, StoreCorrupt)


def leave(path: str, data: bytes) -> None:
    """Put a file where a former life left it."""
    Path(path).write_bytes(data)


async def test_a_log_without_its_store_is_refused(tmp_path: Path) -> None:
    """A store whose main file is gone is not replaced by an empty one."""
    path = tmp_path / "store.db"
    leave(f"{path}-wal", b"x")
    assert isinstance(await refused(path), StoreCorrupt)
    assert not path.exists()


async def test_a_file_of_a_later_version_is_refused(tmp_path: Path) -> None:
    """What a later edged has written is not read by guesswork."""
    path = tmp_path / "store.db"
    filled(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE meta SET value = '4' WHERE name = 'schema'")
    assert isinstance(await refused(path), StoreVersion)


async def test_a_file_of_the_first_version_is_taken_over(tmp_path: Path) -> None:
    """A store from before deltas were kept has all it had, and takes them from then on."""
    path = tmp_path / "store.db"
    database = Database(path)
    database.apply([write("a", 1, state=b"small")])
    database.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript("DROP TABLE parts; DROP TABLE due; UPDATE meta SET value = '1' WHERE name = 'schema';")
        connection.execute("UPDATE sessions SET state = ?", (b"l" * 5000,))
    database = Database(path)
    database.apply([write("a", 2)._replace(state=None, delta=b"d", alarms=b"a", due=1.0)])
    assert [key.session for key, _ in database.apply([ListAlarms(2.0)])[0].rows] == ["a"]  # type: ignore[union-attr, misc]
    database.close()
    database = Database(path)
    (got,) = database.apply([Load(SessionKey("f", "a"))])
    assert isinstance(got, Loaded)
    assert got.record is not None
    assert (got.record.state, got.record.deltas) == (b"l" * 5000, (b"d",))
    database.close()


def test_a_delta_writes_its_own_bytes_and_not_the_state_again(tmp_path: Path) -> None:
    """To a state of 1 MiB ten deltas of 100 bytes add less than a quarter of it to the file and its log."""
    path = tmp_path / "store.db"
    database = Database(path)
    database.apply([write("a", 1, state=b"s" * (1 << 20))])

    def on_disk() -> int:
        return sum(Path(f"{path}{end}").stat().st_size for end in ("", "-wal"))

    before = on_disk()
    for version in range(2, 12):
        database.apply([write("a", version)._replace(state=None, delta=b"d" * 100)])
    added = on_disk() - before
    database.close()
    assert added < (1 << 20) // 4, added


async def test_a_store_that_cannot_be_there_is_refused(tmp_path: Path) -> None:
    """A directory that does not exist is a refusal, not a crash."""
    assert "No such file" in str(await refused(tmp_path / "nowhere" / "store.db"))


async def test_a_creation_cut_short_is_begun_again(tmp_path: Path) -> None:
    """What a kill left of a file in the making does not stop the next start."""
    path = tmp_path / "store.db"
    leave(f"{path}.new", b"half of a store")
    Database(path).close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_urls_name_drivers(tmp_path: Path) -> None:
    """A URL gives its driver, or an error that says what would."""

    def reach(node: str) -> Any:
        return lambda *_: node == "hall-3"

    assert isinstance(open_store("sqlite:", tmp_path, reach=reach, timers=None), SqliteStore)  # type: ignore[arg-type]
    assert isinstance(open_store("mesh:hall-3", tmp_path, reach=reach, timers=None), MeshStore)  # type: ignore[arg-type]
    assert isinstance(open_store("redis://hall-3", tmp_path, reach=reach, timers=None), RedisStore)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="was expected, not 'mysql:x'"):
        open_store("mysql:x", tmp_path, reach=reach, timers=None)  # type: ignore[arg-type]


# ---- fsync, full and broken disks


def test_only_durable_batches_wait_for_the_disk(tmp_path: Path) -> None:
    """A batch with a durable operation or a lease is committed with FULL, any other with NORMAL."""
    database = Database(tmp_path / "store.db")
    steps: list[tuple[list[Op], int]] = [
        ([write("a", 1)], 1),
        ([write("a", 2), write("b", 1, durable=True), write("a", 3)], 2),
        ([Load(SessionKey("f", "a"))], 1),
        ([Renew("node", "boot", 1, 3.0)], 2),
        ([write("a", 4)], 1),
    ]
    for ops, level in steps:
        database.apply(ops)
        assert database._connection.execute("PRAGMA synchronous").fetchone() == (level,)
    database.close()


def run_program(directory: Path, *arguments: str, before: Sequence[str] = ()) -> list[Any]:
    """What the store program reports, a JSON value a line."""
    command = [*before, sys.executable, str(PROGRAM), str(directory), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def check_acknowledged(directory: Path, acknowledged: Sequence[Sequence[Any]]) -> None:
    """Every acknowledged write is in the file, with the result it brought."""
    highest: dict[str, int] = {}
    for session, version in acknowledged:
        highest[session] = max(version, highest.get(session, 0))
    assert highest
    database = Database(directory / "store.db")
    for session, version in highest.items():
        outcome = database.apply([Load(SessionKey("f", session))])[0]
        assert isinstance(outcome, Loaded)
        assert outcome.record is not None
        assert outcome.record.version >= version
        assert [e.version for e in outcome.results][-1] == outcome.record.version
    database.close()


def test_a_full_disk_refuses_writes_and_passes(tmp_path: Path) -> None:
    """Without space writes certainly do not apply, reads go on; with space again all is as before."""
    script = f'mount -t tmpfs -o size=2m none "{tmp_path}" && exec "$@"'
    unshare = ["unshare", "-m" if os.geteuid() == 0 else "-rm", "sh", "-c", script, "sh"]
    if not shutil.which("unshare") or subprocess.run([*unshare, "true"], check=False).returncode:
        pytest.skip("needs a name space of its own for a small disk")
    before, full, read, after, problem = run_program(tmp_path, "fill", before=unshare)
    assert (before, read, after, problem) == ("won", "loaded", "won", None)
    assert full[0] is False
    assert "full" in full[1]


@pytest.mark.parametrize("fault", ["size", "fsync"])
def test_an_io_error_is_final_and_loses_nothing_acknowledged(tmp_path: Path, fault: str) -> None:
    """After one failed write or fsync nothing is answered; what was answered before is in the file."""
    strace = ["strace", "-f", "-o", "/dev/null", "-e", "inject=fsync,fdatasync:error=EIO:when=40+"]
    if fault == "fsync" and (
        not shutil.which("strace") or subprocess.run([*strace, "true"], check=False).returncode
    ):
        pytest.skip("needs strace to break fsync")
    lines = run_program(tmp_path, "break", fault, before=strace if fault == "fsync" else ())
    acknowledged, first, later, problem = lines[:-3], *lines[-3:]
    assert first[0] in (None, False)
    assert later[0] is False
    assert "disk failed" in later[1]
    assert problem == later[1]
    # The log was not moved into the database on a disk that had failed.
    assert (tmp_path / "store.db-wal").stat().st_size > 0
    check_acknowledged(tmp_path, acknowledged)


def test_a_kill_loses_nothing_acknowledged(tmp_path: Path) -> None:
    """SIGKILL in the middle of durable writes: every acknowledged one is there after the restart."""
    for _ in range(3):
        command = [sys.executable, str(PROGRAM), str(tmp_path), "write"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(300)]
            process.send_signal(signal.SIGKILL)
            lines += process.stdout.readlines()
        whole = [json.loads(line) for line in lines if line.endswith("\n")]
        assert len(whole) >= 300
        check_acknowledged(tmp_path, whole)


# ---- the thread


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
