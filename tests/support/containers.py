"""The daemon's end of a container's socket, blocking, for tests: greet, call, ask, read what comes."""

import socket
import threading
from typing import Any

from edged.sdk import Function
from edged.sdk.worker import run
from edged_protocol import messages as m
from edged_protocol.codec import encode, pack, unpack
from edged_protocol.connection import Connection
from edged_protocol.limits import MAX_FRAME_TRUSTED

PATIENCE = 60.0
"""Seconds for anything, on a machine with other work."""


class Peer:
    """Speaks to one container. A broken protocol raises, silence raises TimeoutError."""

    def __init__(self, sock: socket.socket, node: str = "here") -> None:
        self.sock = sock
        sock.settimeout(PATIENCE)
        welcome = {"proto": 1, "mesh": "test", "node": node, "max_frame": MAX_FRAME_TRUSTED, "max_inflight": 64}
        self._connection = Connection.acceptor(lambda _: m.Welcome(welcome))
        self._inbox: list[Any] = []
        self._id = 0
        hello = self.receive()
        assert isinstance(hello, m.Hello)
        self.hello = hello.info
        sock.sendall(self._connection.outgoing())

    def receive(self) -> Any:
        """The next message. Raises EOFError at the end of the stream."""
        while not self._inbox:
            data = self.sock.recv(1 << 18)
            if not data:
                raise EOFError
            self._inbox += self._connection.receive(data)
        return self._inbox.pop(0)

    def send(self, *messages: m.Message) -> None:
        """Messages in one write."""
        self.sock.sendall(b"".join(map(encode, messages)))

    def invoke(self, method: str, *arguments: Any, **fields: Any) -> m.Invoke:
        """An INVOKE with the next id; `fields` replace those of a remote call of session "k"."""
        self._id += 1
        values = {"function": "f", "session": "k", "call_id": bytes(16), "timeout_ms": 5000, "meta": {"mode": "remote"}}
        return m.Invoke(**{"id": self._id, "method": method, "body": pack(list(arguments)), **values, **fields})

    def call(self, method: str, *arguments: Any, **fields: Any) -> m.Result | m.Error:
        """Invoke and take the answer."""
        message = self.invoke(method, *arguments, **fields)
        self.send(message)
        answer = self.receive()
        assert answer.id == message.id
        return answer

    def local(self, method: str, *arguments: Any, **fields: Any) -> m.Result | m.Error:
        """The same for a session this container holds."""
        return self.call(method, *arguments, **{"meta": {"mode": "local"}, **fields})

    def ask(self, verb: str, blob: bytes | None = None, **params: Any) -> m.Reply | m.Error:
        """A worker verb and its answer."""
        self._id += 1
        self.send(m.Request(self._id, verb, params, blob))
        answer = self.receive()
        assert answer.id == self._id
        return answer


def value_of(answer: Any) -> Any:
    """What a RESULT carries; an ERROR fails the test with its text."""
    assert isinstance(answer, m.Result), answer
    return unpack(answer.body)


class InThread:
    """A function's real serve loop in a thread of the test, and the Peer of its socket."""

    def __init__(self, function: Function, max_state: int = 1 << 20) -> None:
        ours, theirs = socket.socketpair()
        self._thread = threading.Thread(target=run, args=(function, theirs, "c1", max_state), daemon=True)
        self._thread.start()
        self.peer = Peer(ours)

    def __enter__(self) -> Peer:
        return self.peer

    def __exit__(self, *_: object) -> None:
        self.peer.sock.close()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
