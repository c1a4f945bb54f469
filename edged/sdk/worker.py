"""The serve loop of a container: one call after another, and readers beside them (DESIGN §4, §5, §8).

Decides what of all that arrived is dealt with next, what may run beside a call, and when answers are sent. Refuses to
know what a call does (calls.py), processes (zygote.py) and bytes (channel.py).

What a call is, is written once, as coroutines: a function of plain handlers is driven without an event loop, as
none of its awaits ever waits. With an async handler trio runs them, beside a task that reads the socket; while no
call is in hand nothing else could run, so that task blocks in `recv` then.
"""

import socket
import time
from collections import deque
from contextlib import nullcontext
from typing import Any

from edged_protocol.errors import Code
from edged_protocol.limits import PROTO

from .answers import Refused, failed, refusal
from .beside import Beside
from .calls import Calls
from .channel import Channel, Closed
from .function import Function
from .lines import BlockingLine, TrioLine, Waiting
from .outside import run_blocking
from .sessions import VERBS, Sessions

_ANY, _CAN_WAIT, _CANNOT_WAIT = frozenset({True, False}), frozenset({True}), frozenset({False})

MAX_BESIDE = 64
"""Readers at a time beside the running call; each has a copy of the state."""


class Worker:
    """Serves one function on one channel until the daemon closes it or says stop."""

    def __init__(self, function: Function, channel: Channel, name: str, max_state: int) -> None:
        self._function = function
        self._channel = channel
        self._name = name
        self._queue: deque[tuple[list[Any], float]] = deque()
        kind = function.kind()
        self._sessions = Sessions(function, kind, max_state)
        self._waiting = Waiting()
        line = BlockingLine(channel, self._waiting, self._look_beside)
        self._calls = Calls(function, kind, max_state, self._sessions, channel, line)
        self._default = function.default
        self._running = True
        self._busy = False
        self._beside = 0
        readers = any(method.shared for method in function.methods.values())
        self.beside = self._calls.beside = Beside(self._look_beside) if readers and not function.is_async else None

    async def serve(self) -> None:
        """Until worker.stop. Raises Closed when the daemon is gone."""
        with nullcontext() if self.beside is None else self.beside.gate:
            await self._serve()

    async def _serve(self) -> None:
        self._greet()
        while self._running:
            if not self._queue:
                self._channel.flush()
                self._take(self._channel.receive())
            elif self._channel.stale(self._calls.now):
                self._take(self._channel.receive(wait=False))
            if self._queue:
                message, arrived = self._queue.popleft()
                call = message[0] == 16
                frame = await self._calls.invoke(message, arrived, False) if call else self._control(message)
                self._channel.answer(frame, self._calls.now)
                self._send()
        self._channel.flush()

    async def serve_async(self) -> None:
        """The same under trio: one task reads, another runs the calls, as long as there are any."""
        import trio  # a tenth of a second and five megabytes: only for those who need it

        self._calls.trio = TrioLine(self._channel, self._waiting)
        self._greet()
        async with trio.open_nursery() as nursery:
            while self._running:
                if self._queue and not self._busy:
                    self._busy = True
                    nursery.start_soon(self._serve_queue, nursery)
                if self._busy or self._beside:
                    await trio.lowlevel.wait_readable(self._channel)
                self._take(self._channel.receive(wait=not (self._busy or self._beside)))
                if self._busy:
                    self._start_readers(nursery)

    async def _serve_queue(self, nursery: Any) -> None:
        """Until nothing waits any more; whoever ends the loop ends the reading too."""
        while self._queue and self._running:
            message, arrived = self._queue.popleft()
            if self._may_be_beside(message, _CAN_WAIT):
                self._start_reader(nursery, message, arrived)
                continue
            self._channel.answer(await self._answer(message, arrived), self._calls.now)
            if self._channel.stale(self._calls.now):
                self._take(self._channel.receive(wait=False))
            self._send()
        self._channel.flush()
        self._busy = False
        if not self._running:
            nursery.cancel_scope.cancel()

    def _start_readers(self, nursery: Any) -> None:
        """A call waits for something: the readers behind it do not wait for it."""
        for message, arrived in self._readers_waiting(_ANY):
            self._start_reader(nursery, message, arrived)

    def _look_beside(self) -> None:
        """The same where the running call keeps its thread, or waits in `s.call`: whoever calls this has another one, or
        nothing else to do."""
        self._take(self._channel.receive(wait=False))
        self._run_readers()

    def _run_readers(self) -> None:
        for message, arrived in self._readers_waiting(_CANNOT_WAIT):
            self._channel.send(run_blocking(self._answer(message, arrived, beside=True)))

    def _readers_waiting(self, when: frozenset[bool]) -> list[tuple[list[Any], float]]:
        """Taken out of the queue."""
        found: list[tuple[list[Any], float]] = []
        queue, self._queue = self._queue, deque()
        for message, arrived in queue:
            beside = self._may_be_beside(message, when)
            (found if beside else self._queue).append((message, arrived))
        return found

    def _may_be_beside(self, message: list[Any], when: frozenset[bool]) -> bool:
        """Whether it is a reader of a session that is here, and async or not as `when` says.

        One that is not async need not be beside anything while no call waits: it is over before the next begins, and costs
        no copy of the state. One that is async cannot run where there is no event loop.
        """
        if message[0] != 16 or self._beside >= MAX_BESIDE:
            return False
        method = self._function.methods.get(message[4] or self._default)
        meta = message[8] if len(message) > 8 else None
        local = meta is not None and meta.get("mode") == "local" and message[3] in self._sessions.held
        return local and method is not None and method.shared and method.is_async in when

    def _start_reader(self, nursery: Any, message: list[Any], arrived: float) -> None:
        self._beside += 1
        nursery.start_soon(self._read_beside, message, arrived)

    async def _read_beside(self, message: list[Any], arrived: float) -> None:
        """On a copy of what was committed last: it sees nothing of what a running call has done so far."""
        try:
            self._channel.send(await self._answer(message, arrived, beside=True))
        finally:
            self._beside -= 1

    def _greet(self) -> None:
        info = {
            "proto": PROTO,
            "role": "worker",
            "name": self._name,
            "software": "edged.sdk",
            "deltas": True,
            "beside": self.beside is not None,
            "several": True,
            "methods": self._function.described(),
            "default": self._function.default,
            "upgrades": self._function.hook("upgrade") is not None,
        }
        self._channel.send(self._channel.encode((1, info)))
        while not self._sessions.node:
            self._take(self._channel.receive())

    def _take(self, messages: list[list[Any]]) -> None:
        """Sort what arrived: calls and verbs wait their turn, the rest is dealt with now."""
        self._calls.now = now = self._channel.looked
        for message in messages:
            kind = message[0]
            if kind == 16 or kind == 32:
                self._queue.append((message, now))
            elif kind == 19:
                self._queue = deque(waiting for waiting in self._queue if waiting[0][1] != message[1])
            elif kind == 2:
                self._sessions.node = message[1].get("node") or "?"
                self._channel.max_frame = message[1].get("max_frame", self._channel.max_frame)
            elif kind == 17 or kind == 18:
                self._waiting.answered(message)
            elif kind == 4:
                self._channel.send(self._channel.encode((5, message[1])))
            elif kind not in (3, 5) and len(message) > 1 and type(message[1]) is int:
                refused = Refused(Code.BAD_REQUEST, f"unknown message type {kind}")
                self._channel.answer(self._channel.encode(refusal(message[1], refused)), now)

    def _send(self) -> None:
        """Send the answers now, unless the next call is known to be short enough to wait for."""
        if self._queue:
            message = self._queue[0][0]
            known = self._calls.seconds.get(message[4] or self._default) if message[0] == 16 else None
            if known is not None and self._channel.may_hold(known, self._calls.now):
                return
        self._channel.flush()
        self._calls.now = time.monotonic()

    async def _answer(self, message: list[Any], arrived: float, *, beside: bool = False) -> bytes:
        if message[0] == 16:
            return await self._calls.invoke(message, arrived, beside)
        return self._control(message)

    def _control(self, message: list[Any]) -> bytes:
        try:
            return self._verb(*message[1:5])
        except Refused as refused:
            return self._channel.encode(refusal(message[1], refused))
        finally:
            self._calls.now = time.monotonic()

    # Verbs

    def _verb(self, id_: int, verb: str, params: dict[str, Any], blob: bytes | None = None) -> bytes:
        key = params.get("session")
        run = VERBS.get(verb)
        if (verb, key) == ("worker.stop", None):
            self._running = False
            return self._channel.encode((33, id_, {}))
        if run is None or type(key) is not str:
            raise Refused(Code.BAD_REQUEST, f"{verb!r:.40} for session {key!r:.80}")
        try:
            frame = self._channel.encode((33, id_, *run(self._sessions, key, params, blob)))
        except Refused:
            raise
        except BaseException as error:
            raise failed(error) from error
        if len(frame) > self._channel.max_frame:
            raise Refused(Code.TOO_LARGE, f"the state takes {len(frame)} bytes, more than one frame may have")
        return frame


def run(function: Function, sock: socket.socket, name: str, max_state: int) -> None:
    """Serve `function` on `sock` until the daemon closes it or says stop."""
    channel = Channel(sock)
    worker = Worker(function, channel, name, max_state)
    try:
        if function.is_async:
            import trio

            trio.run(worker.serve_async)
        else:
            run_blocking(worker.serve())
    except* Closed:  # under trio it comes in a group
        pass
    else:
        if (stop := function.hook("stop")) is not None:
            stop()
    finally:
        if worker.beside is not None:
            worker.beside.close()
        channel.close()
