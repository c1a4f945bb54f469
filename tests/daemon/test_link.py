"""A connection's reads: what one brings is handled in order, and in parts where it is much."""

import socket
from collections.abc import Iterator
from typing import Any, cast

import pytest

from edged.daemon.hub import Hub
from edged.daemon.link import AT_ONCE, LITTLE, MANY, Link
from edged_protocol import messages as m
from edged_protocol.codec import encode
from edged_protocol.connection import Connection

WELCOME = {"proto": 1, "max_frame": 4096}


class Read:
    """What a link handled, and when it was settled between."""

    def __init__(self, sock: socket.socket) -> None:
        self.parts: list[list[m.Message]] = []
        self.settled: list[int] = []
        connection = Connection.acceptor(lambda _: m.Welcome(WELCOME))
        self.link = Link(sock, connection, self.handle, cast(Hub, self))
        self.cuts = False

    def handle(self, link: Link, messages: list[m.Message]) -> None:
        self.parts.append(messages)
        if self.cuts:
            link.cut("the test ends it")

    def settle(self) -> None:
        self.settled.append(len(self.parts))

    def remove(self, fd: int) -> None:
        """A hub leaves that socket alone."""


@pytest.fixture
def ends() -> Iterator[tuple[Read, socket.socket]]:
    """A link that has been greeted, and the other end of its socket."""
    here, there = socket.socketpair()
    with here, there:
        read = Read(here)
        there.sendall(encode(m.Hello({"proto": 1, "role": "device", "name": "d"})))
        read.link.readable()
        read.parts.clear()
        yield read, there


def numbers(parts: list[list[m.Message]]) -> list[Any]:
    return [message[0] for part in parts for message in part]


def test_a_few_messages_are_handled_at_once(ends: tuple[Read, socket.socket]) -> None:
    """The hub settles what comes of them, together with what other connections brought."""
    read, there = ends
    there.sendall(b"".join(encode(m.Ping(n)) for n in range(AT_ONCE)))
    read.link.readable()
    assert len(read.parts) == 1
    assert read.settled == []


def test_many_messages_are_handled_in_parts(ends: tuple[Read, socket.socket]) -> None:
    """In order, none twice; what came of one part has left before the next is begun."""
    read, there = ends
    there.sendall(b"".join(encode(m.Ping(n)) for n in range(2 * AT_ONCE + 1)))
    read.link.readable()
    assert [len(part) for part in read.parts] == [AT_ONCE, AT_ONCE, 1]
    assert numbers(read.parts) == list(range(2 * AT_ONCE + 1))
    assert read.settled == [1, 2, 3]


def test_a_flood_of_tiny_messages_is_read_a_little_at_a_time(ends: tuple[Read, socket.socket]) -> None:
    """All others wait for what one read brings: after a read of very many the next is short, until there are few again."""
    read, there = ends
    ping = encode(m.Ping(1))
    few = ping * (LITTLE // len(ping) + AT_ONCE)
    there.sendall(ping * (MANY + 1))
    read.link.readable()
    read.parts.clear()
    there.sendall(few)
    read.link.readable()
    assert len(numbers(read.parts)) == LITTLE // len(ping)
    read.link.readable()
    read.parts.clear()
    there.sendall(few)
    read.link.readable()
    assert len(numbers(read.parts)) == len(few) // len(ping)


def test_a_connection_that_was_cut_brings_no_more(ends: tuple[Read, socket.socket]) -> None:
    """What was read with the message that ended it is left."""
    read, there = ends
    read.cuts = True
    there.sendall(b"".join(encode(m.Ping(n)) for n in range(2 * AT_ONCE)))
    read.link.readable()
    assert numbers(read.parts) == list(range(AT_ONCE))
