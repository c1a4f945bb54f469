"""Who is in the mesh: five real daemons, killed, paused, told goodbye, and lied to."""

import signal
import socket
import time
from random import Random

import pytest
from support.nodes import Nodes, edgectl, events, until

FIVE = [f"n{i}" for i in range(1, 6)]


def states(address: str) -> dict[str, str]:
    return {row["name"]: row["state"] for row in edgectl(address, "nodes")}


def all_see(nodes: Nodes, watching: list[str], expected: dict[str, str]) -> None:
    until(lambda: all(states(nodes.addresses[name]) == expected for name in watching))


@pytest.fixture
def five(nodes: Nodes) -> Nodes:
    """Each knows the one that was started before it, and that is all."""
    previous: list[str] = []
    for name in FIVE:
        nodes.start(name, seeds=previous)
        previous = [nodes.addresses[name]]
    all_see(nodes, FIVE, dict.fromkeys(FIVE, "alive"))
    return nodes


def test_a_killed_node_is_down_for_all_and_nobody_else_is(five: Nodes) -> None:
    """kill -9 of one: the others say so within seconds; back, it is alive for all in its new life."""
    five.signal("n3", signal.SIGKILL)
    began = time.monotonic()
    five.ended("n3")
    others = [name for name in FIVE if name != "n3"]
    all_see(five, others, {**dict.fromkeys(FIVE, "alive"), "n3": "down"})
    took = time.monotonic() - began
    print(f"down for all after {took:.1f} s")
    assert {peer for _, event, peer in events(five.addresses["n1"]) if event == "node.down"} == {"n3"}
    five.start("n3", seeds=[five.addresses["n1"]])
    all_see(five, FIVE, dict.fromkeys(FIVE, "alive"))


def test_a_paused_node_is_not_down(five: Nodes) -> None:
    """SIGSTOP for three seconds, and again: it may be suspected, nobody says that it, or anybody, is down."""
    for _ in range(2):
        five.signal("n2", signal.SIGSTOP)
        time.sleep(3)  # the pause itself, not a wait for something
        five.signal("n2", signal.SIGCONT)
        all_see(five, FIVE, dict.fromkeys(FIVE, "alive"))
    assert [event for event in events(five.addresses["n1"]) if event[1] == "node.down"] == []


def test_who_leaves_is_not_mourned(five: Nodes) -> None:
    """SIGTERM: the others know that it left, and never call it down."""
    five.signal("n5", signal.SIGTERM)
    assert five.ended("n5") == 0
    all_see(five, FIVE[:4], {**dict.fromkeys(FIVE, "alive"), "n5": "left"})
    assert [event for event in events(five.addresses["n1"]) if event[1] == "node.down"] == []


def test_strangers_datagrams_change_nothing(five: Nodes) -> None:
    """Garbage at a node's port is counted; it goes on as before, and so do the others."""
    host, _, port = five.addresses["n1"].rpartition(":")
    chance = Random(1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:

        def enough() -> bool:
            for _ in range(500):  # of which the kernel drops what a busy node does not fetch
                sock.sendto(chance.randbytes(chance.randrange(1400)), (host, int(port)))
            return bool(edgectl(five.addresses["n1"], "status")["gossip"]["refused"].get("malformed", 0) > 500)

        until(enough)
    assert states(five.addresses["n1"]) == dict.fromkeys(FIVE, "alive")


def test_a_node_with_another_key_is_not_believed(nodes: Nodes) -> None:
    """Its datagrams are counted as of a wrong key, so it is not alive for those who have the right one."""
    first = nodes.start("n1", keys=["aa" * 32])
    nodes.start("n2", seeds=[first], keys=["bb" * 32])
    until(lambda: edgectl(first, "status")["gossip"]["refused"].get("wrong_key", 0) > 3)
    until(lambda: states(first).get("n2") in ("suspect", "down"))
