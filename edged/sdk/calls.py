"""One call in a container: a handler's run that leaves its result and all its changes, or neither (DESIGN §4, §8).

Decides which method and state a call runs on, what becomes of the state, and what is answered. Refuses to know when a
call is run, what waits behind it (worker.py), and bytes (channel.py). A handler may do anything, so whatever it raises
is an answer and undoes its changes.

`now`, by which the serve loop goes too, is kept here: a run ends where the next begins. A clock for each of
the two was the alternative, and costs every call more readings.
"""

import os
from contextlib import nullcontext
from math import inf
from time import monotonic
from typing import Any

import msgpack  # type: ignore[import-untyped]

from edged_protocol.codec import no_extension
from edged_protocol.errors import Code, call_error
from edged_protocol.limits import MAX_BODY
from edged_protocol.plain import encode_ran

from .answers import MESSAGE_CHARS, Refused, failed, packed, packed_result, refusal, wrong
from .beside import Beside
from .channel import Channel
from .function import Function, Method
from .outside import Line, Outside, Parent, run_blocking
from .session import Session
from .sessions import Held, Sessions
from .state import Kind

FRAME_MARGIN = 1024
"""Bytes of a RESULT beside its body and state."""


_SHORT = [None, None]
"""What a short INVOKE leaves out: meta and state."""


