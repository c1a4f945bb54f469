"""The Redis or Valkey store: every operation a script, many under way at once (DESIGN §5, §10).

Decides what became of an operation whose answer is late, lost or an error. Refuses to know scripts
(`redis_scripts`), the connection (`redis_line`) and what a server promises (`redis_server`). What comes while
there is no connection is refused at once: to wait for one would only make a call late that another try saves.
"""

import logging
import time
from functools import partial
from typing import Any

import trio
from coredis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    NoScriptError,
    ReadOnlyError,
    TryAgainError,
    UnknownCommandError,
)

from edged.core.records import Op, Outcome, StoreFailed, Write
from edged.core.store_url import RedisUrl

from .interface import (
    MAX_WAITING,
    MAX_WAITING_BYTES,
    Done,
    StoreStatistics,
    answer,
    answer_soon,
    durable,
    weight,
)
from .redis_line import Line
from .redis_scripts import Command, Names, command, outcome

log = logging.getLogger(__name__)

DEADLINE = 2.0
"""Seconds an answer may take: a call's whole default deadline."""

SLOWEST = 4 * 1024 * 1024
"""Bytes a second that a line to the store carries at least: so much longer may a write take, and what is behind it."""

REPLICA_SECONDS = 1.5
"""How long the server lets a durable write wait for its replicas, inside DEADLINE."""

_NOT_NOW = (ReadOnlyError, BusyLoadingError)
"""The server has become a replica, or reads its file: it is looked at anew before it is used again."""

_REFUSED = (
    *_NOT_NOW,
    AskError,
    AuthenticationError,
    AuthorizationError,
    ClusterDownError,
    TryAgainError,
    UnknownCommandError,
)
_REFUSALS = ("OOM ", "MISCONF ", "NOREPLICAS ", "MASTERDOWN ", "BUSY ")
"""The server did not begin the script, or not its first write, without which there is none."""


class _Wait:
    """An operation that somebody waits for. `outcome`: what a durable one gets once the replicas have it."""

    __slots__ = ("command", "done", "op", "outcome", "outgoing", "size")

    def __init__(self, op: Op, done: Done, size: int, asked: Command) -> None:
        self.op = op
        self.done = done
        self.size = size
        self.outgoing = size if isinstance(op, Write) else 0
        self.command = asked
        self.outcome: Outcome | None = None


class RedisStore:
    """The store at a URL; `run` once."""

    def __init__(self, url: RedisUrl, deadline: float = DEADLINE) -> None:
        self._url = url
        self._names = Names(url.prefix)
        self._line = Line(url, self._names, deadline)
        self._said: str | None = ""
        # Durable writes since the last WAIT: one WAIT is for all that went before it.
        self._unreplicated: list[_Wait] = []
        self._waiting = 0
        self._bytes = 0
        self._outgoing = 0
        self._operations = 0
        self._failed = 0

    def statistics(self) -> StoreStatistics:
        """What the operator sees."""
        server = self._line.server
        counts = self._waiting, self._bytes, self._operations, self._failed
        promise = server.durability if server is not None else ""
        return StoreStatistics("redis", self._line.problem, *counts, promise, self._line.lives)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve; started when the first try to connect is over: a node serves without its store too."""
        # What it logs with a traceback for each try that failed is said in a line, once, by `_changed`.
        logging.getLogger("coredis").setLevel(logging.CRITICAL)
        tried = trio.Event()

        def changed() -> None:
            self._changed()
            tried.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._line.run, changed)
            await tried.wait()
            task_status.started()

    def _changed(self) -> None:
        """Say what has become of the connection, each thing once."""
        problem = self._line.problem
        if problem == self._said:
            return
        self._said = problem
        if problem is not None:
            log.warning("the store at %s cannot be used: %s", self._url.shown, problem)
            return
        server = self._line.server
        assert server is not None
        level = logging.WARNING if server.weak else logging.INFO
        log.log(level, "the store at %s answers: %s", self._url.shown, server.durability)

    # ---- operations

    def submit(self, op: Op, done: Done) -> None:
        """Send `op`; `done` gets its outcome within the deadline."""
        size = weight(op)
        if self._waiting >= MAX_WAITING or (self._bytes + size > MAX_WAITING_BYTES and self._waiting):
            self._refuse(done, f"{self._waiting} operations are on their way to the store")
            return
        try:
            now = time.time()  # noqa: TID251 - kept for people to read, compared with nothing
            wait = _Wait(op, done, size, command(op, self._names, now))
        except ValueError as error:
            self._refuse(done, str(error))
            return
        if not self._send(wait, b"EVALSHA", wait.command.script.sha):
            self._refuse(done, f"the store is not connected: {self._line.problem}")
            return
        self._waiting += 1
        self._bytes += size
        self._outgoing += wait.outgoing

    def _refuse(self, done: Done, reason: str) -> None:
        self._failed += 1
        answer_soon(done, StoreFailed(False, reason))

    def _send(self, wait: _Wait, verb: bytes, script: bytes) -> bool:
        _, keys, args = wait.command
        extra = (self._outgoing + wait.outgoing) / SLOWEST
        if not self._line.send(partial(self._answered, wait), extra, verb, script, len(keys), *keys, *args):
            return False
        if self._url.replicas and durable(wait.op):
            if not self._unreplicated:
                trio.lowlevel.current_trio_token().run_sync_soon(self._ask_replicas)
            self._unreplicated.append(wait)
        return True

    def _answered(self, wait: _Wait, reply: Any) -> None:
        if type(reply) is NoScriptError:
            # Certainly not run: the server has lost its scripts, and keeps this one when it is sent whole.
            if not self._send(wait, b"EVAL", wait.command.script.source):
                self._settle(wait, StoreFailed(False, "the store lost its connection"))
            return
        if isinstance(reply, _NOT_NOW):
            self._line.leave(str(reply))
        result = _failure(reply) if isinstance(reply, Exception) else outcome(wait.op, reply)
        if self._url.replicas and durable(wait.op) and type(result) is not StoreFailed:
            wait.outcome = result
        else:
            self._settle(wait, result)

    def _settle(self, wait: _Wait, result: Outcome) -> None:
        self._waiting -= 1
        self._bytes -= wait.size
        self._outgoing -= wait.outgoing
        self._operations += 1
        self._failed += type(result) is StoreFailed
        answer(wait.done, result)

    # ---- replicas

    def _ask_replicas(self) -> None:
        """One WAIT behind all durable writes of a turn of the loop."""
        waits, self._unreplicated = self._unreplicated, []
        then = partial(self._replicated, waits)
        if not self._line.send(then, self._outgoing / SLOWEST, b"WAIT", self._url.replicas, int(REPLICA_SECONDS * 1000)):
            then(None)

    def _replicated(self, waits: list[_Wait], reply: Any) -> None:
        enough = type(reply) is int and reply >= self._url.replicas
        short = StoreFailed(None, f"fewer than {self._url.replicas} replicas have it")
        for wait in waits:
            if wait.outcome is not None:
                self._settle(wait, wait.outcome if enough else short)


def _failure(error: Exception) -> StoreFailed:
    """What an error in place of a reply says: refused for certain, or nothing."""
    text = str(error) or type(error).__name__
    refused = isinstance(error, _REFUSED) or text.startswith(_REFUSALS)
    return StoreFailed(False if refused else None, text)
