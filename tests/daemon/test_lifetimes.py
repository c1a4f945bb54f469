"""A container from its process to its end: when it can be used, and what tells that it is gone."""

import socket
from collections.abc import Iterator
from itertools import count
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from edged.daemon.deployed import Deployed, Worker
from edged.daemon.host import Container, StartFailed
from edged.daemon.hub import Hub
from edged.daemon.lifetimes import LAST_WORDS, Lifetimes
from edged.daemon.link import HANDSHAKE_SECONDS, Link
from edged.daemon.slots import Slots
from edged_protocol import messages as m
from edged_protocol.codec import encode


class Node:
    """What is around a container: its host, its slot, the hub, and who is told."""

    def __init__(self) -> None:
        self.program, sock = socket.socketpair()
        sock.setblocking(False)
        self.container = Container("f-1", 0, -1, sock)
        self.did: list[str] = []
        self.refuses = False
        slots = SimpleNamespace(started=lambda worker: self.did.append("slot"), failed=lambda function: self.did.append("no slot"))
        welcome = {"mesh": "m", "node": "n1"}
        self.lifetimes = Lifetimes(cast(Any, self), cast(Slots, slots), welcome, count(1), self.received, self.ended, cast(Hub, self))
        manifest = SimpleNamespace(name="f")
        self.function = cast(Deployed, SimpleNamespace(spec=SimpleNamespace(manifest=manifest), workers=set()))

    async def start(self, spec: Any, name: str) -> Container:
        """As a host."""
        if self.refuses:
            raise StartFailed("it cannot be imported")
        return self.container

    def add(self, fd: int, link: Link) -> None:
        """As a hub: reads when a test says so."""
        self.link = link

    def remove(self, fd: int) -> None:
        """As a hub."""

    def settle(self) -> None:
        """As a hub."""

    def received(self, link: Link, messages: list[m.Message]) -> None:
        link.info["worker"].ready.set()

    def ended(self, worker: Worker) -> None:
        self.did.append("ended")

    def greet(self) -> None:
        self.program.sendall(encode(m.Hello({"proto": 1, "role": "worker", "name": "f-1", "methods": {}, "default": None})))
        self.link.readable()


@pytest.fixture
def node() -> Iterator[Node]:
    """A node whose container has said nothing yet."""
    node = Node()
    with node.program, node.container.sock:
        yield node


async def test_one_that_has_greeted_can_be_used(node: Node, nursery: trio.Nursery) -> None:
    """It has its slot and belongs to its function before anything is asked of it."""

    async def start() -> None:
        worker = await node.lifetimes.start(node.function, nursery)
        assert (worker.name, node.function.workers, node.did) == ("f-1", {worker}, ["slot"])

    async with trio.open_nursery() as starting:
        starting.start_soon(start)
        await wait_all_tasks_blocked()
        node.greet()
    nursery.cancel_scope.cancel()


async def test_one_that_says_nothing_is_given_up(node: Node, nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    """As any connection without a handshake, and whoever wanted it is told why."""
    with pytest.raises(StartFailed, match=r"ended while it started: no handshake in time \(see edgectl logs f\)"):
        await node.lifetimes.start(node.function, nursery)
    assert trio.current_time() == HANDSHAKE_SECONDS
    assert node.did == ["slot", "ended"]


async def test_one_whose_socket_is_held_open_has_ended(node: Node, nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    """A process that it left behind has the socket: its own end counts, a moment later, for what it said last."""
    node.container.dead.set()
    with pytest.raises(StartFailed, match="its process has ended"):
        await node.lifetimes.start(node.function, nursery)
    assert trio.current_time() == LAST_WORDS
    assert node.did == ["slot", "ended"]


async def test_one_that_cannot_be_made_leaves_its_slot(node: Node, nursery: trio.Nursery) -> None:
    """The slot was begun for it: somebody else may have it now."""
    node.refuses = True
    with pytest.raises(StartFailed, match="imported"):
        await node.lifetimes.start(node.function, nursery)
    assert node.did == ["no slot"]
