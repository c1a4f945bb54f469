"""A device changes its broker: its session comes after it, where its function says so."""

import json
from collections.abc import Iterator
from contextlib import closing

import pytest
import trio
from support.nodes import COUNTER, PATIENCE, Nodes, deploy, edgectl, served_by, until
from support.wire_client import WireClient

from edged_protocol.trio_client import connect


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Two nodes with `counter`, which stays, and `loyal`, the same code, which follows."""
    root = tmp_path_factory.mktemp("following")
    nodes = Nodes(root)
    addresses = [nodes.start(name) for name in ("a", "b")]
    loyal = root / "loyal"
    loyal.mkdir()
    (loyal / "function.toml").write_text(
        '[function]\nname = "loyal"\nentry = "code:fn"\n[modes]\nfollow = true\nmin_dwell = "0s"\n'
    )
    [code] = COUNTER.glob("*.py")
    (loyal / "code.py").write_text(code.read_text().replace('"counter"', '"loyal"'))
    for bundle in (loyal, COUNTER):
        deploy(addresses[0], bundle)
    for address in addresses:
        served_by(address, "loyal", 2)
        served_by(address, "counter", 2)
    yield addresses
    nodes.close()


def local_on_a(address: str, function: str) -> None:
    with closing(WireClient(address, "operator")) as operator:
        operator.request("session.localize", {"function": function, "session": "s", "to": "a"})


def test_a_session_follows_its_device(mesh: list[str]) -> None:
    """Called through the other node it is there a few seconds later; every call has counted once."""
    local_on_a(mesh[0], "loyal")
    calls, homes = 0, set()
    with closing(WireClient(mesh[1])) as device:

        def moved() -> bool:
            nonlocal calls
            calls += 1
            value, meta = device.once("loyal", "s", "incr", 1, call_id=calls.to_bytes(16, "big"))
            assert value == calls
            homes.add(meta.get("home"))
            return bool(meta["node"] == "b")

        until(moved)
    assert homes <= {"a", None} and "a" in homes, "the node to call at is told as long as it is another one"
    told = [json.loads(line) for line in edgectl(mesh[0], "events")]
    assert [item["to"] for item in told if item["event"] == "session.followed"] == ["b"]


def test_a_session_stays_where_its_function_does_not_follow(mesh: list[str]) -> None:
    """Without `follow` the same calls move nothing; they run beside those of a session that does move."""
    local_on_a(mesh[0], "counter")
    with closing(WireClient(mesh[1])) as device, closing(WireClient(mesh[0], "operator")) as operator:
        operator.request("session.migrate", {"function": "loyal", "session": "s", "to": "a"})

        def moved() -> bool:
            assert device.once("counter", "s", "incr", 1)[1]["node"] == "a"
            return bool(device.once("loyal", "s", "incr", 1)[1]["node"] == "b")

        until(moved)
        assert device.once("counter", "s", "incr", 1)[1]["node"] == "a"


async def test_a_client_goes_where_its_session_is(mesh: list[str]) -> None:
    """With `follow_home` it changes over to the session's node, and comes back by itself when the session moves; every call counts once."""

    async def move(to: str) -> None:
        async with connect([mesh[0]], name="operator", role="operator") as operator:
            await operator.request("session.migrate", {"function": "counter", "session": "home", "to": to})

    async with connect([mesh[1]], name="device", follow_home=True) as device:
        session, calls = device.session("counter", "home"), 0

        async def asks_at(address: str) -> None:
            nonlocal calls
            with trio.fail_after(PATIENCE):
                while device.statistics().broker != address:
                    calls += 1
                    assert await session.call("incr") == calls

        await session.call("get")
        async with connect([mesh[0]], name="operator", role="operator") as operator:
            await operator.request("session.localize", {"function": "counter", "session": "home", "to": "a"})
        await asks_at(mesh[0])
        assert "home" not in (await session.invoke("get")).meta
        await move("b")
        await asks_at(mesh[1])
        assert (await session.invoke("get")).node == "b"