class Calls:
    """Runs the calls of one function, on the sessions that are here or on a state that came along."""

    def __init__(
        self, function: Function, kind: Kind, max_state: int, sessions: Sessions, channel: Channel, line: Line
    ) -> None:
        self._function = function
        self._methods = function.methods
        self._kind = kind
        self._max_state = max_state
        self._sessions = sessions
        self._channel = channel
        self._default = function.default
        self._outside = Outside()
        self._blocking = line
        self.trio: Line | None = None
        self.beside: Beside | None = None
        self.seconds: dict[str, float] = {}
        """By method, about what its slowest runs of late took."""
        self.now = monotonic()
        """When the last thing was done: a clock is read once a call, not at each step."""
        self._forked = False
        os.register_at_fork(after_in_child=self._is_a_fork)

    def _is_a_fork(self) -> None:
        self._forked = True

    async def invoke(self, message: list[Any], arrived: float, beside: bool) -> bytes:  # noqa: PLR0912 - each call passes here
        """One INVOKE: it leaves its result and all its changes, or a refusal and none. `beside`: a reader, on a copy."""
        if len(message) == 9:  # the usual form
            _, id_, _, key, name, call_id, timeout, body, meta = message
            blob = None
        else:
            _, id_, _, key, name, call_id, timeout, body, meta, blob = (message + _SHORT)[:10]
        mode, held, method, started = meta.get("mode") if meta else None, None, None, self.now
        try:
            method = self._methods.get(name or self._default) or self._no_method(name)
            arguments = self._arguments(method, body)
            deadline = arrived + timeout / 1000 if timeout > 0 else inf
            if started > deadline:
                raise Refused(Code.DEADLINE_EXCEEDED, "expired before it ran", {"ran": False})
            session = Session(None, self._sessions.node, key, mode or "stateless", call_id, deadline)
            session._calls = self._call_out, id_, method.is_async
            if mode is not None:
                held = self._placed(session, meta, blob, beside)
            if self.beside is None:
                result = method.run(session, *arguments)
                if method.is_async:
                    result = await result
            else:
                result = self._run_ungated(self.beside, method, session, arguments)
            if held is not None:
                held.state.pause()
            packed = packed_result(method, result)
            new = None if mode is None or method.shared or held is not None else self._changed(session, meta, blob)
            frame = self._result(id_, method, session, packed, new, started)
            if held is not None:
                self._keep(held, session, method)
            return frame
        except BaseException as error:  # noqa: BLE001 - whatever a handler raises is an answer
            if held is not None:
                held.state.undo()
            return self._channel.encode(refusal(id_, failed(error)))
        finally:
            if self._forked:
                os._exit(0)  # the handler forked and its child came back: the socket is not the child's
            self.now = now = monotonic()
            if method is not None:
                self._learn(method.name, now - started)

    def _run_ungated(self, beside: Beside, method: Method, session: Session, arguments: list[Any]) -> Any:
        beside.gate.release()
        try:
            return method.run(session, *arguments)
        finally:
            if not self._forked:  # in a child of the handler nobody would let go of it
                beside.gate.acquire()

    def _no_method(self, name: str) -> Method:
        known = ", ".join(self._methods)
        raise Refused(Code.NO_SUCH_METHOD, f"no method {name!r:.80}; there are: {known}")

    def _arguments(self, method: Method, body: bytes) -> list[Any]:
        try:
            value = msgpack.unpackb(body, max_ext_len=0, ext_hook=no_extension) if body else None
        except (ValueError, TypeError, msgpack.exceptions.UnpackException) as error:
            why = str(error) or type(error).__name__
            raise Refused(Code.BAD_REQUEST, f"the body is not msgpack: {why}"[:MESSAGE_CHARS]) from error
        arguments = value if type(value) is list else [] if value is None else [value]
        if not method.least <= len(arguments) <= method.most:
            raise Refused(
                Code.BAD_REQUEST,
                f"{len(arguments)} arguments do not fit {method.signature}"[:MESSAGE_CHARS],
            )
        return arguments

    def _placed(self, session: Session, meta: dict[str, Any], blob: bytes | None, beside: bool) -> Held | None:
        """Give a call its state: the one that is here, whose holder this is, or the one that came with the call."""
        held = self._held(session.key) if session.mode == "local" else None
        session.epoch = meta.get("epoch", held.epoch if held else 0)
        session.version = meta.get("version", held.version if held else 0)
        if held is None:
            session._state = self._sessions.made(blob, meta.get("parts"), meta.get("schema"))
        elif beside:
            session._state = self._kind.make(held.state.committed())
            return None
        else:
            session._state = held.state
            held.state.begin()
        return held

    def _held(self, key: str | None) -> Held:
        held = self._sessions.held.get(key or "")
        if held is None:
            raise Refused(Code.MOVING, "this container does not hold the session")
        return held

    def _changed(self, session: Session, meta: dict[str, Any], blob: bytes | None) -> bytes | None:
        """The new state, if it came with the call and is another now."""
        assert session._state is not None
        same = b"" if "schema" in meta else None if meta.get("parts") else blob
        return self._kind.changed(session._state, same, self._max_state)

    def _keep(self, held: Held, session: Session, method: Method) -> None:
        """What the handler changed in a state that is here counts, unless it only reads."""
        if method.shared:
            held.state.undo()
        else:
            held.state.commit(self._max_state)
            held.epoch, held.version = session.epoch, session.version + 1
            if session.ending:  # calls behind this one are for the session that begins anew
                del self._sessions.held[session.key or ""]

    def _learn(self, name: str, taken: float) -> None:
        """Remember slow runs, forget them slowly: it decides whether an answer may wait for the next one."""
        known = 0.7 * self.seconds.get(name, 0.0)
        self.seconds[name] = taken if taken > known else known  # noqa: FURB136 - for every call; `max` takes thrice as long

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
        line = self.trio if is_async and self.trio is not None else self._blocking
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
        run_us = round((monotonic() - started) * 1e6)
        if new is None and not (method.shared or session.preference or session.ending or session.alarms):
            frame = encode_ran(id_, body, run_us)
            if frame is not None:
                return frame
        meta: dict[str, Any] = {"run_us": run_us}
        if session.preference is not None:
            meta["prefer"] = session.preference
        if session.ending:
            if method.shared:
                raise wrong("EndError", f"{method.name} is shared: it changes nothing and ends no session")
            meta["end"] = True
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
        return self._channel.encode((17, id_, body, meta) if new is None else (17, id_, body, meta, new))

    def _alarms(self, method: Method, asked: dict[str, list[Any] | None]) -> dict[str, list[Any] | None]:
        """What the answer says of alarms. Raises Refused for what could only fail later."""
        if method.shared:
            raise wrong("AlarmError", f"{method.name} is shared: it changes nothing and sets no alarms")
        for name, row in asked.items():
            if row is not None and self._function.find(row[1]) is None:
                raise wrong("AlarmError", f"alarm {name}: no method {row[1]!r:.80}")
        return asked
