"""The trio front of the client library (DESIGN §4; decisions are `client.Client`'s).

    async with connect(["10.0.0.5:7400", "10.0.0.6:7400"], name="arm-7") as mesh:
        session = mesh.session("arm-monitor", "arm-7")
        reading = await session.call("sample", 0.31)          # the handler's return value
        answer = await session.invoke("sample", 0.29, timeout=2.0)
        print(answer.value, answer.node, answer.mode, answer.timings)
        print(await mesh.function("echo").call("call", "hi"))  # without a session: no state

Any number of tasks may use one mesh. A call is cancelled by cancelling its task: its slot is free at once,
the broker is told, and the call may still run. Errors are `CallError`s; the class says what is known of the
effect. Waiting happens here, in four places: for bytes, for room to write, for the next deadline, and in
the caller for its answer. No task or timer per call; what several tasks ask in one turn is one write.
"""

import os
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from math import inf
from random import Random
from typing import Any, Unpack

import trio

from .brokers import Address
from .client import Answer, Client, Options, Role, Statistics, Wake
from .limits import READ_CHUNK
from .lines import Close, Dial, Flush
from .sockets import Target, begin, finish, local_target
from .tickets import Feed, Ticket

CONNECT_SECONDS = 5.0
WRITE_SECONDS = 10.0
"""For a broker to take any byte; after that the connection is given up."""

ADDRESS_SECONDS = 1.5
"""For each address a name resolves to: half the time a broker has to greet."""


@asynccontextmanager
async def connect(
    brokers: Sequence[str],
    *,
    name: str,
    role: Role = "device",
    token: str | None = None,
    timeout: float = CONNECT_SECONDS,
    follow_home: bool = False,
) -> AsyncIterator["Mesh"]:
    """A mesh through the first of `brokers` that greets, and later through any that it knows.

    `brokers`: `host:port`, `[v6]:port` or `unix:/path`; `timeout`: seconds; `follow_home`: change over to the node where
    the sessions that are called are local-state, when it is another one. Raises Unreachable when each has
    failed or none has greeted in time; ValueError for what is no address.
    """
    client = Client(
        brokers, name=name, role=role, token=token, chance=Random(), random_bytes=os.urandom, follow_home=follow_home
    )
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        mesh = Mesh(client, nursery)
        nursery.start_soon(mesh._keep_time)
        try:
            met = client.meet(timeout, trio.current_time())
            await mesh._wait(met)
            if met.error is not None:
                raise met.error
            yield mesh
        except Exception as error:  # noqa: BLE001 - raised below, without the nursery's group around it
            failure = error
        finally:
            mesh._close()
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


class Session:
    """A function, with the state of one session or, for a key of None, without state."""

    def __init__(self, mesh: "Mesh", function: str, key: str | None) -> None:
        self._mesh = mesh
        self.function = function
        self.key = key

    async def call(self, method: str, *args: Any, **options: Unpack[Options]) -> Any:
        """The handler's return value. Raises CallError, LocalProtocolError, ValueError."""
        return (await self.invoke(method, *args, **options)).value

    async def invoke(self, method: str, *args: Any, **options: Unpack[Options]) -> Answer:
        """The value, and what the mesh says of the call. Raises as `call`."""
        mesh = self._mesh
        await trio.lowlevel.checkpoint_if_cancelled()
        now = trio.current_time()
        ticket = mesh._client.call(self.function, self.key, method, args, options, now)
        await mesh._wait(ticket)
        return ticket.answer()


class Stream:
    """The items of a streamed verb, by `async for`. `aclose`, or being cancelled in its wait, ends it early."""

    def __init__(
        self, mesh: "Mesh", verb: str, params: dict[str, Any], timeout: float | None
    ) -> None:
        self._mesh = mesh
        self._asked = (verb, params, timeout)
        self._feed: Feed | None = None

    def __aiter__(self) -> "Stream":
        return self

    async def __anext__(self) -> Any:
        """The next item. Raises CallError."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._feed is None:
            self._feed = self._mesh._client.feed(*self._asked, trio.current_time())
        if not self._feed.ready:
            await self._mesh._wait(self._feed)
        for item in self._feed.take():
            return item
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Take no further items."""
        if self._feed is not None:
            self._mesh._cancel(self._feed)
        await trio.lowlevel.checkpoint()


