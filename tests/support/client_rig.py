"""A client without sockets and clock: brokers are in memory, time is a number."""

import itertools
from random import Random
from typing import Any

from edged_protocol import messages as m
from edged_protocol.client import Client, Options, Wake
from edged_protocol.codec import encode, pack
from edged_protocol.connection import Connection
from edged_protocol.errors import CallError
from edged_protocol.lines import Close, Dial, Flush
from edged_protocol.tickets import Invocation, Ticket

_ids = itertools.count(1)


def call_ids(size: int) -> bytes:
    """Call ids that differ."""
    return next(_ids).to_bytes(size, "big")


class Peer:
    """The broker's end of one line."""

    def __init__(self, address: str, **welcome: Any) -> None:
        info = {"proto": 1, "mesh": "m", "node": address, "max_frame": 70_000, "max_inflight": 256}
        self.address = address
        self.connection = Connection.acceptor(lambda _: m.Welcome({**info, **welcome}))
        self.got: list[m.Message] = []
        self.closed = False
        self.last_words = b""

    def invokes(self) -> list[m.Invoke]:
        """The calls it was sent."""
        return [message for message in self.got if isinstance(message, m.Invoke)]

    def cancels(self) -> list[int]:
        """The ids it was told to drop."""
        return [message.id for message in self.got if isinstance(message, m.Cancel)]


class Rig:
    """A client, its effects done as they come; `dialled` are the addresses in order."""

    def __init__(self, *brokers: str, seed: int = 1, **hello: Any) -> None:
        self.now = 100.0
        self.client = Client(
            brokers or ("a:1",),
            name="rig",
            chance=Random(seed),
            random_bytes=call_ids,
            **hello,
        )
        self.peers: dict[int, Peer] = {}
        self.dialled: list[str] = []
        self.woken: list[Ticket] = []
        self.welcome: dict[str, Any] = {}
        self.deaf: set[int] = set()

    def turn(self) -> None:
        """Do what the client wants."""
        for effect in self.client.effects():
            if isinstance(effect, Dial):
                self.dialled.append(str(effect.address))
                self.peers[effect.line] = Peer(str(effect.address), **self.welcome)
            elif isinstance(effect, Flush) and effect.line not in self.deaf:
                peer = self.peers[effect.line]
                peer.got += peer.connection.receive(self.client.take(effect.line))
            elif isinstance(effect, Close):
                self.peers[effect.line].closed = True
                self.peers[effect.line].last_words = effect.last_words
            elif isinstance(effect, Wake):
                self.woken.append(effect.ticket)

    def meet(self, timeout: float = 5.0) -> Ticket:
        """Ask for a broker."""
        ticket = self.client.meet(timeout, self.now)
        self.turn()
        return ticket

    def greet(self, line: int) -> Peer:
        """Let a line be connected and welcomed."""
        self.client.connected(line, self.now)
        self.turn()
        self.feed(line, self.peers[line].connection.outgoing())
        return self.peers[line]

    def up(self) -> Peer:
        """A client with its first broker."""
        self.meet()
        return self.greet(1)

    def feed(self, line: int, data: bytes) -> None:
        """Bytes from a broker."""
        self.client.received(line, data, self.now)
        self.turn()

    def say(self, line: int, *messages: m.Message) -> None:
        """Messages from a broker, in one read."""
        self.feed(line, b"".join(encode(message) for message in messages))

    def lose(self, line: int) -> None:
        """The connection ends."""
        self.client.lost(line, "reset", self.now)
        self.turn()

    def call(self, *args: Any, session: str | None = "s", **options: Any) -> Invocation:
        """Call method `m` of `f`."""
        chosen: Options = options  # type: ignore[assignment]
        ticket = self.client.call("f", session, "m", args, chosen, self.now)
        self.turn()
        return ticket

    def until(self, now: float) -> None:
        """Let time pass, alarm by alarm."""
        while self.client.next_deadline() <= now:
            self.now = max(self.now, self.client.next_deadline())
            self.client.on_deadline(self.now)
            self.turn()
        self.now = now

    def pass_(self, seconds: float) -> None:
        """Let so many seconds pass."""
        self.until(self.now + seconds)


def result(id_: int, value: Any = None, **meta: Any) -> m.Result:
    """A RESULT."""
    return m.Result(id_, pack(value), meta or None)


def failure(ticket: Any) -> CallError:
    """The error a ticket ended with."""
    assert ticket.done
    assert isinstance(ticket.error, CallError)
    return ticket.error
