"""One connection to a Redis or Valkey server at a time: requests in their order, replies in the same (DESIGN §10).

Decides when a connection is given up, and that every request gets a reply or an error, once. Refuses to know
operations.

Requests go out as they come; coredis joins what one turn of the loop produced. Its pool of connections was the
alternative: a read could overtake the write before it there. A reply that does not come in time ends the
connection, so that no later one can be taken for it.
"""

import random
import ssl
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import anyio
import trio
from anyio.abc import ByteStream
from coredis.connection import TCPConnection, TCPLocation
from coredis.exceptions import RedisError

from edged.core.store_url import RedisUrl

from .redis_scripts import Names
from .redis_server import NotUsable, Server, check_role, greet

CONNECT_SECONDS = 2.0
"""For connection, TLS, password and a first look at the server."""

PROBE_SECONDS = 1.0
"""Between two looks at whether the server is still there, and still the master."""

FIRST_PAUSE, MAX_PAUSE = 0.03, 1.0
"""Between two tries to connect; it doubles from one to the other."""

SILENCE, LONGEST = 0.5, 30.0
"""A reply that is late is waited for while bytes of it arrive, a large state on a slow line: no longer than SILENCE
without any, and no longer than LONGEST."""

TURN = 64
"""Replies handed on before the loop's other tasks have a turn."""

Then = Callable[[Any], None]
"""What a reply is for: a value, or an exception in its place."""


class Lost(Exception):
    """In place of a reply: the connection ended first. Whether the request was carried out is unknown."""


class _Sent:
    __slots__ = ("deadline", "request", "then")

    def __init__(self, request: Any, deadline: float, then: Then) -> None:
        self.request = request
        self.deadline = deadline
        self.then = then


class _Dialled(TCPConnection):
    """A connection over a stream that is there: one that cannot be dialled would leave buffers open in coredis."""

    def __init__(self, url: RedisUrl, stream: ByteStream) -> None:
        super().__init__(
            TCPLocation(url.host, url.port),
            username=url.user,
            password=url.password,
            db=url.db,
            client_name="edged",
        )
        self._dialled = stream

    async def _connect(self) -> ByteStream:
        return self._dialled


