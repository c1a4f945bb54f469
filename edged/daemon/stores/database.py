"""The embedded store's database: a batch of operations becomes one transaction (DESIGN §10).

Decides nothing about sessions (`row` does) and knows no threads: `apply` is called by one thread.
Fsync policy: a batch with a durable operation is committed with synchronous=FULL, any other with
NORMAL, which stays consistent but may lose the last batches when the machine loses power. An I/O
error is final, one of fsync above all: what the kernel then has in memory is not what the disk has.
A full disk is not final.
"""

import ctypes
import os
import sqlite3
import time
from collections import OrderedDict
from collections.abc import Sequence
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal

from edged.core.records import (
    MAX_PAGE,
    Entry,
    Forget,
    Lease,
    Leased,
    LeaseTable,
    ListAlarms,
    Listed,
    ListSessions,
    Load,
    Op,
    Outcome,
    ReadLeases,
    Record,
    Renew,
    SessionKey,
    StoreFailed,
    Write,
)
from edged.core.row import AS_IT_WAS, Row, Slot, renews

from .interface import durable
from .schema import lock, open_file

CACHE_BYTES = 16 * 1024 * 1024
"""Rows kept in memory between batches; a Raspberry Pi has this to spare."""

MAX_LEASES = 1024
"""As many nodes as a mesh knows."""

CHUNK = 16
"""Rows of one statement: each statement gives up the interpreter, which costs more than a row."""

INLINE_BYTES = 2048
"""A larger state lies in `parts`: half a page, so that a write of a row writes no chain of pages again."""

