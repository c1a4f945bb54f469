"""Real daemons in network namespaces on one bridge: they find each other by mDNS, or by one seed."""

import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support.lan_hosts import Host, Lan
from support.nodes import Nodes, events, until
from support.wire_client import WireClient

NAMES = [f"n{number}" for number in range(1, 6)]
DISCOVER = "from edged_protocol.discovery import discover; print(*(b.node for b in discover({mesh!r}, {seconds})))"


@pytest.fixture
def lan() -> Iterator[Lan]:
    if os.geteuid() != 0 and not os.environ.get("CI"):
        warnings.warn("namespaces need root: discovery on a LAN was NOT tested", stacklevel=1)
        pytest.skip("needs root")
    lan = Lan()
    try:
        yield lan
    finally:
        lan.close()


@pytest.fixture
def nodes(tmp_path: Path, lan: Lan) -> Iterator[Nodes]:
    running = Nodes(tmp_path)
    yield running
    running.close()


def states(address: str) -> dict[str, str]:
    with closing(WireClient(address, "operator")) as operator:
        return {row["name"]: row["state"] for row in operator.request("mesh.nodes", {})}


def gossip(address: str) -> dict[str, list[str]]:
    with closing(WireClient(address, "operator")) as operator:
        said: dict[str, list[str]] = operator.request("node.status", {})["gossip"]
        return said


def all_alive(nodes: Nodes, names: list[str]) -> bool:
    """Whether each of them sees all of them alive, and connected."""
    wanted = dict.fromkeys(names, "alive")
    return all(states(nodes.addresses[name]) == wanted for name in names)


