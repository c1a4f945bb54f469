"""The embedded store's file: its tables, how it is made, and why it may be refused.

Decides whether a file may be used. Refuses to know sessions' rules and threads. A file that is not
whole is refused, never replaced by an empty one: epochs that start again at 0 have two owners.
"""

import fcntl
import os
import secrets
import sqlite3
from contextlib import closing
from pathlib import Path

VERSION = 3

TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE sessions (
    id INTEGER PRIMARY KEY,
    function TEXT NOT NULL,
    session TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    mode TEXT NOT NULL,
    owner TEXT,
    owner_boot TEXT,
    version INTEGER NOT NULL,
    move BLOB,
    floor INTEGER NOT NULL,
    schema INTEGER NOT NULL,
    updated REAL NOT NULL,
    alarms BLOB,
    state BLOB,                     -- NULL: it lies in `parts`, or there is none
    UNIQUE (function, session)
);
CREATE TABLE results (
    session INTEGER NOT NULL,       -- sessions.id
    slot INTEGER NOT NULL,          -- a place in the window, used again when its result is dropped
    seq INTEGER NOT NULL,           -- rises with age; the order of the window
    call_id BLOB NOT NULL,
    code INTEGER NOT NULL,
    body BLOB,
    version INTEGER NOT NULL,
    PRIMARY KEY (session, slot)
) WITHOUT ROWID;
CREATE TABLE leases (
    node TEXT PRIMARY KEY,
    boot TEXT NOT NULL,
    seq INTEGER NOT NULL,
    ttl REAL NOT NULL
) WITHOUT ROWID;
"""

PARTS = """
CREATE TABLE parts (
    id INTEGER PRIMARY KEY,         -- sessions.id * 256 + number: 0 is the state, the others its deltas
    data BLOB NOT NULL
);
"""
"""Of version 2: what a write of the session's row would otherwise write again."""

DUE = """
CREATE TABLE due (
    id INTEGER PRIMARY KEY,         -- sessions.id
    at REAL NOT NULL                -- Unix seconds: when the first of its alarms is due
);
"""
DUE_ORDER = "CREATE INDEX due_order ON due (at);"
"""Of version 3."""

WAL_KEPT = 16 * 1024 * 1024
"""Bytes the log file keeps after a checkpoint; a burst must not hold the disk for ever."""

PAGE_CACHE_KIB = 4096
"""SQLite's own cache; the rows in use are in ours."""


class StoreUnusable(Exception):
    """This store cannot be opened; the message is for the operator."""


class StoreInUse(StoreUnusable):
    """Another process has it."""


class StoreCorrupt(StoreUnusable):
    """The file is damaged, incomplete, or not a store."""


class StoreVersion(StoreUnusable):
    """The file was written by a later version of edged."""


def lock(path: Path, within: str = "") -> int:
    """Take the lock of a file, or of a directory that has it `within`, for as long as the returned descriptor is open.

    Raises StoreInUse.
    """
    name = path / within if within else f"{path}.lock"
    descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise StoreInUse(f"{path} is in use by another edged process") from error
    return descriptor


def open_file(path: Path) -> sqlite3.Connection:
    """A connection of this thread to the store at `path`, made if it is not there."""
    if not path.exists():
        _refuse_orphan(path)
        _create(path)
    try:
        return _opened(path)
    except sqlite3.Error as error:
        raise StoreCorrupt(f"{path} is not a usable store: {error}") from error


def _refuse_orphan(path: Path) -> None:
    log = Path(f"{path}-wal")
    if log.exists() and log.stat().st_size:
        raise StoreCorrupt(f"{path} is missing but {log} is there: restore both, or remove it too")


def _create(path: Path) -> None:
    """Make a whole, empty store under another name, then give it its own: never half of one."""
    fresh = Path(f"{path}.new")
    fresh.unlink(missing_ok=True)
    os.close(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    with closing(sqlite3.connect(fresh, isolation_level=None)) as connection:
        connection.executescript(f"BEGIN; {TABLES} {PARTS} {DUE} {DUE_ORDER} COMMIT;")
        rows = [("store", secrets.token_hex(16)), ("schema", str(VERSION))]
        connection.executemany("INSERT INTO meta VALUES (?, ?)", rows)
    _sync(fresh)
    fresh.rename(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _opened(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"file:{path}?mode=rw", uri=True, isolation_level=None, timeout=1.0
    )
    try:
        _settle(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _settle(connection: sqlite3.Connection, path: Path) -> None:
    # Exclusive: the log's index stays in memory, and no reader can keep the log from being emptied.
    _pragma(connection, "locking_mode", "EXCLUSIVE")
    _pragma(connection, "journal_mode", "WAL")
    connection.execute(f"PRAGMA journal_size_limit = {WAL_KEPT}")
    connection.execute(f"PRAGMA cache_size = -{PAGE_CACHE_KIB}")
    (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise StoreCorrupt(f"{path} is damaged: {found}")
    meta = dict(connection.execute("SELECT name, value FROM meta"))
    found = int(meta.get("schema", "0"))
    if found > VERSION:
        raise StoreVersion(f"{path} was written by a later version of edged")
    if found < VERSION:
        _upgrade(connection, found)


def _upgrade(connection: sqlite3.Connection, found: int) -> None:
    """From an earlier version, wholly or not at all."""
    connection.execute("BEGIN IMMEDIATE")
    for statement in ((PARTS,) if found < 2 else ()) + (DUE, DUE_ORDER):
        connection.execute(statement)
    connection.execute("UPDATE meta SET value = ? WHERE name = 'schema'", (str(VERSION),))
    connection.execute("COMMIT")


def _pragma(connection: sqlite3.Connection, name: str, value: str) -> None:
    (result,) = connection.execute(f"PRAGMA {name} = {value}").fetchone()
    if result.upper() != value:
        raise StoreUnusable(f"this file system does not support {name} = {value}, only {result}")