_FINAL = {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def _many(head: str, columns: int, tail: str = "") -> tuple[str, str]:
    """The statement for one row and the one for CHUNK rows."""
    row = "(" + ", ".join("?" * columns) + ")"
    return f"{head} VALUES {row} {tail}", f"{head} VALUES {', '.join([row] * CHUNK)} {tail}"


_META = "epoch, mode, owner, owner_boot, version, move, floor, schema, updated, alarms"
_FIND = f"SELECT id, state, {_META} FROM sessions WHERE function = ? AND session = ?"
# One row for all of them: each row of an answer gives up the interpreter, and a busy loop takes up
# to 5 ms to hand it back; 128 rows would be most of a second.
_RESULTS = (
    "SELECT group_concat(slot || ',' || seq || ',' || hex(call_id) || ',' || code || ',' || version"
    " || ',' || iif(body IS NULL, '', '=' || hex(body)), ';') FROM results WHERE session = ?"
)
_PAGE = (
    f"SELECT function, session, {_META} FROM sessions WHERE (function, session) > (?, ?) "
    "ORDER BY function, session LIMIT ?"
)
_PAGE_OF_ONE = _PAGE.replace("ORDER", "AND function = ? ORDER", 1)
_DUE = (
    f"SELECT function, session, {_META} FROM sessions JOIN due USING (id) WHERE at < ? "
    "ORDER BY at LIMIT ?"
)
_PUT_SESSION = _many(
    f"INSERT INTO sessions (id, function, session, state, {_META})",
    14,
    "ON CONFLICT (id) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in ("state", *_META.split(", "))),
)
_PUT_RESULT = _many("INSERT OR REPLACE INTO results", 7)
_PUT_LEASE = _many("INSERT OR REPLACE INTO leases", 4)
_PUT_DUE = "INSERT OR REPLACE INTO due VALUES (?, ?)"
_CUT_DUE = "DELETE FROM due WHERE id = ?"
_PARTS = "SELECT id, data FROM parts WHERE id BETWEEN ? AND ? ORDER BY id"
_PUT_PART = "INSERT OR REPLACE INTO parts VALUES (?, ?)"
_CUT_PARTS = "DELETE FROM parts WHERE id BETWEEN ? AND ?"
_CUT_SESSION = "DELETE FROM sessions WHERE id = ?"
_CUT_RESULT = "DELETE FROM results WHERE session = ? AND slot = ?"


def _record(fields: Sequence[Any]) -> Record:
    epoch, mode, owner, boot, version, move, floor, schema, updated, alarms = fields
    return Record(
        epoch, mode, owner, boot, version, move, None, bool(floor), schema, updated, alarms
    )


def _slot(text: str) -> Slot:
    slot, seq, call_id, code, version, body = text.split(",")
    kept = bytes.fromhex(body[1:]) if body else None
    return Slot(int(slot), int(seq), Entry(bytes.fromhex(call_id), int(code), kept, int(version)))


def _large(row: Row) -> bool:
    return row.state is not None and len(row.state) > INLINE_BYTES


def _range(session: int) -> tuple[int, int]:
    """The first and last id that parts of a session may have."""
    return session << 8, session << 8 | 0xFF


class Database:
    """`apply` batches, then `close`; `problem` says why nothing is answered any more."""

    def __init__(self, path: Path) -> None:
        self._lock = lock(path)
        try:
            self._connection = open_file(path)
        except BaseException:
            os.close(self._lock)
            raise
        self.problem: str | None = None
        self._full: bool | None = None
        self._committing = False
        self._rows: OrderedDict[SessionKey, Row] = OrderedDict()
        self._held = 0
        self._dirty: list[Row] = []
        self._leases: dict[str, Lease] = {}
        self._renewed: dict[str, Lease] = {}
        self._read_all()

    def _read_all(self) -> None:
        """What is kept in memory whole: the leases, and which id is the next."""
        rows = self._connection.execute("SELECT node, boot, seq, ttl FROM leases")
        self._leases = {row[0]: Lease(*row) for row in rows}
        (last,) = self._connection.execute("SELECT max(id) FROM sessions").fetchone()
        self._next_id = (last or 0) + 1

    def close(self) -> None:
        """Close the file, unless it failed, and give up its lock."""
        if self.problem is None:
            self._connection.close()
        os.close(self._lock)

    # ---- batches

    def apply(self, ops: Sequence[Op]) -> list[Outcome]:
        """The outcomes of `ops`, done in this order and committed together."""
        if self.problem is not None:
            return [StoreFailed(False, self.problem)] * len(ops)
        try:
            return self._transaction(ops)
        except Exception as error:  # noqa: BLE001 - whatever one operation is, the store goes on
            applied = self._undo(error)
            if len(ops) == 1 or self.problem is not None:
                return [StoreFailed(applied, str(error))] * len(ops)
        # One of them cannot be done, or the disk is full: each answers for itself.
        return [outcome for op in ops for outcome in self.apply([op])]

    def _transaction(self, ops: Sequence[Op]) -> list[Outcome]:
        self._sync_level(any(map(durable, ops)))
        now = time.time()  # noqa: TID251 - kept on disk for people to read, compared with nothing
        outcomes = [self._one(op, now) for op in ops]
        self._flush()
        if self._connection.in_transaction:
            self._committing = True
            self._connection.execute("COMMIT")
            self._committing = False
        self._evict()
        return outcomes

    def _sync_level(self, full: bool) -> None:
        if full is not self._full:
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if full else 'NORMAL'}")
            self._full = full

    def _undo(self, error: Exception) -> Literal[False] | None:
        """Forget everything of a failed batch; False if certainly nothing of it is in the file."""
        in_doubt, self._committing = self._committing, False
        self._rows.clear()
        self._dirty.clear()
        self._renewed.clear()
        self._held = 0
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        try:
            if code not in _FINAL and self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            if code not in _FINAL:
                self._read_all()
        except sqlite3.Error as worse:
            error, code = worse, sqlite3.SQLITE_IOERR
        if code not in _FINAL:
            return False
        self._give_up(str(error))
        return None if in_doubt else False

    def _give_up(self, reason: str) -> None:
        self.problem = f"the store's disk failed: {reason}"
        # Closing would move the log into the database and fsync again, over pages the kernel may
        # have dropped: the connection must outlive the interpreter. The next start checks the log.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._connection))

    # ---- operations

    def _one(self, op: Op, now: float) -> Outcome:
        match op:
            case Write() | Forget():
                return self._change(op, now)
            case Load():
                return self._row(op.key).load(op)
            case ListSessions():
                return self._list(op)
            case ListAlarms():
                return self._due(op)
            case Renew():
                return self._renew(op)
            case ReadLeases():
                return LeaseTable(tuple(self._leases[node] for node in sorted(self._leases)))

    def _change(self, op: Write | Forget, now: float) -> Outcome:
        row = self._row(op.key)
        clean, before = not row.dirty, row.size
        if isinstance(op, Forget):
            outcome = row.forget(op)
        else:
            outcome = row.write(op, self._lease_seq(op), now)
        if clean and row.dirty:
            self._dirty.append(row)
        self._held += row.size - before
        return outcome

    def _lease_seq(self, op: Write) -> int | None:
        lease = self._leases.get(op.lease[0]) if op.lease is not None else None
        return lease.seq if lease is not None else None

    def _list(self, op: ListSessions) -> Outcome:
        self._flush()
        after = op.after or ("", "")
        limit = min(op.limit, MAX_PAGE)
        if op.function is None:
            found = self._connection.execute(_PAGE, (*after, limit))
        else:
            found = self._connection.execute(_PAGE_OF_ONE, (*after, op.function, limit))
        return Listed(tuple((SessionKey(f[0], f[1]), _record(f[2:])) for f in found))

    def _due(self, op: ListAlarms) -> Outcome:
        self._flush()
        found = self._connection.execute(_DUE, (op.before, min(op.limit, MAX_PAGE)))
        return Listed(tuple((SessionKey(f[0], f[1]), _record(f[2:])) for f in found))

    def _renew(self, op: Renew) -> Outcome:
        have = self._leases.get(op.node)
        if not renews(op, have):
            return Leased(False, 0 if have is None else have.seq)
        if have is None and len(self._leases) >= MAX_LEASES:
            return StoreFailed(False, f"{MAX_LEASES} nodes have a lease already")
        self._leases[op.node] = self._renewed[op.node] = Lease(op.node, op.boot, op.seq, op.ttl)
        return Leased(True, op.seq)

    # ---- rows

    def _row(self, key: SessionKey) -> Row:
        row = self._rows.get(key)
        if row is None:
            row = self._rows[key] = self._read(key)
            self._held += row.size
        else:
            self._rows.move_to_end(key)
        return row

    def _read(self, key: SessionKey) -> Row:
        found = self._connection.execute(_FIND, key).fetchone()
        if found is None:
            return Row(key)
        (results,) = self._connection.execute(_RESULTS, (found[0],)).fetchone()
        slots = sorted(map(_slot, results.split(";")), key=attrgetter("seq")) if results else []
        parts = list(self._connection.execute(_PARTS, _range(found[0])))
        state, deltas = found[1], [data for _, data in parts]
        if parts and parts[0][0] == _range(found[0])[0]:
            state = deltas.pop(0)
        row = Row(key, found[0], _record(found[2:]), state, slots, deltas, bool(parts))
        row.whole = found[1] is None or not _large(row)  # version 1 kept large ones in the row
        return row

    def _evict(self) -> None:
        """Bound the memory; only between batches, when the file has everything."""
        while self._held > CACHE_BYTES:
            self._held -= self._rows.popitem(last=False)[1].size

    def _flush(self) -> None:
        """Bring what the batch has changed so far into the transaction."""
        if not self._dirty and not self._renewed:
            return
        if not self._connection.in_transaction:
            self._connection.execute("BEGIN IMMEDIATE")
        self._cut()
        self._put(_PUT_SESSION, [self._columns(row) for row in self._dirty if row.record])
        self._put_parts()
        self._put_due()
        self._put(_PUT_RESULT, self._results())
        self._put(_PUT_LEASE, list(self._renewed.values()))
        for row in self._dirty:
            row.dirty = False
            row.whole, row.written = True, len(row.deltas)
            row.due = AS_IT_WAS
            row.changed.clear()
        self._dirty.clear()
        self._renewed.clear()

    def _columns(self, row: Row) -> tuple[Any, ...]:
        if not row.id:
            row.id, self._next_id = self._next_id, self._next_id + 1
        r = row.record
        assert r is not None
        meta = (r.epoch, r.mode, r.owner, r.owner_boot, r.version, r.move)
        rest = (r.floor, r.schema, r.updated, r.alarms)
        return (row.id, *row.key, None if _large(row) else row.state, *meta, *rest)

    def _put_parts(self) -> None:
        """Large states and deltas, of which only what is new is written."""
        for row in self._dirty:
            if row.apart and not row.whole:
                self._connection.execute(_CUT_PARTS, _range(row.id))
                row.apart = False
            first = _range(row.id)[0]
            parts = [(first + 1 + n, row.deltas[n]) for n in range(row.written, len(row.deltas))]
            if row.state is not None and _large(row) and not row.whole:
                parts.append((first, row.state))
            if parts:
                row.apart = True
                self._connection.executemany(_PUT_PART, parts)

    def _put_due(self) -> None:
        for row in self._dirty:
            if row.due is None:
                self._connection.execute(_CUT_DUE, (row.id,))
            elif row.due != AS_IT_WAS:
                self._connection.execute(_PUT_DUE, (row.id, row.due))

    def _results(self) -> list[tuple[Any, ...]]:
        return [
            (row.id, slot.number, slot.seq, *slot.entry)
            for row in self._dirty
            for slot in row.changed.values()
            if slot is not None
        ]

    def _cut(self) -> None:
        gone = [(row.id,) for row in self._dirty if row.record is None]
        dropped = [(r.id, n) for r in self._dirty for n, s in r.changed.items() if s is None]
        if gone:
            self._connection.executemany(_CUT_SESSION, gone)
        if dropped:
            self._connection.executemany(_CUT_RESULT, dropped)

    def _put(self, statements: tuple[str, str], rows: Sequence[tuple[Any, ...]]) -> None:
        one, many = statements
        whole = len(rows) - len(rows) % CHUNK
        for at in range(0, whole, CHUNK):
            self._connection.execute(many, list(chain.from_iterable(rows[at : at + CHUNK])))
        if whole < len(rows):
            self._connection.executemany(one, rows[whole:])
