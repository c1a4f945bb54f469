"""The blocking front of the client library (DESIGN §4; decisions are `client.Client`'s).

    with connect(["10.0.0.5:7400", "10.0.0.6:7400"], name="arm-7") as mesh:
        session = mesh.session("arm-monitor", "arm-7")
        reading = session.call("sample", 0.31)                  # the handler's return value
        answer = session.invoke("sample", 0.29, timeout=2.0)    # and what the mesh says of the call
        started = [mesh.function("echo").start("call", n) for n in range(100)]
        values = [pending.result() for pending in started]      # a hundred calls in flight

Without threads: whoever waits reads and writes for all. So nothing moves while nobody waits: a call that was
started is on its way, but repeats, deadlines and the next broker come at the next wait. Not thread-safe: one
mesh for each thread. Errors are `CallError`s; the class says what is known of the effect.
"""

import os
import selectors
import socket
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from math import inf
from random import Random
from typing import Any, Unpack

from .brokers import Address
from .client import Answer, Client, Options, Role, Statistics
from .limits import READ_CHUNK
from .lines import Close, Dial, Flush
from .sockets import Target, begin, finish, local_target
from .tickets import Invocation, Ticket

CONNECT_SECONDS = 5.0
ADDRESS_SECONDS = 1.5
"""For each address a name resolves to: half the time a broker has to greet."""

MAX_ROUNDS = 64
"""Reads in a row before time is looked at: what has come counts, but must not come for ever."""


@contextmanager
def connect(
    brokers: Sequence[str],
    *,
    name: str,
    role: Role = "device",
    token: str | None = None,
    timeout: float = CONNECT_SECONDS,
    follow_home: bool = False,
) -> Iterator["Mesh"]:
    """A mesh through the first of `brokers` that greets, and later through any that it knows.

    `brokers`: `host:port`, `[v6]:port` or `unix:/path`; `timeout`: seconds; `follow_home`: change over to the node where
    the sessions that are called are local-state, when it is another one. Raises Unreachable when each has
    failed or none has greeted in time; ValueError for what is no address.
    """
    client = Client(
        brokers, name=name, role=role, token=token, chance=Random(), random_bytes=os.urandom, follow_home=follow_home
    )
    mesh = Mesh(client)
    try:
        met = client.meet(timeout, time.monotonic())
        mesh._wait(lambda: met.done)
        if met.error is not None:
            raise met.error
        yield mesh
    finally:
        mesh._close()


class Pending:
    """A call that was started."""

    def __init__(self, mesh: "Mesh", ticket: Invocation) -> None:
        self._mesh = mesh
        self._ticket = ticket

    @property
    def done(self) -> bool:
        """Whether its outcome is here; it comes while anybody waits for anything of this mesh."""
        return self._ticket.done

    def result(self) -> Any:
        """Wait for the handler's return value. Raises CallError, LocalProtocolError."""
        return self.answer().value

    def answer(self) -> Answer:
        """Wait for the value and what the mesh says of the call. Raises as `result`."""
        self._mesh._wait(lambda: self._ticket.done)
        return self._ticket.answer()

    def cancel(self) -> None:
        """Nobody waits for it any more; it may still run. Its result must not be asked for."""
        self._mesh._cancel(self._ticket)


class Session:
    """A function, with the state of one session or, for a key of None, without state."""

    def __init__(self, mesh: "Mesh", function: str, key: str | None) -> None:
        self._mesh = mesh
        self.function = function
        self.key = key

    def start(self, method: str, *args: Any, **options: Unpack[Options]) -> Pending:
        """Start a call and go on. Raises NotRunRetry (101) if too many are open, LocalProtocolError, ValueError."""
        mesh, now = self._mesh, time.monotonic()
        ticket = mesh._client.call(self.function, self.key, method, args, options, now)
        mesh._perform()
        return Pending(mesh, ticket)

    def call(self, method: str, *args: Any, **options: Unpack[Options]) -> Any:
        """The handler's return value. Raises CallError, LocalProtocolError, ValueError."""
        return self.invoke(method, *args, **options).value

    def invoke(self, method: str, *args: Any, **options: Unpack[Options]) -> Answer:
        """The value, and what the mesh says of the call. Raises as `call`."""
        pending = self.start(method, *args, **options)
        self._mesh._insist(pending._ticket, lambda: pending.done)
        return pending.answer()


