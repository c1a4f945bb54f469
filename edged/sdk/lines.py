"""How a container waits for the answers to its own calls: blocking, or under trio (SPEC "Calls from containers").

Decides nothing. A blocking handler reads the socket itself while it waits, as nobody else does then; what else comes
is taken as ever. Under trio the loop reads, and a handler that waits lets others run.
"""

import time
from collections.abc import Callable
from typing import Any

from .channel import Channel
from .outside import Answer


class Waiting:
    """The calls under way, by id, and what to do when one is answered."""

    def __init__(self) -> None:
        self._told: dict[int, Callable[[Answer], None]] = {}

    def expect(self, id_: int, told: Callable[[Answer], None]) -> None:
        """Wait for an answer."""
        self._told[id_] = told

    def forget(self, id_: int) -> None:
        """Nobody waits any more; what comes later is ignored."""
        self._told.pop(id_, None)

    def answered(self, answer: Answer) -> None:
        """A RESULT or ERROR came."""
        told = self._told.pop(answer[1], None)
        if told is not None:
            told(answer)


class BlockingLine:
    """For handlers that are not async: nothing here ever yields."""

    def __init__(self, channel: Channel, waiting: Waiting, look: Callable[[], None]) -> None:
        self._channel = channel
        self._waiting = waiting
        self._look = look

    def ask(self, fields: tuple[Any, ...]) -> None:
        """Send an INVOKE, and answers that were held back."""
        self._channel.send(self._channel.encode(fields))

    async def answer(self, id_: int, until: float) -> Answer | None:
        """Read until it is there."""
        answers: list[Answer] = []
        self._waiting.expect(id_, answers.append)
        try:
            while not answers and self._channel.readable(until - time.monotonic()):
                self._look()
        finally:
            self._waiting.forget(id_)
        return answers[0] if answers else None

    async def pause(self, seconds: float) -> None:
        """Wait; what comes meanwhile is in the socket."""
        time.sleep(seconds)  # noqa: ASYNC251 - there is no event loop here


class TrioLine:
    """For async handlers: whoever reads the socket calls `Waiting.answered`."""

    def __init__(self, channel: Channel, waiting: Waiting) -> None:
        import trio  # only for those who need it

        self._trio = trio
        self._channel = channel
        self._waiting = waiting

    def ask(self, fields: tuple[Any, ...]) -> None:
        """Send an INVOKE, and answers that were held back."""
        self._channel.send(self._channel.encode(fields))

    async def answer(self, id_: int, until: float) -> Answer | None:
        """Wait until it is there."""
        came = self._trio.Event()
        answers: list[Answer] = []

        def told(answer: Answer) -> None:
            answers.append(answer)
            came.set()

        self._waiting.expect(id_, told)
        try:
            with self._trio.move_on_after(max(0.0, until - time.monotonic())):
                await came.wait()
        finally:
            self._waiting.forget(id_)
        return answers[0] if answers else None

    async def pause(self, seconds: float) -> None:
        """Wait."""
        await self._trio.sleep(seconds)
