"""A broker of few words on a real socket: answers each verb and call as a test scripted it."""

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Any

from edged_protocol import messages as m
from edged_protocol.codec import encode
from edged_protocol.connection import Connection

Answer = Callable[[m.Request | m.Invoke], list[m.Message]]


def unknown(asked: m.Request | m.Invoke) -> list[m.Message]:
    """As a node answers a verb it does not know."""
    return [m.Error(asked.id, 203, "not known")]


class FakeBroker:
    """Serves one connection after another; `seen` is what it was asked, `script` what it says."""

    def __init__(self, sock: socket.socket) -> None:
        self._listener = sock
        self._thread = threading.Thread(target=self._serve)
        self.seen: list[m.Request | m.Invoke] = []
        self.hello: list[m.Map] = []
        self.script: dict[str, Answer] = {}
        self.goaway: str | None = None
        self.at_pong: list[m.Message] = []

    def __enter__(self) -> "FakeBroker":
        self._listener.listen()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    @property
    def address(self) -> str:
        host, port = self._listener.getsockname()
        return f"{host}:{port}"

    def replies(self, verb: str, result: Any) -> None:
        """Answer `verb` with one REPLY."""
        self.script[verb] = lambda asked: [m.Reply(asked.id, result)]

    def fails(self, what: str, code: int, message: str, meta: m.Map | None = None) -> None:
        """Answer a verb, or with "call" every call, with ERROR."""
        self.script[what] = lambda asked: [m.Error(asked.id, code, message, meta)]

    def _serve(self) -> None:
        while True:
            try:
                sock = self._listener.accept()[0]
            except OSError:
                return
            with sock, contextlib.suppress(ConnectionError):  # the tool may leave early
                self._converse(sock)

    def _converse(self, sock: socket.socket) -> None:
        if self.goaway is not None:
            sock.sendall(encode(m.GoAway(self.goaway)))
            return
        connection = Connection.acceptor(self._welcome)
        while data := sock.recv(65536):
            messages = connection.receive(data)
            sock.sendall(connection.outgoing())
            for message in messages:
                if isinstance(message, m.Pong):
                    sock.sendall(b"".join(encode(answer) for answer in self.at_pong))
                if not isinstance(message, m.Request | m.Invoke):
                    continue
                self.seen.append(message)
                key = message.verb if isinstance(message, m.Request) else "call"
                answers = self.script.get(key, unknown)(message)
                if not answers:
                    return
                sock.sendall(b"".join(encode(answer) for answer in answers))

    def _welcome(self, hello: m.Hello) -> m.Welcome:
        self.hello.append(hello.info)
        info = {"proto": 1, "mesh": "t", "node": "n1", "max_frame": 1_114_112, "max_inflight": 256}
        return m.Welcome(info)
