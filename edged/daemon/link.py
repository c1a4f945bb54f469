"""One framed connection on a non-blocking socket (DESIGN §10, §11).

The hub says when to read; many frames per read. The write is tried at once, without a task between; only a socket
that would block gets a task that waits for it. A trio stream with a writer task of its own costs a wakeup per burst
and was measured at half the speed.
"""

import logging
import socket
from collections.abc import Callable, Sequence
from typing import Any

import trio

from edged_protocol import messages as m
from edged_protocol.codec import encode
from edged_protocol.connection import Connection
from edged_protocol.errors import ProtocolError
from edged_protocol.limits import MAX_FRAME_TRUSTED, READ_CHUNK

from .hub import Hub

log = logging.getLogger(__name__)

MAPPED = "::ffff:"
"""In front of an IPv4 address on a socket that takes both."""

AT_ONCE = 32
"""Messages of one read that are handled before what came of them is written: whoever is next on their way works on them
while the others are handled. At 16 the additional writes cost as much as that gains."""

MANY = 512
LITTLE = 8 * 1024
"""So many messages of one read are tiny, and somebody's flood or a burst: then less is read of that connection at a time, since
all others wait for 64 KiB of them longer than for any call."""

HANDSHAKE_SECONDS = 3.0
"""A stranger that has not said HELLO by then is cut."""

WRITE_SECONDS = 10.0
"""A peer that takes nothing for that long is cut."""

MAX_PENDING_OUT = 4 * 1024 * 1024
"""Bytes waiting for a slow reader; beyond it the connection is cut (a single larger frame may pass)."""

MAX_PENDING_TRUSTED = MAX_FRAME_TRUSTED + MAX_PENDING_OUT
"""The same for nodes and containers: the state of a session waits for its turn, and calls behind it."""


