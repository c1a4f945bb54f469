"""Calls a handler makes of other functions and sessions: `s.call` (DESIGN §8, SPEC "Calls from containers").

Decides the ids of such calls and when one is repeated: by the rules of any client, within the deadline of the call
that makes it. The ids follow from that call's own, so that a handler that is run again repeats its calls instead of
making others. Refuses to know bytes; how to wait for an answer, blocking or under trio, is the `Line`'s.
"""

import hashlib
import math
import random
import time
from collections.abc import Coroutine
from typing import Any, Protocol

import msgpack  # type: ignore[import-untyped]

from edged_protocol.errors import CallError, Code, call_error
from edged_protocol.retrying import Verdict, pause_after, verdict_on

GRACE = 1.0
"""Seconds a call's answer is awaited beyond its deadline: the node's 401 says more than silence."""

Answer = list[Any]
"""A RESULT or ERROR frame."""


class Line(Protocol):
    """What carries calls to the node and brings their answers."""

    def ask(self, fields: tuple[Any, ...]) -> None:
        """Send an INVOKE."""

    async def answer(self, id_: int, until: float) -> Answer | None:
        """The answer to that id; None when there is none until then."""

    async def pause(self, seconds: float) -> None:
        """Wait."""


class Parent:
    """The call that makes calls: what they get from it."""

    __slots__ = ("asked", "call_id", "deadline", "id")

    def __init__(self, id_: int, call_id: bytes | None, deadline: float) -> None:
        self.id, self.call_id, self.deadline = id_, call_id, deadline
        self.asked: dict[tuple[str, str | None, str], int] = {}

    def child_id(self, function: str, session: str | None, method: str) -> bytes:
        """The id of its next call of that method: the same in every run of the parent, whatever runs beside it."""
        if self.call_id is None:
            return random.SystemRandom().randbytes(16)
        target = (function, session, method)
        number = self.asked[target] = self.asked.get(target, 0) + 1
        name: bytes = msgpack.packb([self.call_id, function, session, method, number])
        return hashlib.sha256(name).digest()[:16]


class Outside:
    """All calls that one container makes."""

    def __init__(self) -> None:
        self._last = 0
        self._chance = random.Random()  # noqa: S311 - jitter

    async def call(
        self, line: Line, parent: Parent, function: str, session: str | None, method: str, body: bytes, timeout: float
    ) -> Any:
        """The result. Raises CallError."""
        call_id = parent.child_id(function, session, method)
        deadline = min(parent.deadline, time.monotonic() + timeout)
        attempt = repeats = 0
        error: CallError | None = None
        while True:
            answer = None
            left = deadline - time.monotonic()
            if left <= 0 and error is not None:
                raise error
            if left > 0:
                answer = await self._once(line, parent.id, function, session, method, call_id, left, body, attempt)
            if answer is not None and answer[0] == 17:
                return msgpack.unpackb(answer[2], raw=False) if answer[2] else None
            error = _error(answer)
            verdict = verdict_on(error)
            pause = pause_after(error, repeats, self._chance)
            if verdict is Verdict.FINAL or time.monotonic() + pause >= deadline:
                raise error
            attempt += verdict is Verdict.IN_DOUBT
            repeats += 1
            await line.pause(pause)

    async def _once(
        self, line: Line, parent: int, function: str, session: str | None, method: str,
        call_id: bytes, left: float, body: bytes, attempt: int,
    ) -> Answer | None:  # fmt: skip
        self._last += 1
        meta = {"parent": parent, "attempt": attempt} if attempt else {"parent": parent}
        milliseconds = max(1, math.floor(min(left, 3600.0) * 1000))
        line.ask((16, self._last, function, session, method, call_id, milliseconds, body, meta))
        return await line.answer(self._last, time.monotonic() + left + GRACE)


def _error(answer: Answer | None) -> CallError:
    if answer is None:
        return call_error(Code.DEADLINE_EXCEEDED, "no time left for the answer")
    return call_error(answer[2], answer[3], answer[4] if len(answer) > 4 else None)


def run_blocking(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine whose awaits never wait."""
    try:
        coroutine.send(None)
    except StopIteration as ended:
        return ended.value
    raise RuntimeError("a handler that is not async awaited something")