class Mesh:
    """What `connect` gives: sessions, functions and control verbs."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._selector = selectors.DefaultSelector()
        self._wires: dict[int, _Wire] = {}

    def session(self, function: str, key: str) -> Session:
        """Consecutive calls that share a state."""
        return Session(self, function, key)

    def function(self, function: str) -> Session:
        """Calls without state."""
        return Session(self, function, None)

    def request(
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
        ticket = self._client.request(verb, params, blob, timeout, time.monotonic())
        self._insist(ticket, lambda: ticket.done)
        return ticket.outcome()

    def stream(
        self, verb: str, params: dict[str, Any], *, timeout: float | None = None
    ) -> Generator[Any, None, None]:
        """The items of a verb answered with many; closed early, the broker is told. Raises CallError.

        `timeout`: seconds for each item, default 10, or without end where params say `follow`.
        """
        feed = self._client.feed(verb, params, timeout, time.monotonic())
        try:
            while True:
                self._wait(lambda: feed.ready)
                items = feed.take()
                if not items:
                    return
                yield from items
        finally:
            self._cancel(feed)

    def statistics(self) -> Statistics:
        """What the client is doing, and did."""
        return self._client.statistics()

    # Waiting

    def _insist(self, ticket: Ticket, ready: Callable[[], bool]) -> None:
        """Wait; interrupted, nobody will ask for the ticket again."""
        try:
            self._wait(ready)
        except BaseException:
            self._cancel(ticket)
            raise

    def _wait(self, ready: Callable[[], bool]) -> None:
        self._perform()
        while not ready():
            wait = self._next_deadline() - time.monotonic()
            for _ in range(MAX_ROUNDS):
                if not self._turn(max(0.0, wait)):
                    break
                wait = 0.0
            self._pass_time()

    def _next_deadline(self) -> float:
        wires = (wire.until for wire in self._wires.values())
        return min(self._client.next_deadline(), *wires, inf)

    def _turn(self, wait: float) -> bool:
        """Wait for sockets, and do what they are ready for; whether any was."""
        ready = self._selector.select(None if wait == inf else wait)
        for key, events in ready:
            wire: _Wire = key.data
            if events & selectors.EVENT_WRITE:
                wire.writable()
            if events & selectors.EVENT_READ:
                wire.readable()
        self._perform()
        return bool(ready)

    def _pass_time(self) -> None:
        now = time.monotonic()
        for wire in list(self._wires.values()):
            if now >= wire.until:
                wire.give_up()
        if now >= self._client.next_deadline():
            self._client.on_deadline(now)
        self._perform()

    def _cancel(self, ticket: Ticket) -> None:
        self._client.cancel(ticket, time.monotonic())
        self._perform()

    def _close(self) -> None:
        self._client.close(time.monotonic())
        self._perform()
        self._selector.close()

    def _perform(self) -> None:
        """Do what the client decided, until nothing follows from it."""
        while effects := self._client.effects():
            for effect in effects:
                if isinstance(effect, Flush):
                    wire = self._wires.get(effect.line)
                    if wire is not None:
                        wire.flush()
                elif isinstance(effect, Dial):
                    wire = _Wire(self._client, self._selector, effect.line)
                    self._wires[effect.line] = wire
                    wire.dial(effect.address)
                elif isinstance(effect, Close):
                    self._wires.pop(effect.line).end(effect.last_words)
                # Wake needs nothing: whoever waits looks for itself.


class _Wire:
    """One line's socket. `until`: when connecting to one address has taken too long."""

    def __init__(self, client: Client, selector: selectors.BaseSelector, line: int) -> None:
        self._client = client
        self._selector = selector
        self._line = line
        self._sock: socket.socket | None = None
        self._targets: list[Target] = []
        self._connected = False
        self._rest = b""
        self._full = False
        self.until = inf

    # Connecting

    def dial(self, address: Address) -> None:
        """Begin with the first address the name resolves to."""
        local = local_target(address)
        try:
            self._targets = [local] if local is not None else _resolve(address)
            self._begin()
        except OSError as error:
            self._lost(str(error))

    def _begin(self) -> None:
        """Go on with the next address that can be tried at all. Raises OSError when there is none."""
        self._drop()
        failure = OSError("no such host")
        while self._targets and self._sock is None:
            try:
                self._sock = begin(self._targets.pop(0))
            except OSError as error:
                failure = error
        if self._sock is None:
            raise failure
        self.until = time.monotonic() + ADDRESS_SECONDS
        self._selector.register(self._sock, selectors.EVENT_WRITE, self)

    def give_up(self) -> None:
        """This address has taken too long."""
        self._next(f"not connected in {ADDRESS_SECONDS:g} s")

    def _next(self, reason: str) -> None:
        try:
            self._begin()
        except OSError:
            self._lost(reason)

    # Connected

    def writable(self) -> None:
        """The connection is made, or has failed, or takes bytes again."""
        if self._sock is not None and not self._connected:
            try:
                finish(self._sock)
            except OSError as error:
                self._next(str(error))
                return
            self._connected, self.until = True, inf
            self._selector.modify(self._sock, selectors.EVENT_READ, self)
            self._client.connected(self._line, time.monotonic())
        self._full = False
        self.flush()

    def readable(self) -> None:
        """Bytes have come, or the end."""
        if self._sock is None:
            return
        try:
            data = self._sock.recv(READ_CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            self._lost(str(error))
            return
        if data:
            self._client.received(self._line, data, time.monotonic())
        else:
            self._lost("closed by the broker")

    def flush(self) -> None:
        """Write what there is; the rest when the socket takes it."""
        if self._sock is None or not self._connected or self._full:
            return
        data = self._rest + self._client.take(self._line)
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._lost(str(error))
            return
        self._rest = data[sent:]
        self._full = bool(self._rest)
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._full else 0)
        if self._selector.get_key(self._sock).events != events:
            self._selector.modify(self._sock, events, self)

    # The end

    def _lost(self, reason: str) -> None:
        self._client.lost(self._line, reason, time.monotonic())

    def end(self, last_words: bytes) -> None:
        """The client is done with the line."""
        if last_words and self._sock is not None and self._connected and not self._rest:
            with suppress(OSError):
                self._sock.send(last_words)
        self._drop()

    def _drop(self) -> None:
        self.until = inf
        if self._sock is not None:
            self._selector.unregister(self._sock)
            self._sock.close()
            self._sock = None


def _resolve(address: Address) -> list[Target]:
    """Raises OSError."""
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise OSError(f"{address.host} is no host name") from error
    return [(row[0], row[4]) for row in found]
