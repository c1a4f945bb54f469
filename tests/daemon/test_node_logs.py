"""`function.logs` over three nodes in one process: whose lines are shown, in which order, and who is missed."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from edged.config import parse_config
from edged.core.catalogue import Pointer
from edged.daemon import kept_logs, mesh_streams
from edged.daemon.kept_logs import KeptLogs
from edged.daemon.link import MAX_PENDING_OUT
from edged.daemon.node import Node
from edged_protocol import messages as m
from edged_protocol.codec import encode
from edged_protocol.connection import Connection
from edged_protocol.errors import CallError
from edged_protocol.limits import MAX_STR
from edged_protocol.trio_client import Mesh, connect

PATIENCE = 60.0


def node_of(root: Path, name: str, seeds: list[str]) -> Node:
    return Node(
        parse_config(
            f'[node]\nname = "{name}"\ndata_dir = "{root / name}"\n'
            f'[listen]\naddress = "127.0.0.1:0"\nadmin = "{root / name}.sock"\n'
            f"[mesh]\nseeds = {seeds}\n".replace("'", '"')
        )
    )


async def until(holds: Any) -> None:
    with trio.fail_after(PATIENCE):
        while not holds():  # noqa: ASYNC110 - what is waited for tells nobody
            await trio.sleep(0.005)


class Trio:
    """Three nodes that know a function, each connected to the others."""

    def __init__(self, nursery: trio.Nursery, root: Path) -> None:
        self._nursery = nursery
        self._root = root
        self.nodes: list[Node] = []

    async def start(self) -> None:
        for name in ("n1", "n2", "n3"):
            node = node_of(self._root, name, [other.address for other in self.nodes])
            await self._nursery.start(node.run)
            node.deployments.catalogue.merge(Pointer("talk", 1, "n1", "0" * 64))
            self.nodes.append(node)
        await until(lambda: all(len(node.relay.peers) == 2 for node in self.nodes))

    def prints(self, index: int, text: str) -> None:
        """A container of that node prints a line."""
        self.nodes[index].logs.keep("talk", f"talk-{index}", text.encode())


@pytest.fixture
async def three(nursery: trio.Nursery, tmp_path: Path) -> Trio:
    mesh = Trio(nursery, tmp_path)
    await mesh.start()
    return mesh


@asynccontextmanager
async def operator(node: Node) -> AsyncIterator[Mesh]:
    async with connect([node.address], name="t", role="operator") as mesh:
        yield mesh


async def logs(node: Node) -> list[Any]:
    """What an operator is shown who follows nothing."""
    async with operator(node) as mesh:
        return [item async for item in mesh.stream("function.logs", {"name": "talk"})]


async def test_any_node_shows_the_lines_of_all(
    three: Trio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is asked, the lines are the same, by time, with their node; the peers' bookkeeping is not shown."""
    at = iter(range(10))
    monkeypatch.setattr(kept_logs, "datetime", Clock(at))
    for index, text in ((2, "a"), (0, "b"), (1, "c"), (0, "d")):
        three.prints(index, text)
    for node in three.nodes:
        shown = await logs(node)
        assert [(item["node"], item["line"]) for item in shown] == [
            ("n3", "a"),
            ("n1", "b"),
            ("n2", "c"),
            ("n1", "d"),
        ]
        assert {tuple(item) for item in shown} == {("at", "node", "container", "line")}


class Clock:
    """`datetime` with times of our own."""

    def __init__(self, seconds: Any) -> None:
        self._seconds = seconds

    def now(self, _: Any) -> Any:
        return self

    def isoformat(self, timespec: str) -> str:
        return f"2026-01-01T00:00:0{next(self._seconds)}"


async def test_the_newest_lines_are_shown_of_more_than_a_client_takes(three: Trio) -> None:
    """However many lines all nodes have, no more come than one node keeps."""
    for n in range(kept_logs.MAX_LINES + 5):
        for index in range(3):
            three.prints(index, str(n))
    shown = await logs(three.nodes[0])
    assert len(shown) == kept_logs.MAX_LINES
    assert shown[-1]["line"] == str(kept_logs.MAX_LINES + 4)


async def test_a_long_line_costs_no_connection(three: Trio) -> None:
    """A line longer than a string of the wire comes in pieces, of which nothing is missing."""
    text = "\N{GRINNING FACE}x" * MAX_STR
    three.prints(1, text)
    shown = await logs(three.nodes[0])
    assert "".join(item["line"] for item in shown) == text
    assert max(len(item["line"].encode()) for item in shown) <= MAX_STR
    assert len(three.nodes[0].relay.peers) == 2


async def test_followed_lines_come_from_all_nodes_until_the_client_goes(three: Trio) -> None:
    """What is printed later comes as well, once; when the client has gone, no node goes on for it."""
    three.prints(1, "before")
    async with operator(three.nodes[0]) as mesh:
        stream = mesh.stream("function.logs", {"name": "talk", "follow": True})
        with trio.fail_after(PATIENCE):
            assert (await anext(stream))["line"] == "before"
            for index in (2, 0, 1):
                three.prints(index, f"from {index}")
                assert (await anext(stream))["line"] == f"from {index}"
            assert any(node.followed for node in three.nodes[1:])
            await stream.aclose()
        await until(lambda: not any(node.followed for node in three.nodes))
    links = [link for node in three.nodes for link in node.relay.peers.values()]
    await until(lambda: all(link.inflight == 0 for link in links))


