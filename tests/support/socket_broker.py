"""A broker of few words on real sockets, in a thread: it answers each question as a test scripted it."""

import contextlib
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edged_protocol import messages as m
from edged_protocol.codec import encode, pack, unpack
from edged_protocol.connection import Connection

Question = m.Invoke | m.Request
Script = Callable[["Talk", Question], None]


class Talk:
    """One connection of the broker."""

    def __init__(self, sock: socket.socket, info: m.Map) -> None:
        self.sock = sock
        self.connection = Connection.acceptor(lambda _: m.Welcome(info))
        self.got: list[m.Message] = []

    def say(self, *messages: m.Message) -> None:
        """Send messages in one write."""
        self.sock.sendall(b"".join(encode(message) for message in messages))

    def cut(self) -> None:
        """End the connection."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)


def echo(talk: Talk, asked: Question) -> None:
    """Answer a call with its first argument, a verb with its parameters and byte string."""
    if isinstance(asked, m.Invoke):
        talk.say(m.Result(asked.id, pack(unpack(asked.body)[0]), {"node": "n1"}))
    else:
        talk.say(m.Reply(asked.id, asked.params, asked.blob))


def narrow_listener() -> socket.socket:
    """A listener whose connections take so little at once that a large write never goes through in one."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    listener.bind(("127.0.0.1", 0))
    return listener


def listener_of(family: str, folder: Path) -> socket.socket:
    """A listener that is no IPv4 one: "unix", a path in the folder, or "v6"."""
    if family == "unix":
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(folder / "b.sock"))
        return listener
    try:
        return socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6 loopback here")


class SocketBroker:
    """Listens as long as its block lasts. `script` answers; `talks` are its connections, oldest first."""

    def __init__(
        self, script: Script = echo, *, listener: socket.socket | None = None, **info: Any
    ):
        self._listener = listener or socket.create_server(("127.0.0.1", 0))
        self._info = {"proto": 1, "mesh": "m", "node": "n", "max_frame": 1_114_112, **info}
        self.script = script
        self.talks: list[Talk] = []
        self._threads = [threading.Thread(target=self._accept)]

    @property
    def address(self) -> str:
        """Where it listens."""
        name = self._listener.getsockname()
        if isinstance(name, str):
            return f"unix:{name}"
        return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"

    def __enter__(self) -> "SocketBroker":
        self._listener.listen()
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        for thread in self._threads:
            thread.join(10)

    def close(self) -> None:
        """Die: no more connections, none goes on."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for talk in self.talks:
            talk.cut()

    def _accept(self) -> None:
        while True:
            try:
                sock = self._listener.accept()[0]
            except OSError:
                return
            talk = Talk(sock, self._info)
            self.talks.append(talk)
            thread = threading.Thread(target=self._serve, args=(talk,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, talk: Talk) -> None:
        with talk.sock, contextlib.suppress(OSError):
            while data := talk.sock.recv(65536):
                messages = talk.connection.receive(data)
                talk.sock.sendall(talk.connection.outgoing())
                for message in messages:
                    talk.got.append(message)
                    if isinstance(message, m.Invoke | m.Request):
                        self.script(talk, message)
