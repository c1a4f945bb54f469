"""The serve loop of a container: one call after another, each all or nothing (DESIGN §4, §5, §8).

Decides how a call becomes a handler's run and what is answered. Refuses to know processes (zygote.py) and
bytes (channel.py). A handler may do anything, so whatever it raises is an answer and undoes its changes.

What a call is, is written once, as coroutines: a function of plain handlers is driven without an event loop, as
none of its awaits ever waits. With an async handler trio runs them, beside a task that reads the socket; while no
call is in hand nothing else could run, so that task blocks in `recv` then.
"""

import math
import os
import socket
import time
from collections import deque
from contextlib import nullcontext
from typing import Any, NamedTuple

import msgpack  # type: ignore[import-untyped]

from edged_protocol.errors import Code, call_error
from edged_protocol.limits import MAX_BODY, PROTO

from .answers import MESSAGE_CHARS, Refused, failed, packed, packed_result, wrong
from .beside import Beside
from .channel import Channel, Closed
from .function import Function, Method
from .lines import BlockingLine, TrioLine, Waiting
from .outside import Line, Outside, Parent, run_blocking
from .session import Session
from .sessions import VERBS, Held, Sessions
from .state import State

_LEFT_OUT = [None, None]
"""For what a short INVOKE leaves out: meta and state."""

_ANY, _CAN_WAIT, _CANNOT_WAIT = frozenset({True, False}), frozenset({True}), frozenset({False})

MAX_BESIDE = 64
"""Readers at a time beside the running call; each has a copy of the state."""

FRAME_MARGIN = 1024
"""Bytes of a RESULT beside its body and state."""


class Call(NamedTuple):
    """An INVOKE frame; what a short frame leaves out is None."""

    id: int
    function: str
    session: str | None
    method: str
    call_id: bytes | None
    timeout_ms: int
    body: bytes
    meta: dict[str, Any] | None = None
    blob: bytes | None = None


