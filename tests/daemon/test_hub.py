"""The one task that reads all connections: who is read, who is cut, when the settling comes."""

import socket
from collections.abc import Iterator

import pytest
import trio

from edged.daemon.hub import Hub


class Listener:
    """A source that notes what it read; at a byte it was told of it does something else."""

    def __init__(self, hub: Hub, sock: socket.socket, notes: list[str]) -> None:
        self.hub, self.sock, self.notes = hub, sock, notes
        self.victim: Listener | None = None
        self.reason = ""

    def readable(self) -> None:
        data = self.sock.recv(100)
        self.notes.append(data.decode())
        if data == b"!":
            raise ZeroDivisionError
        if self.victim is not None:
            self.victim.cut("by another")

    def cut(self, reason: str) -> None:
        self.reason = reason
        self.hub.remove(self.sock.fileno())


Pairs = list[tuple[socket.socket, socket.socket]]


@pytest.fixture
def pairs() -> Iterator[Pairs]:
    made = [socket.socketpair() for _ in range(3)]
    yield made
    for ends in made:
        for end in ends:
            end.close()


async def run_until(hub: Hub, notes: list[str], count: int) -> None:
    """Let the hub work until there are `count` notes."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hub.run)
        with trio.fail_after(60):
            while len(notes) < count:
                await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()


async def test_all_that_is_ready_is_read_before_anything_is_settled(pairs: Pairs) -> None:
    """One look at the sockets reads each that has something, then settles once."""
    notes: list[str] = []
    hub = Hub(lambda: notes.append("settled"))
    for near, far in pairs:
        hub.add(near.fileno(), Listener(hub, near, notes))
        far.send(b"a")
    await run_until(hub, notes, 4)
    assert notes == ["a", "a", "a", "settled"]


async def test_a_defect_costs_its_connection_only(pairs: Pairs) -> None:
    """A source that raises is cut; the others are read as before."""
    notes: list[str] = []
    hub = Hub(lambda: None)
    sources = [Listener(hub, near, notes) for near, _ in pairs]
    for source in sources:
        hub.add(source.sock.fileno(), source)
    for (_, far), data in zip(pairs, (b"!", b"b", b"c"), strict=True):
        far.send(data)
    await run_until(hub, notes, 3)
    assert sorted(notes) == ["!", "b", "c"]
    assert [source.reason for source in sources] == ["a defect", "", ""]


async def test_who_was_cut_in_the_same_look_is_not_read(pairs: Pairs) -> None:
    """A connection that another one's message ended is left alone, though its socket was ready."""
    notes: list[str] = []
    hub = Hub(lambda: notes.append("settled"))
    first, second = (Listener(hub, near, notes) for near, _ in pairs[:2])
    first.victim, second.victim = second, first
    for source, (_, far) in zip((first, second), pairs, strict=False):
        hub.add(source.sock.fileno(), source)
        far.send(b"x")
    await run_until(hub, notes, 2)
    assert notes == ["x", "settled"]


async def test_a_connection_that_comes_too_late_is_refused_quietly(pairs: Pairs) -> None:
    """After its end the hub takes and leaves connections without an error: the node is ending."""
    notes: list[str] = []
    hub = Hub(lambda: None)
    await run_until(hub, notes, 0)
    source = Listener(hub, pairs[0][0], notes)
    hub.add(source.sock.fileno(), source)
    source.cut("too late")
    assert notes == []
