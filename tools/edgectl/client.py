"""One operator's connection, used by one command at a time (SPEC "Handshake", "Errors").

Decides what a lost connection means: nothing was changed by a request that only reads, so it counts as
unreachable; after any other the outcome is unknown. Refuses to know commands and what they print.
"""

import socket
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, NamedTuple

from edged_protocol import messages as m
from edged_protocol.codec import encode, pack, unpack
from edged_protocol.connection import Connection
from edged_protocol.errors import Code, NotRunRetry, RemoteProtocolError, call_error
from edged_protocol.limits import READ_CHUNK

from .addresses import Target

CONNECT_SECONDS = 5.0
READING_SECONDS = 10.0
CHANGING_SECONDS = 65.0
"""A node gives up on a verb after 60; its answer says more than our silence."""

CALL_SECONDS = 10.0
CALL_MARGIN = 1.0
"""The node's own 401 is worth waiting for: it knows whether the call ran."""

READING = frozenset(
    {"node.status", "mesh.nodes", "function.list", "function.logs", "session.list", "session.get"}
)


class Unreachable(Exception):
    """No node answered, and nothing was changed."""


class Outcome(NamedTuple):
    """A call's value and what the mesh says of it."""

    value: Any
    meta: dict[str, Any]


class Call(NamedTuple):
    """One call of a function, before it is sent."""

    function: str
    session: str | None
    method: str
    args: tuple[Any, ...]
    call_id: bytes | None
    prefer: str | None
    seconds: float


def connect(targets: Iterable[Target], name: str) -> "Operator":
    """The first target that greets us. Raises Unreachable, which names every failure."""
    failures = []
    for target in targets:
        try:
            return Operator(target.open(CONNECT_SECONDS), name)
        except (OSError, RemoteProtocolError, UnicodeError) as error:
            failures.append(f"{target}: {error}")
    raise Unreachable("; ".join(failures))


class Operator:
    """Requests and calls over one socket; closed when its block ends."""

    def __init__(self, sock: socket.socket, name: str) -> None:
        self._sock = sock
        self._connection = Connection.dialer({"role": "operator", "name": name})
        self._inbox: list[m.Message] = []
        self._id = 0
        try:
            self._greet()
        except BaseException:
            sock.close()
            raise

    def _greet(self) -> None:
        self._sock.sendall(self._connection.outgoing())
        while not self._connection.established:
            self._fill()
            for message in self._inbox:
                if isinstance(message, m.GoAway):
                    raise RemoteProtocolError(message.reason, "refused by the node")

    def __enter__(self) -> "Operator":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._sock.close()

    def _fill(self) -> None:
        data = self._sock.recv(READ_CHUNK)
        if not data:
            raise ConnectionError("closed by the node")
        self._inbox += self._connection.receive(data)
        out = self._connection.outgoing()
        if out:
            self._sock.sendall(out)

    def _next(self, until: float | None) -> m.Message:
        while not self._inbox:
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                raise TimeoutError("no answer in time")
            self._sock.settimeout(left)
            self._fill()
        return self._inbox.pop(0)

    def _answer(self, id_: int, until: float | None) -> m.Result | m.Reply | m.Item:
        while True:
            message = self._next(until)
            if isinstance(message, m.Ping):
                self._sock.sendall(encode(m.Pong(message.nonce)))
            elif isinstance(message, m.Error) and message.id == id_:
                raise call_error(message.code, message.message, message.meta)
            elif isinstance(message, m.Result | m.Reply | m.Item) and message.id == id_:
                return message

    def _send(self, message: m.Invoke | m.Request, seconds: float) -> None:
        frame = encode(message)
        if len(frame) - 4 > self._connection.max_frame:
            text = f"a frame of {len(frame) - 4} bytes, the node takes {self._connection.max_frame}"
            raise call_error(Code.TOO_LARGE, text)
        self._sock.settimeout(seconds)
        self._sock.sendall(frame)

    def request(self, verb: str, params: dict[str, Any], blob: bytes | None = None) -> Any:
        """A control verb's result. Raises CallError, Unreachable."""
        self._id += 1
        seconds = READING_SECONDS if verb in READING else CHANGING_SECONDS
        try:
            self._send(m.Request(self._id, verb, params, blob), seconds)
            answer = self._answer(self._id, time.monotonic() + seconds)
        except (OSError, RemoteProtocolError) as error:
            raise _lost(error, verb in READING) from error
        if not isinstance(answer, m.Reply):
            raise call_error(Code.INTERNAL, f"{verb} was not answered with a REPLY")
        return answer.result

    def stream(self, verb: str, params: dict[str, Any], *, follow: bool) -> Iterator[Any]:
        """The items of a streamed verb; with `follow` it waits for each without end."""
        self._id += 1
        try:
            self._send(m.Request(self._id, verb, params), READING_SECONDS)
            while True:
                until = None if follow else time.monotonic() + READING_SECONDS
                answer = self._answer(self._id, until)
                if not isinstance(answer, m.Item):
                    return
                if answer.item is not None:
                    yield answer.item
                if answer.last:
                    return
        except (OSError, RemoteProtocolError) as error:
            raise _lost(error, True) from error

    def call(self, call: Call) -> Outcome:
        """Call, and repeat what certainly did not run while there is time. Raises CallError.

        `attempt` is not sent: it tells of tries that may have run, and after a 1xx there was none.
        """
        until = time.monotonic() + call.seconds
        while True:
            try:
                return self._invoke(call, until)
            except NotRunRetry as refused:
                pause = _pause(refused)
                if time.monotonic() + pause >= until:
                    raise
                time.sleep(pause)

    def _invoke(self, call: Call, until: float) -> Outcome:
        self._id += 1
        meta: dict[str, Any] = {}
        if call.prefer:
            meta["prefer"] = call.prefer
        left = max(until - time.monotonic(), 0.001)
        body = pack(list(call.args))
        target = (call.function, call.session, call.method, call.call_id)
        try:
            self._send(m.Invoke(self._id, *target, int(left * 1000) or 1, body, meta or None), left)
            answer = self._answer(self._id, until + CALL_MARGIN)
            if isinstance(answer, m.Result):
                return Outcome(unpack(answer.body), answer.meta or {})
        except (OSError, RemoteProtocolError) as error:
            raise _lost(error, False) from error
        raise call_error(Code.INTERNAL, "the call was not answered with a RESULT")


def _pause(refused: NotRunRetry) -> float:
    hint = refused.meta.get("retry_after_ms")
    return min(max(hint, 1), 1000) / 1000 if type(hint) is int else 0.05


def _lost(error: Exception, reading: bool) -> Exception:
    if reading:
        return Unreachable(f"the node did not answer: {error}")
    code = Code.DEADLINE_EXCEEDED if isinstance(error, TimeoutError) else Code.NODE_LOST
    return call_error(code, str(error))