class Worker:
    """Serves one function on one channel until the daemon closes it or says stop."""

    def __init__(self, function: Function, channel: Channel, name: str, max_state: int) -> None:
        self._function = function
        self._kind = function.kind()
        self._channel = channel
        self._name = name
        self._max_state = max_state
        self._node = ""
        self._queue: deque[tuple[list[Any], float]] = deque()
        self._sessions = Sessions(function, self._kind, max_state)
        self._seconds: dict[str, float] = {}
        self._default = function.default
        self._now = time.monotonic()
        """When the last thing was done: a clock is read once a call, not at each step."""
        self._running = True
        self._forked = False
        os.register_at_fork(after_in_child=self._is_a_fork)
        self._busy = False
        self._beside = 0
        self._outside = Outside()
        self._waiting = Waiting()
        self._blocking: Line = BlockingLine(channel, self._waiting, self._look_beside)
        self._trio: Line | None = None
        readers = any(method.shared for method in function.methods.values())
        self.beside = Beside(self._look_beside) if readers and not function.is_async else None

    def _is_a_fork(self) -> None:
        self._forked = True

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
            elif self._channel.stale(self._now):
                self._take(self._channel.receive(wait=False))
            if self._queue:
                message, arrived = self._queue.popleft()
                self._channel.answer(await self._answer(message, arrived), self._now)
                self._send()
        self._channel.flush()

    async def serve_async(self) -> None:
        """The same under trio: one task reads, another runs the calls, as long as there are any."""
        import trio  # a tenth of a second and five megabytes: only for those who need it

        self._trio = TrioLine(self._channel, self._waiting)
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
            self._channel.answer(await self._answer(message, arrived), self._now)
            if self._channel.stale(self._now):
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
        call = Call._make((message + _LEFT_OUT)[1:10])
        method = self._function.methods.get(call.method or self._default)
        local = call.meta is not None and call.meta.get("mode") == "local" and call.session in self._sessions.held
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
            "methods": self._function.described(),
            "default": self._function.default,
        }
        self._channel.send(self._channel.encode((1, info)))
        while not self._node:
            self._take(self._channel.receive())

    def _take(self, messages: list[list[Any]]) -> None:
        """Sort what arrived: calls and verbs wait their turn, the rest is dealt with now."""
        self._now = now = self._channel.looked
        for message in messages:
            kind = message[0]
            if kind == 16 or kind == 32:
                self._queue.append((message, now))
            elif kind == 19:
                self._queue = deque(waiting for waiting in self._queue if waiting[0][1] != message[1])
            elif kind == 2:
                self._node = self._sessions.node = message[1].get("node") or "?"
                self._channel.max_frame = message[1].get("max_frame", self._channel.max_frame)
            elif kind == 17 or kind == 18:
                self._waiting.answered(message)
            elif kind == 4:
                self._channel.send(self._channel.encode((5, message[1])))
            elif kind not in (3, 5) and len(message) > 1 and type(message[1]) is int:
                refused = Refused(Code.BAD_REQUEST, f"unknown message type {kind}")
                self._channel.answer(self._refusal(message[1], refused), now)

    def _send(self) -> None:
        """Send the answers now, unless the next call is known to be short enough to wait for."""
        if self._queue:
            message = self._queue[0][0]
            known = self._seconds.get(message[4] or self._default) if message[0] == 16 else None
            if known is not None and self._channel.may_hold(known, self._now):
                return
        self._channel.flush()
        self._now = time.monotonic()

    async def _answer(self, message: list[Any], arrived: float, *, beside: bool = False) -> bytes:
        try:
            if message[0] == 16:
                call = tuple.__new__(Call, (message + _LEFT_OUT)[1:10])  # `Call(...)` takes thrice the time
                return await self._invoke(call, arrived, beside)
            try:
                return self._verb(*message[1:5])
            finally:
                self._now = time.monotonic()
        except Refused as refused:
            return self._refusal(message[1], refused)

    def _refusal(self, id_: int, refused: Refused) -> bytes:
        return self._channel.encode((18, id_, int(refused.code), refused.message, refused.meta))

    # Calls

    async def _invoke(self, call: Call, arrived: float, beside: bool) -> bytes:
        """One call: it leaves its result and all its changes, or a refusal and none. `beside`: a reader, on a copy."""
        method = self._method(call.method)
        arguments = self._arguments(method, call.body)
        started = self._now
        deadline = arrived + call.timeout_ms / 1000 if call.timeout_ms > 0 else math.inf
        if started > deadline:
            raise Refused(Code.DEADLINE_EXCEEDED, "expired before it ran", {"ran": False})
        mode = call.meta.get("mode") if call.meta else None
        held = self._held(call) if mode == "local" else None
        try:
            state = self._state_of(call, mode, held)
            session = Session(state, self._node, call.session, mode or "stateless", call.call_id, deadline)
            session._calls = self._call_out, call.id, method.is_async
            if mode is not None:
                _place(session, held, call.meta or {})
            if beside and held is not None:
                session._state, held = self._kind.make(held.state.committed()), None
            if held is not None:
                held.state.begin()
            if self.beside is None:
                result = method.run(session, *arguments)
                if method.is_async:
                    result = await result
            else:
                result = self._run_ungated(self.beside, method, session, arguments)
            return self._finished(call, method, session, held, result, started)
        except BaseException as error:
            if held is not None:
                held.state.undo()
            raise failed(error) from error
        finally:
            if self._forked:
                os._exit(0)  # the handler forked and its child came back: the socket is not the child's
            self._now = time.monotonic()
            self._learn(method.name, self._now - started)

    def _run_ungated(self, beside: Beside, method: Method, session: Session, arguments: list[Any]) -> Any:
        beside.gate.release()
        try:
            return method.run(session, *arguments)
        finally:
            if not self._forked:  # in a child of the handler nobody would let go of it
                beside.gate.acquire()

    def _method(self, name: str) -> Method:
        method = self._function.methods.get(name or self._default)
        if method is None:
            known = ", ".join(self._function.methods)
            raise Refused(Code.NO_SUCH_METHOD, f"no method {name!r:.80}; there are: {known}")
        return method

    def _arguments(self, method: Method, body: bytes) -> list[Any]:
        try:
            value = msgpack.unpackb(body) if body else None
        except (ValueError, TypeError, msgpack.exceptions.UnpackException) as error:
            raise Refused(Code.BAD_REQUEST, f"the body is not msgpack: {error}"[:MESSAGE_CHARS]) from error
        arguments = value if type(value) is list else [] if value is None else [value]
        if not method.accepts(len(arguments)):
            raise Refused(
                Code.BAD_REQUEST,
                f"{len(arguments)} arguments do not fit {method.signature}"[:MESSAGE_CHARS],
            )
        return arguments

    def _held(self, call: Call) -> Held:
        held = self._sessions.held.get(call.session or "")
        if held is None:
            raise Refused(Code.MOVING, "this container does not hold the session")
        return held

    def _state_of(self, call: Call, mode: str | None, held: Held | None) -> State | None:
        """The state to run on: the one here, the one that came with the call, or none."""
        if held is not None:
            return held.state
        if mode is None:
            return None
        return self._sessions.made(call.blob, (call.meta or {}).get("parts"))

    def _finished(
        self, call: Call, method: Method, session: Session, held: Held | None, result: Any, started: float
    ) -> bytes:
        """The handler has returned: the answer, and its changes kept or sent along."""
        if held is not None:
            held.state.pause()
        body = packed_result(method, result)
        new = self._changed(call, session) if held is None and not method.shared else None
        frame = self._result(call.id, method, session, body, new, started)
        if held is not None:
            self._keep(held, session, method)
        return frame

    def _changed(self, call: Call, session: Session) -> bytes | None:
        """The new state, if it came with the call and is another now."""
        state = session._state
        if state is None:
            return None
        old = None if (call.meta or {}).get("parts") else call.blob
        return self._kind.changed(state, old, self._max_state)

    def _keep(self, held: Held, session: Session, method: Method) -> None:
        """What the handler changed in a state that is here counts, unless it only reads."""
        if method.shared:
            held.state.undo()
        else:
            held.state.commit(self._max_state)
            held.epoch, held.version = session.epoch, session.version + 1

    def _learn(self, name: str, taken: float) -> None:
        """Remember slow runs, forget them slowly: it decides whether an answer may wait for the next one."""
        known = 0.7 * self._seconds.get(name, 0.0)
        self._seconds[name] = max(known, taken)

    def _call_out(
        self, id_: int, is_async: bool, session: Session, function: str, method: str,
        arguments: tuple[Any, ...], key: str | None, timeout: float,
    ) -> Any:  # fmt: skip
        """`s.call`: the result, or for an async handler what it has to await."""
        with nullcontext() if self.beside is None else self.beside.gate:
            return self._call_gated(id_, is_async, session, function, method, arguments, key, timeout)

    def _call_gated(
        self, id_: int, is_async: bool, session: Session, function: str, method: str,
        arguments: tuple[Any, ...], key: str | None, timeout: float,
    ) -> Any:  # fmt: skip
        body = packed(arguments)
        if len(body) > min(MAX_BODY, self._channel.max_frame - FRAME_MARGIN):
            raise call_error(Code.TOO_LARGE, f"the arguments take {len(body)} bytes")
        parent = session.parent = session.parent or Parent(id_, session.call_id, session.deadline)
        line = self._trio if is_async and self._trio is not None else self._blocking
        coroutine = self._outside.call(line, parent, function, key, method, body, timeout)
        return coroutine if is_async else run_blocking(coroutine)

    def _result(
        self,
        id_: int,
        method: Method,
        session: Session,
        body: bytes,
        new: bytes | None,
        started: float,
    ) -> bytes:
        meta: dict[str, Any] = {"run_us": round((time.monotonic() - started) * 1e6)}
        if session.preference is not None:
            meta["prefer"] = session.preference
        if method.shared:
            meta["shared"] = True
            if session.mode == "local":
                meta["version"] = session.version
        if session.alarms is not None:
            meta["alarms"] = self._alarms(method, session.alarms)
        room = self._channel.max_frame - FRAME_MARGIN - (0 if new is None else len(new))
        if len(body) > room or len(body) > MAX_BODY:
            most = min(room, MAX_BODY)
            raise wrong("ResultTooLarge", f"{method.name} returned {len(body)} bytes, {most} fit into its answer")
        if new is None:
            return self._channel.encode((17, id_, body, meta))
        return self._channel.encode((17, id_, body, meta, new))

    def _alarms(self, method: Method, asked: dict[str, list[Any] | None]) -> dict[str, list[Any] | None]:
        """What the answer says of alarms. Raises Refused for what could only fail later."""
        if method.shared:
            raise wrong("AlarmError", f"{method.name} is shared: it changes nothing and sets no alarms")
        for name, row in asked.items():
            if row is not None and self._function.find(row[1]) is None:
                raise wrong("AlarmError", f"alarm {name}: no method {row[1]!r:.80}")
        return asked

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


def _place(session: Session, held: Held | None, meta: dict[str, Any]) -> None:
    """Where in its history the session is."""
    session.epoch = meta.get("epoch", held.epoch if held else 0)
    session.version = meta.get("version", held.version if held else 0)


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
    finally:
        if worker.beside is not None:
            worker.beside.close()
        channel.close()

