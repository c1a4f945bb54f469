"""The embedded store's file: which one is opened, taken over or refused, and what a write adds to it."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from support.sqlite_store import write

from edged.core.records import ListAlarms, Load, Loaded, SessionKey
from edged.daemon.stores import StoreUnusable, open_store
from edged.daemon.stores.database import Database
from edged.daemon.stores.mesh import MeshStore
from edged.daemon.stores.redis import RedisStore
from edged.daemon.stores.schema import StoreCorrupt, StoreInUse, StoreVersion
from edged.daemon.stores.sqlite import SqliteStore


async def refused(path: Path) -> StoreUnusable:
    """Why the store at `path` does not open."""
    async with trio.open_nursery() as nursery:
        with pytest.raises(StoreUnusable) as caught:
            await nursery.start(SqliteStore(path).run)
    return caught.value


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
