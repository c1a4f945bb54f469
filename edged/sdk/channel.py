"""A container's end of its socket: frames in, frames out, blocking (DESIGN §4, §11).

Decides how bytes become messages and when answers leave. Refuses to know what the messages mean.

No event loop: a blocking socket answered a call in 64 to 73 microseconds through a whole relay, trio alone
needs 66 for an echo. The peer is the node's daemon, which is trusted: its frames are not looked at twice.
"""

import fcntl
import math
import select
import socket
import struct
import time
from typing import Any

import msgpack  # type: ignore[import-untyped]

HOLD_SECONDS = 0.0001
"""Longest an answer waits for those of calls that are here already, to leave in one write with them: some twenty of
the shortest calls. The node works on the first answers while the next are made."""

HOLD_BYTES = 64 * 1024
"""Beyond it a joint write saves nothing."""

READ_BYTES = 64 * 1024
"""Taken in one read, into a buffer that is there already: a fresh one of this size costs more than the read."""

LOOK_SECONDS = 0.0002
"""With calls in hand the socket is looked at this often: a CANCEL must find a call behind a long one."""

SAFE_FD = 200
"""The socket moves here: a stray `os.close(3)`, or a file object the function opened while it was
imported and whose number is free again, does not hit it."""

_length, _length_at = struct.Struct(">I").pack, struct.Struct(">I").unpack_from


class Closed(Exception):
    """The daemon has closed the socket: there is nobody to work for."""


class Channel:
    """`receive` gives messages as lists; `answer` queues one, `flush` sends all that are queued."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = _moved(sock)
        self._sock.setblocking(True)
        self._buffer = memoryview(bytearray(READ_BYTES))
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
        self.looked = 0.0
        """When the socket was last read from."""

    def stale(self, now: float) -> bool:
        """Whether the last look at the socket is so old that another is due between two calls."""
        return now - self.looked > LOOK_SECONDS

    def fileno(self) -> int:
        """The socket's number, for who waits for it in an event loop."""
        return self._sock.fileno()

    def readable(self, seconds: float) -> bool:
        """Wait until there is something to receive; False when there is not in that time."""
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return bool(poll.poll(math.ceil(max(0.0, seconds) * 1000)))

    def receive(self, *, wait: bool = True) -> list[list[Any]]:
        """All that can be read now; with `wait` at least one read. Raises Closed."""
        messages: list[list[Any]] = []
        flags = 0 if wait else socket.MSG_DONTWAIT
        while True:
            try:
                count = self._sock.recv_into(self._buffer, 0, flags)
            except BlockingIOError:
                break
            except OSError as error:
                raise Closed from error
            if not count:
                raise Closed
            self._cut(bytes(self._buffer[:count]), messages)
            if count < READ_BYTES and (messages or not wait):
                break
            flags = socket.MSG_DONTWAIT if messages else flags
        self.looked = time.monotonic()
        return messages

    def _cut(self, data: bytes, messages: list[list[Any]]) -> None:
        """Append the messages completed by `data`; keep the rest in parts, joined once."""
        self._parts.append(data)
        self._have += len(data)
        if self._have < self._need:
            return
        if len(self._parts) > 1:
            data = b"".join(self._parts)
        at, end, self._need = 0, len(data), 4
        while end - at >= 4:
            (length,) = _length_at(data, at)
            if end - at - 4 < length:
                self._need = 4 + length
                break
            at += 4 + length
            messages.append(msgpack.unpackb(data[at - length : at]))
        self._parts = [data[at:]] if at < end else []
        self._have = end - at

    def encode(self, fields: tuple[Any, ...]) -> bytes:
        """A whole frame."""
        data: bytes = self._pack(fields)
        return _length(len(data)) + data

    def answer(self, frame: bytes, now: float) -> None:
        """Queue a frame made by `encode`."""
        if not self._out:
            self._since = now
        self._out.append(frame)
        self._out_bytes += len(frame)

    def send(self, frame: bytes) -> None:
        """Send a frame at once, with what is queued. Raises Closed."""
        self._out.append(frame)
        self.flush()

    def may_hold(self, seconds: float, now: float) -> bool:
        """Whether what is queued can wait for a call that will take about that long."""
        return now - self._since + seconds < HOLD_SECONDS and self._out_bytes < HOLD_BYTES

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
