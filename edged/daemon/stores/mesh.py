"""A store that another node serves: operations as requests between nodes (DESIGN §2).

Decides when an answer is too late, and what a lost one means for the operation. Refuses to know
sockets and peers: the daemon lends it `send`. The serving side is a function, for it keeps nothing.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import trio

from edged.core.records import Op, Outcome, StoreFailed
from edged_protocol.errors import Code, outcome_of
from edged_protocol.messages import Error, Reply

from .interface import (
    MAX_WAITING,
    MAX_WAITING_BYTES,
    Done,
    Store,
    StoreStatistics,
    answer,
    answer_soon,
    weight,
)
from .wire import BadRecord, op_from_wire, op_to_wire, outcome_from_wire, outcome_to_wire

DEADLINE = 2.0
"""Seconds an answer may take: a call's whole default deadline."""

Answer = Callable[[Reply | Error | None], None]


class Send(Protocol):
    """Send a request to the node that serves the store."""

    def __call__(
        self, verb: str, params: dict[str, Any], blob: bytes | None, answer: Answer
    ) -> bool:
        """False: there is no connection, nothing was sent, `answer` is never called.

        True: `answer` is called later (not within), at most once: with the answer, its id
        ignored, or with None when the connection ended first.
        """


class Timer(Protocol):
    """A planned action."""

    def cancel(self) -> None:
        """Never run it."""


class Timers(Protocol):
    """Actions at a time of trio's clock."""

    def call_at(self, when: float, action: Callable[[], None], /) -> Timer:
        """Plan `action`."""


class _Wait:
    """One operation on its way."""

    __slots__ = ("done", "size", "timer")

    def __init__(self, done: Done, size: int) -> None:
        self.done = done
        self.size = size
        self.timer: Timer | None = None


class MeshStore:
    """The store of another node; `run` once."""

    def __init__(self, send: Send, timers: Timers, deadline: float = DEADLINE) -> None:
        self._send = send
        self._timers = timers
        self._deadline = deadline
        self._waiting: dict[_Wait, None] = {}
        self._bytes = 0
        self._operations = 0
        self._failed = 0

    def statistics(self) -> StoreStatistics:
        """What the operator sees; a node out of reach is no lasting problem."""
        counts = len(self._waiting), self._bytes, self._operations, self._failed
        return StoreStatistics("mesh", None, *counts)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Nothing to open; when cancelled, everybody who waits is told so."""
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            for wait in list(self._waiting):
                self._settle(wait, StoreFailed(None, "the store is closed"))

    def submit(self, op: Op, done: Done) -> None:
        """Send `op`; `done` gets its outcome within the deadline."""
        size = weight(op)
        if len(self._waiting) >= MAX_WAITING or self._bytes + size > MAX_WAITING_BYTES:
            self._refuse(done, f"{len(self._waiting)} operations are on their way to the store")
            return
        wait = _Wait(done, size)
        if not self._send(*op_to_wire(op), partial(self._answered, wait)):
            self._refuse(done, "the node that serves the store is not connected")
            return
        self._waiting[wait] = None
        self._bytes += size
        wait.timer = self._timers.call_at(trio.current_time() + self._deadline, partial(self._late, wait))

    def _refuse(self, done: Done, reason: str) -> None:
        self._failed += 1
        answer_soon(done, StoreFailed(False, reason))

    def _late(self, wait: _Wait) -> None:
        self._settle(wait, StoreFailed(None, f"no answer from the store in {self._deadline:g} s"))

    def _answered(self, wait: _Wait, message: Reply | Error | None) -> None:
        self._settle(wait, outcome_of_answer(message))

    def _settle(self, wait: _Wait, outcome: Outcome) -> None:
        """The first answer counts, any later one is too late."""
        if wait not in self._waiting:
            return
        del self._waiting[wait]
        self._bytes -= wait.size
        if wait.timer is not None:
            wait.timer.cancel()
        self._operations += 1
        self._failed += type(outcome) is StoreFailed
        answer(wait.done, outcome)


def outcome_of_answer(message: Reply | Error | None) -> Outcome:
    """What an answer, or none, says of the operation."""
    if message is None:
        return StoreFailed(None, "the connection to the store's node ended")
    if isinstance(message, Error):
        not_run = outcome_of(message.code) in ("not_run_retry", "not_run")
        return StoreFailed(False if not_run else None, message.message)
    try:
        return outcome_from_wire(message.result, message.blob)
    except BadRecord as error:
        return StoreFailed(None, f"the store's node answered nonsense: {error}")


def serve(
    store: Store,
    verb: str,
    params: dict[str, Any],
    blob: bytes | None,
    answer: Callable[[Reply | Error], None],
) -> None:
    """Let `store` do another node's request; `answer` gets a message with id 0."""
    try:
        op = op_from_wire(verb, params, blob)
    except BadRecord as error:
        answer(Error(0, Code.BAD_REQUEST, str(error)))
        return
    store.submit(op, lambda outcome: answer(Reply(0, *outcome_to_wire(outcome))))
