"""A container's end of its socket: frames in, frames out, blocking (DESIGN §4, §11).

Decides how bytes become messages and when answers leave. Refuses to know what the messages mean.

No event loop: a blocking socket answered a call in 64 to 73 microseconds through a whole relay, trio alone
needs 66 for an echo. The peer is the node's daemon, which is trusted: its frames are not looked at twice.
"""

import fcntl
import socket
import struct
import time
from typing import Any

import msgpack  # type: ignore[import-untyped]

HOLD_SECONDS = 0.0002
"""Longest an answer waits so that it may leave in one write with the next."""

HOLD_BYTES = 64 * 1024
"""Beyond it a joint write saves nothing."""

READ_BYTES = 256 * 1024
"""More than a Unix socket buffers: one read empties it."""

SAFE_FD = 200
"""The socket moves here: a stray `os.close(3)`, or a file object the function opened while it was
imported and whose number is free again, does not hit it."""

_LENGTH = struct.Struct(">I")


class Closed(Exception):
    """The daemon has closed the socket: there is nobody to work for."""


class Channel:
    """`receive` gives messages as lists; `answer` queues one, `flush` sends all that are queued."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = _moved(sock)
        self._sock.setblocking(True)
        self._pack = msgpack.Packer(use_bin_type=True, autoreset=True).pack
        self._rest = b""
        self._need = 4
        self._parts: list[bytes] = []
        self._have = 0
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._since = 0.0
        self.max_frame = 1 << 20
        """Largest frame the daemon takes; WELCOME tells."""

    def receive(self, *, wait: bool) -> list[list[Any]]:
        """All that can be read now; with `wait` at least one read. Raises Closed."""
        messages: list[list[Any]] = []
        flags = 0 if wait else socket.MSG_DONTWAIT
        while True:
            try:
                data = self._sock.recv(READ_BYTES, flags)
            except BlockingIOError:
                return messages
            except OSError as error:
                raise Closed from error
            if not data:
                raise Closed
            self._cut(data, messages)
            if len(data) < READ_BYTES and (messages or not wait):
                return messages
            flags = socket.MSG_DONTWAIT if messages else flags

    def _cut(self, data: bytes, messages: list[list[Any]]) -> None:
        """Append the messages completed by `data`; keep the rest in parts, joined once."""
        self._parts.append(data)
        self._have += len(data)
        if self._have < self._need:
            return
        if len(self._parts) > 1:
            data = b"".join(self._parts)
        at, end, self._need = 0, len(data), 4
        view = memoryview(data)
        while end - at >= 4:
            (length,) = _LENGTH.unpack_from(data, at)
            if end - at - 4 < length:
                self._need = 4 + length
                break
            at += 4 + length
            messages.append(msgpack.unpackb(view[at - length : at], raw=False))
        self._parts = [data[at:]] if at < end else []
        self._have = end - at

    def encode(self, fields: tuple[Any, ...]) -> bytes:
        """A whole frame."""
        data: bytes = self._pack(fields)
        return _LENGTH.pack(len(data)) + data

    def answer(self, frame: bytes) -> None:
        """Queue a frame made by `encode`."""
        if not self._out:
            self._since = time.monotonic()
        self._out.append(frame)
        self._out_bytes += len(frame)

    def may_hold(self, seconds: float) -> bool:
        """Whether what is queued can wait for a call that will take about that long."""
        if not self._out:
            return True
        held = time.monotonic() - self._since
        return held + seconds < HOLD_SECONDS and self._out_bytes < HOLD_BYTES

    def flush(self) -> None:
        """Send what is queued, in one write. Raises Closed."""
        if not self._out:
            return
        data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
        self._out, self._out_bytes = [], 0
        try:
            self._sock.sendall(data)
        except OSError as error:
            raise Closed from error

    def close(self) -> None:
        """The daemon reads the end of the stream."""
        self._sock.close()


def _moved(sock: socket.socket) -> socket.socket:
    fd = fcntl.fcntl(sock.fileno(), fcntl.F_DUPFD_CLOEXEC, SAFE_FD)
    sock.close()
    return socket.socket(fileno=fd)
