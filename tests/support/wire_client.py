"""A blocking client of one connection, made of the protocol package's parts only."""

import os
import socket
import time
from pathlib import Path
from typing import Any

from edged_protocol import messages as m
from edged_protocol.bundle import bundle_hash, pack_directory
from edged_protocol.codec import encode, pack, unpack
from edged_protocol.connection import Connection
from edged_protocol.errors import CallError, Code, NotRunRetry, UnknownOutcome, call_error

PATIENT_MS = 30_000
"""For one attempt that has to succeed, on a machine with other work."""


class WireClient:
    """`call` and `request`, one at a time, with retries under the same call id."""

    def __init__(self, address: str, role: str = "device") -> None:
        host, port = address.rsplit(":", 1)
        self._sock = socket.create_connection((host.strip("[]"), int(port)), timeout=60)
        self._connection = Connection.dialer({"role": role, "name": "test"})
        self._inbox: list[m.Message] = []
        self.answered: list[m.Result | m.Error] = []
        """Calls' answers, in the order in which they came."""
        self._id = 0
        self._sock.sendall(self._connection.outgoing())
        while not self._connection.established:
            self._inbox += self._connection.receive(self._recv())

    def close(self) -> None:
        self._sock.close()

    def _recv(self) -> bytes:
        data = self._sock.recv(65536)
        if not data:
            raise ConnectionError("closed by the node")
        return data

    def _answer(self, id_: int) -> m.Result | m.Error | m.Reply:
        while True:
            for message in self._inbox:
                if isinstance(message, m.Result | m.Error | m.Reply) and message.id == id_:
                    self._inbox.remove(message)
                    return message
            messages = self._connection.receive(self._recv())
            for ping in (message for message in messages if isinstance(message, m.Ping)):
                self._sock.sendall(encode(m.Pong(ping.nonce)))
            self.answered += [message for message in messages if isinstance(message, m.Result | m.Error)]
            self._inbox += messages

    def once(self, function: str, session: str | None, method: str, *args: Any, **options: Any) -> tuple[Any, dict[str, Any]]:
        """One attempt, with the options of `send`; the value and the meta. Raises CallError. One that a node refuses because
        it was away for a second, as on a machine with other work, is no attempt."""
        options.setdefault("timeout_ms", PATIENT_MS)
        while True:
            try:
                return self.outcome(self.send(function, session, method, *args, **options))
            except NotRunRetry as error:
                if error.code != Code.MOVING or "the node was away" not in error.message:
                    raise

    def send(
        self,
        function: str,
        session: str | None,
        method: str,
        *args: Any,
        call_id: bytes | None = None,
        attempt: int = 0,
        timeout_ms: int = 5000,
    ) -> int:
        """Call without waiting; the id for `outcome`."""
        self._id += 1
        meta = {"attempt": attempt} if attempt else None
        body = pack(list(args))
        self._sock.sendall(
            encode(m.Invoke(self._id, function, session, method, call_id, timeout_ms, body, meta))
        )
        return self._id

    def outcome(self, id_: int) -> tuple[Any, dict[str, Any]]:
        """Of a `send`: the value and the meta. Raises CallError."""
        answer = self._answer(id_)
        if isinstance(answer, m.Error):
            raise call_error(answer.code, answer.message, answer.meta)
        assert isinstance(answer, m.Result)
        return unpack(answer.body), answer.meta or {}

    def call(self, function: str, session: str | None, method: str, *args: Any) -> Any:
        """Repeat under one call id until it is answered.

        `attempt` counts the tries that may have run. After a 1xx it does not rise: that try certainly
        did not run, and a node that has forgotten old calls would refuse a possible repetition (404).
        """
        call_id, attempt = os.urandom(16), 0
        for _ in range(200):
            try:
                return self.once(function, session, method, *args, call_id=call_id, attempt=attempt, timeout_ms=5000)[0]
            except NotRunRetry as error:
                last: CallError = error
                time.sleep(0.01)  # all tries would be over before a lease that lapsed for a moment is good again
            except UnknownOutcome as error:
                if error.code == Code.OUTCOME_FORGOTTEN:
                    raise
                last, attempt = error, attempt + 1
        raise last

    def burst(self, function: str, method: str, *args: Any, count: int) -> list[int]:
        """So many calls at once, each tried once: 0 for a result, else the code."""
        ids = range(self._id + 1, self._id + 1 + count)
        self._id += count
        body = pack(list(args))
        frames = [encode(m.Invoke(i, function, None, method, None, 30_000, body, None)) for i in ids]
        self._sock.sendall(b"".join(frames))
        answers = [self._answer(i) for i in ids]
        return [answer.code if isinstance(answer, m.Error) else 0 for answer in answers]

    def request(self, verb: str, params: dict[str, Any], blob: bytes | None = None) -> Any:
        """A control verb. Raises CallError."""
        return self.reply(self.send_request(verb, params, blob))

    def send_request(self, verb: str, params: dict[str, Any], blob: bytes | None = None) -> int:
        """Ask without waiting; the id for `reply`."""
        self._id += 1
        self._sock.sendall(encode(m.Request(self._id, verb, params, blob)))
        return self._id

    def reply(self, id_: int) -> Any:
        """The answer to a `send_request`. Raises CallError."""
        answer = self._answer(id_)
        if isinstance(answer, m.Error):
            raise call_error(answer.code, answer.message, answer.meta)
        assert isinstance(answer, m.Reply)
        return answer.result

    def deploy(self, directory: Path) -> Any:
        """Upload and deploy a function."""
        data = pack_directory(directory)
        hash_ = bundle_hash(data)
        self.request("function.upload", {"hash": hash_, "offset": 0, "total": len(data)}, data)
        return self.request("function.deploy", {"hash": hash_})