class Line:
    """`run` keeps it connected; `send` while `problem` is None."""

    def __init__(self, url: RedisUrl, names: Names, deadline: float) -> None:
        self._url = url
        self._names = names
        self._deadline = deadline
        self._open: TCPConnection | None = None
        self._sent: deque[_Sent] = deque()
        self._news = trio.Event()
        self._look_at = 0.0
        self._leaving = ""
        self.server: Server | None = None
        self.problem: str | None = "not connected yet"
        self.lives = 0

    def send(self, then: Then, extra: float, *words: bytes | int) -> bool:
        """Send a command; False: there is no connection, nothing was sent, `then` is never called.

        True: `then` gets the reply later (not within), or an exception. `extra` seconds are for what has to go out
        before it is there.
        """
        if self._open is None:
            return False
        try:
            request = self._open.create_request(words[0], *words[1:], raise_exceptions=False)  # type: ignore[arg-type]
        except (RedisError, anyio.ClosedResourceError, anyio.BrokenResourceError):
            return False
        behind = self._sent[-1].deadline if self._sent else 0.0
        self._sent.append(_Sent(request, max(behind, trio.current_time() + self._deadline + extra), then))
        self._news.set()
        return True

    def leave(self, reason: str) -> None:
        """Send nothing more here; connect anew when everything is answered."""
        self._leaving = self.problem = reason
        self._open = None

    # ---- life

    async def run(self, tell: Callable[[], None]) -> None:
        """Connect, and again when it ends; `tell` is called at each change, and after the first try in any case."""
        pause = FIRST_PAUSE
        try:
            while True:
                if await self._one_life(tell):
                    pause = FIRST_PAUSE
                await trio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - jitter, not a secret
                pause = min(MAX_PAUSE, 2 * pause)
        finally:
            self._end("the store is closed")

    async def _one_life(self, tell: Callable[[], None]) -> bool:
        """Of one connection; whether it could be used."""
        usable = False
        async with trio.open_nursery() as nursery:
            try:
                with trio.fail_after(CONNECT_SECONDS):
                    connection = await self._dial(nursery)
                    self.server = await greet(connection, self._names)
            except trio.TooSlowError:
                reason = f"no answer in {CONNECT_SECONDS:g} s"
            except Exception as error:  # noqa: BLE001 - what a peer says may break coredis's parser in any way
                reason = _cause(error)
            else:
                usable = True
                self._open, self._leaving, self.problem = connection, "", None
                self.lives += 1
                self._look_at = trio.current_time() + PROBE_SECONDS
                tell()
                reason = await self._receive(connection)
            nursery.cancel_scope.cancel()
        self._end(reason)
        tell()
        return usable

    async def _dial(self, nursery: trio.Nursery) -> TCPConnection:
        """A connection that has said who it is. Raises RedisError, OSError."""
        url = self._url
        if url.tls:
            trust = partial(ssl.create_default_context, cafile=url.ca)
            tls = await trio.to_thread.run_sync(trust)  # reads files
            stream: ByteStream = await anyio.connect_tcp(
                url.host, url.port, ssl_context=tls, tls_standard_compatible=False
            )
        else:
            stream = await anyio.connect_tcp(url.host, url.port)
        connection = _Dialled(url, stream)
        await nursery.start(self._carry, connection)
        return connection

    async def _carry(self, connection: TCPConnection, task_status: trio.TaskStatus[None]) -> None:
        await connection.run(task_status=task_status)
        self._news.set()

    def _end(self, reason: str) -> None:
        """What was sent and not answered is unknown."""
        self._open, self.problem = None, reason
        sent, self._sent = self._sent, deque()
        for one in sent:
            one.then(Lost(reason))

    # ---- replies

    async def _receive(self, connection: TCPConnection) -> str:
        """Hand on replies; why the connection has to end."""
        replies = 0
        while True:
            if trio.current_time() >= self._look_at and not self._leaving:
                self._look(connection)
            if self._sent:
                if not await self._next_reply(connection):
                    return f"no answer in {self._deadline:g} s"
                replies += 1
                if replies % TURN == 0:
                    await trio.lowlevel.checkpoint()
            elif self._leaving or not connection.usable:
                return self._leaving or "the connection ended"
            else:
                self._news = trio.Event()
                with trio.move_on_at(self._look_at):
                    await self._news.wait()

    async def _next_reply(self, connection: TCPConnection) -> bool:
        """Wait for the oldest request's; False if it does not come in time."""
        oldest = self._sent[0]
        patience, heard = oldest.deadline, connection.statistics.bytes_read
        while not oldest.request.complete:
            with trio.move_on_at(patience):
                await oldest.request
            now, before, heard = trio.current_time(), heard, connection.statistics.bytes_read
            if not oldest.request.complete and (heard == before or now > oldest.deadline + LONGEST):
                return False
            patience = now + SILENCE
        reply = await oldest.request
        self._sent.popleft()
        oldest.then(reply)
        return True

    def _look(self, connection: TCPConnection) -> None:
        """Ask for the server's role: a master may have become a replica, or be gone without a word."""
        self._look_at = trio.current_time() + PROBE_SECONDS
        if not connection.reusable:
            self.leave("it sends what nobody asked for")
        else:
            self.send(self._looked, 0, b"ROLE")

    def _looked(self, reply: Any) -> None:
        if isinstance(reply, Exception):
            self.leave(_cause(reply))
            return
        try:
            check_role(reply)
        except NotUsable as error:
            self.leave(str(error))


def _cause(error: BaseException) -> str:
    """What went wrong at the bottom of a chain of errors."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error) or type(error).__name__