def found_by(host: Host, mesh: str | None, seconds: float) -> list[str]:
    """The nodes that a device on that host discovers."""
    program = DISCOVER.format(mesh=mesh, seconds=seconds)
    ended = subprocess.run(
        [*host.inside, sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    return ended.stdout.split()


def seconds_until_all_alive(nodes: Nodes, names: list[str]) -> float:
    began = time.monotonic()
    until(lambda: all_alive(nodes, names))
    return time.monotonic() - began


def test_five_nodes_find_each_other_by_mdns_alone(nodes: Nodes, lan: Lan) -> None:
    """No seeds; a device finds them as well; one that is killed is down for all, one that is stopped for
    three seconds is not; a node of another mesh is joined by nobody."""
    for name in NAMES:
        nodes.start(name, host=lan.host())
    took = seconds_until_all_alive(nodes, NAMES)
    print(f"five nodes knew each other {took:.1f} s after the last was ready")
    stranger = lan.host()
    nodes.start("n6", host=stranger, mesh="other")
    until(lambda: found_by(stranger, "edged", 3.0) == NAMES)
    until(lambda: found_by(stranger, None, 3.0) == [*NAMES, "n6"])
    assert all_alive(nodes, NAMES), "the sixth was there all the time, and is no member"
    assert states(nodes.addresses["n6"]) == {"n6": "alive"}
    nodes.signal("n4", signal.SIGSTOP)
    time.sleep(3)  # the length of the pause is what is tested
    nodes.signal("n4", signal.SIGCONT)
    until(lambda: all_alive(nodes, NAMES))
    nodes.signal("n5", signal.SIGKILL)
    began = time.monotonic()
    until(lambda: all(states(nodes.addresses[name])["n5"] == "down" for name in NAMES[:4]))
    print(f"the one that was killed was down for all after {time.monotonic() - began:.1f} s")
    downs = {peer for _, event, peer in events(nodes.addresses["n1"]) if event == "node.down"}
    assert downs == {"n5"}, "a pause of three seconds is no death"


def test_without_multicast_one_seed_finds_all(nodes: Nodes, lan: Lan) -> None:
    """Where a switch passes no multicast on nobody is discovered; one seed does; after a restart without any
    seed a node finds its mesh by what it remembers."""
    hosts = [lan.host() for _ in NAMES]
    lan.without_multicast()
    first = nodes.start("n1", host=hosts[0])
    assert found_by(hosts[1], None, 2.0) == []
    for name, host in zip(NAMES[1:], hosts[1:], strict=True):
        nodes.start(name, host=host, seeds=[first])
    print(f"from one seed: {seconds_until_all_alive(nodes, NAMES):.1f} s after the last was ready")
    until(lambda: nodes.remembers("n3", NAMES))
    nodes.signal("n3", signal.SIGTERM)
    assert nodes.ended("n3") == 0
    nodes.start("n3", host=hosts[2])
    seconds_until_all_alive(nodes, NAMES)


def test_a_node_with_both_families_joins_those_that_have_one(nodes: Nodes, lan: Lan) -> None:
    """IPv6 alone, IPv4 alone, and one with both, which is found by either and by devices of either: three members,
    though two of them cannot reach each other."""
    six, both, four = (lan.host(families=families) for families in ("6", "46", "4"))
    nodes.start("n1", host=both)
    nodes.start("n2", host=six)
    nodes.start("n3", host=four)
    others = {"n1": "alive", "n2": "alive", "n3": "alive"}
    until(lambda: states(nodes.addresses["n1"]) == others)
    until(lambda: states(nodes.addresses["n2"]) == {**others, "n3": "unconnected"})
    until(lambda: states(nodes.addresses["n3"]) == {**others, "n2": "unconnected"})
    until(lambda: set(found_by(six, "edged", 1.0)) == {"n1", "n2"})
    until(lambda: set(found_by(four, "edged", 1.0)) >= {"n1", "n3"})
    nodes.signal("n2", signal.SIGKILL)
    until(lambda: states(nodes.addresses["n3"])["n2"] == "down")


def test_a_cable_that_is_plugged_in_later(nodes: Nodes, lan: Lan) -> None:
    """A node that started without a network is found when it has one."""
    late = lan.host(plugged=False)
    nodes.start("n1", host=lan.host())
    nodes.start("n2", host=late)
    lan.plug(late)
    seconds_until_all_alive(nodes, NAMES[:2])


def test_a_node_without_datagrams_is_alive(nodes: Nodes, lan: Lan) -> None:
    """Behind a firewall that passes TCP only: never down for anybody, named as deaf; killed, it is down."""
    hosts = [lan.host() for _ in range(3)]
    lan.without_datagrams(hosts[2])
    first = nodes.start("n1", host=hosts[0])
    nodes.start("n2", host=hosts[1], seeds=[first])
    nodes.start("n3", host=hosts[2], seeds=[first])
    until(lambda: all_alive(nodes, NAMES[:3]))
    for name, deaf in (("n1", ["n3"]), ("n2", ["n3"]), ("n3", ["n1", "n2"])):
        until(lambda name=name, deaf=deaf: sorted(gossip(nodes.addresses[name])["deaf"]) == deaf)  # type: ignore[misc]
    assert all_alive(nodes, NAMES[:3])
    assert not [event for event in events(first) if event[1] == "node.down"]
    nodes.signal("n3", signal.SIGKILL)
    until(lambda: all(states(nodes.addresses[name])["n3"] == "down" for name in NAMES[:2]))


def test_an_image_on_two_cards_serves_once(nodes: Nodes, lan: Lan) -> None:
    """No seeds, nothing remembered, the same file on both: the second hears of the first before anybody hears of it, and ends."""
    first = lan.host()
    nodes.start("n1", host=lan.host(), store="sqlite:")
    nodes.start("n2", host=first, store="mesh:n1")
    until(lambda: all_alive(nodes, ["n1", "n2"]))
    assert nodes.start("copy", host=lan.host(), store="mesh:n1", called="n2", refused=True) == ""
    assert nodes.ended("copy") == 1
    assert f"another node is called n2: it answers at {nodes.addresses['n2']}; this one ends" in nodes.said("copy")
    assert "another node calls itself" not in nodes.said("n1") + nodes.said("n2")
    assert not [event for event in events(nodes.addresses["n1"]) if event[1:] == ("peer.lost", "n2")]