async def test_a_peer_that_comes_back_goes_on_where_it_was(three: Trio) -> None:
    """A connection lost while its lines are followed costs no line and shows none twice."""
    first, second = three.nodes[0], three.nodes[1]
    async with operator(first) as mesh:
        with trio.fail_after(PATIENCE):
            stream = mesh.stream("function.logs", {"name": "talk", "follow": True})
            three.prints(1, "one")
            assert (await anext(stream))["line"] == "one"
            old = first.relay.peers["n2"]
            old.cut("by the test")
            three.prints(1, "two")
            shown = [await anext(stream), await anext(stream)]
            assert "n2" in str(shown)
            assert [item["line"] for item in shown if "line" in item] == ["two"]
            assert [item["node"] for item in shown if "missing" in item] == ["n2"]
            assert first.relay.peers["n2"] is not old
            three.prints(1, "three")
            assert (await anext(stream))["line"] == "three"
            await stream.aclose()
    assert second.logs.after("talk", 0)


class Mute:
    """One that answers nothing."""

    def __init__(self, sock: socket.socket, role: str = "node") -> None:
        self._sock = sock
        hello = {"role": role, "name": "mute", "mesh": "edged", "boot": "00000001-mute"}
        self._connection = Connection.dialer(hello)

    def greet(self) -> None:
        self._sock.sendall(self._connection.outgoing())
        while not self._connection.established:
            self._read()

    def _read(self) -> list[m.Message]:
        data = self._sock.recv(65536)
        if not data:
            raise ConnectionError("closed by the node")
        return self._connection.receive(data)

    def say(self, message: m.Message) -> None:
        self._sock.sendall(encode(message))

    def next_request(self, verb: str) -> m.Request:
        while True:
            for message in self._read():
                if isinstance(message, m.Request) and message.verb == verb:
                    return message


async def test_a_node_that_does_not_answer_is_named(
    three: Trio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its silence costs a deadline, not the others' lines; when nobody waits for it any more it is told so."""
    monkeypatch.setattr(mesh_streams, "PEER_SECONDS", 1.0)
    host, port = three.nodes[0].address.split(":")
    three.prints(1, "here")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as sock:
        mute = Mute(sock)
        await trio.to_thread.run_sync(mute.greet)
        await until(lambda: "mute" in three.nodes[0].relay.peers)
        shown = await logs(three.nodes[0])
        assert [item.get("line") for item in shown] == ["here", None]
        assert shown[1] == {"node": "mute", "missing": "no answer in 1 s"}
        asked = await trio.to_thread.run_sync(mute.next_request, "function.logs")
        assert asked.params["here"] is True
        # Its late answer is one nobody waits for: it changes nothing.
        assert asked.id not in three.nodes[0].relay.peers["mute"].waiting
        mute.say(m.Item(asked.id, {"line": "late", "serial": 1}, True))
        assert [item.get("line") for item in await logs(three.nodes[0])] == ["here", None]
    await until(lambda: "mute" not in three.nodes[0].relay.peers)


async def test_a_noisy_function_does_not_fill_a_connection(three: Trio) -> None:
    """A client that takes nothing while a function prints on and on: what waits for it stays bounded, and
    it is not cut for that."""
    first, text = three.nodes[0], "x" * kept_logs.PIECE
    host, port = first.address.split(":")
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(PATIENCE)
        sock.connect((host, int(port)))
        slow = Mute(sock, "operator")
        await trio.to_thread.run_sync(slow.greet)
        slow.say(m.Request(1, "function.logs", {"name": "talk", "follow": True}))
        await until(lambda: any(node.followed for node in three.nodes[1:]))
        [link] = [link for link in first.connections.links if link.role == "operator"]
        for _ in range(20):
            for index in range(3):
                for _ in range(kept_logs.MAX_TEXT // kept_logs.PIECE):
                    three.prints(index, text)
            await trio.sleep(mesh_streams.FOLLOW_SECONDS)
        assert "slow reader" not in link.reason
        assert link.unsent < MAX_PENDING_OUT


async def test_a_function_nobody_deployed_is_said_not_to_be_there(three: Trio) -> None:
    """204, and no empty answer."""
    async with operator(three.nodes[0]) as mesh:
        with pytest.raises(CallError) as caught:
            await anext(mesh.stream("function.logs", {"name": "nothing"}))
    assert caught.value.code == 204


def test_lines_are_bounded_by_count_and_by_size() -> None:
    """The newest lines are kept; neither many short ones nor a few long ones can fill the memory."""
    kept = KeptLogs("n1")
    for n in range(kept_logs.MAX_LINES + 10):
        kept.keep("talk", "c", str(n).encode())
    rows = kept.after("talk", 0)
    assert [item["line"] for _, item in rows][:: kept_logs.MAX_LINES - 1] == [
        "10",
        str(kept_logs.MAX_LINES + 9),
    ]
    assert kept.after("talk", rows[-2][0]) == rows[-1:]
    for _ in range(2 * kept_logs.MAX_TEXT // kept_logs.PIECE):
        kept.keep("talk", "c", b"x" * kept_logs.PIECE)
    held = sum(len(item["line"]) for _, item in kept.after("talk", 0))
    assert kept_logs.MAX_TEXT - kept_logs.PIECE < held <= kept_logs.MAX_TEXT