class Link:
    """`send` queues bytes, `flush` writes them; `run` reads until the connection ends."""

    def __init__(
        self,
        sock: socket.socket,
        connection: Connection,
        handle: Callable[["Link", list[m.Message]], None],
        hub: Hub,
    ) -> None:
        sock.setblocking(False)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self._connection = connection
        self._handle = handle
        self._hub = hub
        self._greeted = trio.Event()
        self._fresh: list[bytes] = []
        self.send = self._fresh.append
        """Queue one or more whole frames; nothing but the append of a list, because each call passes here twice."""
        self._out: list[bytes | memoryview] = []
        self._pending = 0
        self._chunk = READ_CHUNK
        self._blocked = False
        self._scope: trio.CancelScope | None = None
        self._nursery: trio.Nursery | None = None
        self.name = ""
        self.role = ""
        self.info: dict[str, Any] = {}
        self.closed = False
        self.heard = True
        self.unheard = 0
        self.stale_until = 0.0
        """Until this PONG, or this time: what is read may have been sent long ago."""
        self.inflight = 0
        self.heavy = 0
        """Bytes of its calls in hand (`burden`)."""
        self.waiting: dict[int, Any] = {}
        self.reason = ""

    @property
    def established(self) -> bool:
        """Whether both ends have greeted."""
        return self._greeted.is_set()

    def reads(self, decode: Callable[[bytes], m.Message]) -> None:
        """How its frames are decoded from now on."""
        self._connection.decode = decode

    @property
    def unsent(self) -> int:
        """Bytes that wait for the other end to take them."""
        return 0 if self.closed else self._pending + sum(map(len, self._fresh))

    @property
    def local_host(self) -> str:
        """This end's address, of a TCP connection that is open; "" of any other. IPv4 is written so on a socket for
        both as well."""
        tcp = self._sock.family in (socket.AF_INET, socket.AF_INET6)
        return str(self._sock.getsockname()[0]).removeprefix(MAPPED) if tcp and not self.closed else ""

    async def run(self) -> None:
        """Serve the connection; returns when it has ended, whatever ended it."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery, self._scope = nursery, nursery.cancel_scope
                self._out_handshake()
                if not self.closed:
                    self._hub.add(self._sock.fileno(), self)
                await self._greet()
                await trio.sleep_forever()  # `cut` ends it
        finally:
            self.cut("the node ends it")
            self._connection.ended()  # this object and its task refer to each other: they stay until the collector comes
            self._sock.close()

    async def _greet(self) -> None:
        with trio.move_on_after(HANDSHAKE_SECONDS):
            await self._greeted.wait()
        if not self._connection.established:
            self.cut("no handshake in time")

    def readable(self) -> None:
        """Take one read's worth of bytes and handle the messages it completes."""
        try:
            data = self._sock.recv(self._chunk)
        except BlockingIOError:
            return
        except OSError as error:
            self.cut(str(error))
            return
        self.heard = True
        if not data:
            self.cut("closed by the other end")
            return
        self._receive(data)

    def _receive(self, data: bytes) -> None:
        try:
            messages = self._connection.receive(data)
            self._out_handshake()
            if len(messages) > AT_ONCE:
                self._chunk = LITTLE if len(messages) > MANY else READ_CHUNK
                self._handle_in_parts(messages)
            else:
                self._chunk = READ_CHUNK
                if messages:
                    self._handle(self, messages)
        except ProtocolError as error:
            self.goaway(error.reason)
            log.info("%s: %s", self.name or "a stranger", error)

    def _handle_in_parts(self, messages: list[m.Message]) -> None:
        for at in range(0, len(messages), AT_ONCE):
            if not self.closed:
                self._handle(self, messages[at : at + AT_ONCE])
                self._hub.settle()

    def _out_handshake(self) -> None:
        out = self._connection.outgoing()
        if out:
            self.send(out)
            self.flush()
        if self._connection.established:
            self._greeted.set()

    def flush(self) -> None:
        """Write what is queued in one go; the rest waits for the socket."""
        fresh = self._fresh
        if not fresh or self.closed:
            return
        if self._blocked:
            self._pending += sum(map(len, fresh))
            self._out += fresh
            fresh.clear()
            self._bound()
            return
        data = _joined(fresh)
        fresh.clear()
        self._write(data)
        if self._pending and not self.closed:
            assert self._nursery is not None, "only a link that runs is written to"
            self._blocked = True
            self._nursery.start_soon(self._drain)

    def _write(self, data: bytes | memoryview) -> None:
        """As much as the socket takes now."""
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self.cut(str(error))
            return
        self._pending = len(data) - sent
        self._out = [memoryview(data)[sent:]] if self._pending else []

    async def _drain(self) -> None:
        while self._out and not self.closed:
            with trio.move_on_after(WRITE_SECONDS) as scope:
                await trio.lowlevel.wait_writable(self._sock)
            if scope.cancelled_caught:
                self.cut("it takes nothing")
                return
            self._write(_joined(self._out))
        self._blocked = False

    def _bound(self) -> None:
        most = MAX_PENDING_TRUSTED if self.role in ("node", "worker") else MAX_PENDING_OUT
        if self._pending > most and len(self._out) > 1:
            self.cut(f"{self._pending} bytes wait for a slow reader")

    def goaway(self, reason: str) -> None:
        """Say why, then end the connection; what cannot be written at once is lost."""
        self.send(encode(m.GoAway(reason)))
        self.flush()
        self.cut(reason)

    def cut(self, reason: str) -> None:
        """End the connection now."""
        if self.closed:
            return
        self.closed, self.reason = True, reason
        self._hub.remove(self._sock.fileno())
        self._out.clear()
        self._fresh.clear()
        self.send = _nowhere
        if self._scope is not None:
            self._scope.cancel()


def _joined(parts: Sequence[bytes | memoryview]) -> bytes | memoryview:
    """All that waits. A frame of many MiB that leaves in many writes is not copied for each."""
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _nowhere(data: bytes) -> None:
    """Where a connection that has ended sends what it is still told to."""
