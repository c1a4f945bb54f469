"""The embedded store: one thread writes what the loop submits (DESIGN §10, reliability Δ1, Δ14).

Decides how operations become batches: all that queued while the last batch was on its way to the
disk, reads included, so that a read sees every earlier write. Refuses to know SQL (`database`
does). One thread and one queue, because a disk that stalls must stall nothing else.
"""

import logging
import queue
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio

from edged.core.records import Op, Outcome, StoreFailed

from .database import Database
from .interface import (
    MAX_WAITING,
    MAX_WAITING_BYTES,
    Done,
    StoreStatistics,
    answer,
    answer_soon,
    weight,
)
from .schema import StoreUnusable

log = logging.getLogger(__name__)

BATCH = 256
"""Operations of one transaction: by then a commit is a small part of it, and nobody waits long."""

CLOSE_SECONDS = 5.0
"""How long the end waits for the disk; a stalled one must not keep the daemon from stopping."""


class SqliteStore:
    """The store in one file; `run` once."""

    def __init__(
        self, path: Path, max_waiting: int = MAX_WAITING, max_bytes: int = MAX_WAITING_BYTES
    ) -> None:
        self._path = path
        self._limits = max_waiting, max_bytes
        self._queue: queue.SimpleQueue[Op | None] = queue.SimpleQueue()
        self._waiting: deque[tuple[Done, int]] = deque()
        self._bytes = 0
        self._closed: str | None = "the store is not open"
        self._problem: str | None = None
        self._operations = 0
        self._failed = 0
        self._token: trio.lowlevel.TrioToken | None = None
        self._opened = trio.Event()
        self._ended = trio.Event()
        self._refused: Exception | None = None

    def statistics(self) -> StoreStatistics:
        """What the operator sees."""
        return StoreStatistics(
            "sqlite",
            self._problem,
            len(self._waiting),
            self._bytes,
            self._operations,
            self._failed,
        )

    def submit(self, op: Op, done: Done) -> None:
        """Queue `op`; `done` gets its outcome on trio's thread."""
        size = weight(op)
        reason = self._closed or self._overloaded(size)
        if reason is not None:
            self._failed += 1
            answer_soon(done, StoreFailed(False, reason))
            return
        self._waiting.append((done, size))
        self._bytes += size
        self._queue.put(op)

    def _overloaded(self, size: int) -> str | None:
        count, most = self._limits
        if len(self._waiting) >= count or (self._bytes + size > most and self._waiting):
            return f"{len(self._waiting)} operations of {self._bytes} bytes wait for the store"
        return None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Open the file and serve; when cancelled, commit what is queued and close."""
        self._token = trio.lowlevel.current_trio_token()
        # A daemon thread: one that hangs in a dead disk must not keep the process from ending.
        threading.Thread(target=self._work, name="store", daemon=True).start()
        try:
            await self._opened.wait()
            if self._refused is not None:
                raise self._refused
            self._closed = None
            task_status.started()
            await self._ended.wait()
        finally:
            self._closed = "the store is closed"
            self._queue.put(None)
            with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_SECONDS):
                await self._ended.wait()
            self._abandon()

    def _abandon(self) -> None:
        """Answer what the disk did not; what it says later finds nobody waiting."""
        waiting, self._waiting, self._bytes = self._waiting, deque(), 0
        for done, _ in waiting:
            answer(done, StoreFailed(None, "the disk did not answer before the store was closed"))

    def _deliver(self, outcomes: list[Outcome], problem: str | None) -> None:
        if problem is not None and self._problem is None:
            self._problem = problem
            log.error("the store at %s answers nothing any more: %s", self._path, problem)
        for outcome in outcomes:
            if not self._waiting:
                return
            done, size = self._waiting.popleft()
            self._bytes -= size
            self._operations += 1
            self._failed += type(outcome) is StoreFailed
            answer(done, outcome)

    # ---- the writer's thread

    def _work(self) -> None:
        try:
            database = Database(self._path)
        except (StoreUnusable, OSError, sqlite3.Error) as error:
            self._tell(self._open_ended, error)
            return
        self._tell(self._opened.set)
        try:
            self._serve(database)
        finally:
            self._tell(self._ended.set)

    def _open_ended(self, error: Exception) -> None:
        usable = isinstance(error, StoreUnusable)
        self._refused = error if usable else StoreUnusable(f"{self._path}: {error}")
        self._opened.set()
        self._ended.set()

    def _serve(self, database: Database) -> None:
        going = True
        while going:
            ops, going = self._next_batch()
            if ops:
                outcomes = database.apply(ops)
                self._tell(self._deliver, outcomes, database.problem)
        try:
            database.close()
        except sqlite3.Error as error:
            log.error("closing %s: %s", self._path, error)

    def _next_batch(self) -> tuple[list[Op], bool]:
        """All that is queued, up to BATCH, waiting for the first; False behind the last of all."""
        ops: list[Op] = []
        op = self._queue.get()
        while op is not None:
            ops.append(op)
            if len(ops) == BATCH:
                return ops, True
            try:
                op = self._queue.get_nowait()
            except queue.Empty:
                return ops, True
        return ops, False

    def _tell(self, action: Callable[..., Any], *args: Any) -> None:
        assert self._token is not None
        try:
            self._token.run_sync_soon(action, *args)
        except trio.RunFinishedError:
            log.warning("the store at %s was closed after everybody had left", self._path)