class Mesh:
    """What `connect` gives: sessions, functions and control verbs."""

    def __init__(self, client: Client, nursery: trio.Nursery) -> None:
        self._client = client
        self._nursery = nursery
        self._wires: dict[int, _Wire] = {}
        self._alarm = inf
        self._earlier = trio.Event()

    def session(self, function: str, key: str) -> Session:
        """Consecutive calls that share a state."""
        return Session(self, function, key)

    def function(self, function: str) -> Session:
        """Calls without state."""
        return Session(self, function, None)

    async def request(
        self,
        verb: str,
        params: dict[str, Any],
        blob: bytes | None = None,
        *,
        timeout: float | None = None,
    ) -> tuple[Any, bytes | None]:
        """A control verb's result and byte string; for role "operator".

        `timeout`: seconds, default 10 for a verb that reads, 65 for one that changes something. Raises
        CallError: with the connection lost, Unreachable for the former, UnknownOutcome (403) for the latter.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        ticket = self._client.request(verb, params, blob, timeout, trio.current_time())
        await self._wait(ticket)
        return ticket.outcome()

    def stream(self, verb: str, params: dict[str, Any], *, timeout: float | None = None) -> Stream:
        """The items of a verb answered with many, by `async for`.

        `timeout`: seconds for each item, default 10, or without end where params say `follow`.
        """
        return Stream(self, verb, params, timeout)

    def statistics(self) -> Statistics:
        """What the client is doing, and did."""
        return self._client.statistics()

    # Waiting

    async def _wait(self, ticket: Ticket) -> None:
        """Until the ticket is woken; cancelled, it is withdrawn. The ticket may be done at once."""
        self._perform(alone=self._client.in_flight <= 1)
        if ticket.done:
            await trio.lowlevel.checkpoint()
            return
        ticket.waiter = trio.lowlevel.current_task()

        def abort(_: Callable[[], Any]) -> trio.lowlevel.Abort:
            ticket.waiter = None
            self._cancel(ticket)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def _cancel(self, ticket: Ticket) -> None:
        self._client.cancel(ticket, trio.current_time())
        self._perform()

    def _close(self) -> None:
        self._client.close(trio.current_time())
        self._perform()

    async def _keep_time(self) -> None:
        while True:
            self._alarm, self._earlier = self._client.next_deadline(), trio.Event()
            with trio.move_on_at(self._alarm):
                await self._earlier.wait()
            self._client.on_deadline(trio.current_time())
            self._perform()

    # Doing what the client decided

    def _perform(self, *, alone: bool = True) -> None:
        """Do the effects. Bytes are written at once if `alone`, else when other tasks had their turn."""
        for effect in self._client.effects():
            if isinstance(effect, Wake):
                task, effect.ticket.waiter = effect.ticket.waiter, None
                if task is not None:
                    trio.lowlevel.reschedule(task)
            elif isinstance(effect, Flush):
                wire = self._wires.get(effect.line)
                if wire is not None and not (alone and wire.flush()):
                    wire.wake.set()
            elif isinstance(effect, Dial):
                wire = self._wires[effect.line] = _Wire(self, effect.line)
                self._nursery.start_soon(wire.run, effect.address)
            elif isinstance(effect, Close):
                self._wires.pop(effect.line).end(effect.last_words)
        if self._client.next_deadline() < self._alarm:
            self._alarm = -inf
            self._earlier.set()


class _Wire:
    """One line's socket: a reader, and a writer that sleeps while writing needs no wait."""

    def __init__(self, mesh: Mesh, line: int) -> None:
        self._mesh = mesh
        self._line = line
        self._sock: socket.socket | None = None
        self._rest = b""
        self._full = False
        self._reason = ""
        self._scope = trio.CancelScope()
        self.wake = trio.Event()

    async def run(self, address: Address) -> None:
        """Dial, then read until the end, whatever ends it."""
        try:
            with self._scope:
                sock = self._sock = await _dial(address)
                self._mesh._client.connected(self._line, trio.current_time())
                self._mesh._perform()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write, sock)
                    await self._read(sock)
                    nursery.cancel_scope.cancel()
        except OSError as error:
            self._reason = str(error) or type(error).__name__
        finally:
            if self._sock is not None:
                self._sock.close()
        self._mesh._client.lost(self._line, self._reason, trio.current_time())
        self._mesh._perform()

    async def _read(self, sock: socket.socket) -> None:
        while True:
            await trio.lowlevel.wait_readable(sock)
            try:
                data = sock.recv(READ_CHUNK)
            except BlockingIOError:
                continue
            except OSError as error:
                self._reason = str(error)
                return
            if not data:
                self._reason = "closed by the broker"
                return
            self._mesh._client.received(self._line, data, trio.current_time())
            self._mesh._perform()

    async def _write(self, sock: socket.socket) -> None:
        while True:
            await self.wake.wait()
            self.wake = trio.Event()
            while not self.flush():
                with trio.move_on_after(WRITE_SECONDS) as scope:
                    await trio.lowlevel.wait_writable(sock)
                if scope.cancelled_caught:
                    self._break("it takes no bytes")
                self._full = False

    def flush(self) -> bool:
        """Write what there is, unless the socket is full; whether all of it went."""
        if self._sock is None or self._full:
            return False
        data = self._rest + self._mesh._client.take(self._line)
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._break(str(error))
            sent = len(data)
        self._rest = data[sent:]
        self._full = bool(self._rest)
        return not self._full

    def _break(self, reason: str) -> None:
        self._reason = reason
        self._scope.cancel()

    def end(self, last_words: bytes) -> None:
        """The client is done with the line."""
        if last_words and self._sock is not None and not self._rest:
            with suppress(OSError):
                self._sock.send(last_words)
        self._scope.cancel()


async def _dial(address: Address) -> socket.socket:
    """A connected socket, to the first of the addresses a name resolves to. Raises OSError."""
    local = local_target(address)
    targets = [local] if local is not None else await _resolve(address)
    failure = OSError("no such host")
    for target in targets:
        try:
            with trio.move_on_after(ADDRESS_SECONDS):
                return await _open(target)
            failure = TimeoutError(f"not connected in {ADDRESS_SECONDS:g} s")
        except OSError as error:
            failure = error
    raise failure


async def _resolve(address: Address) -> list[Target]:
    try:
        found = await trio.socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise OSError(f"{address.host} is no host name") from error
    return [(row[0], row[4]) for row in found]


async def _open(target: Target) -> socket.socket:
    sock = begin(target)
    try:
        await trio.lowlevel.wait_writable(sock)
        finish(sock)
    except BaseException:
        sock.close()
        raise
    return sock
