"""Local sessions of nodes that are lost, paused or cut off, on real processes: who serves them, and what is told."""

import signal
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.counters import Device, a_counter, localized, stored
from support.nodes import Nodes, deploy, edgectl, served_by, until
from support.wire_client import WireClient

from edged_protocol.errors import CallError

LEASE = "3s"


FUNCTIONS = {
    "saved": "calls = 5\nseconds = 3600.0",
    "synced": 'local = "sync"',
    "unsaved": 'local = "none"',
    "held": 'on_partition = "hold"\nlocal = "sync"',
    "forked": 'on_partition = "keep"\ncalls = 1000\nseconds = 3600.0',
    "memory": "calls = 1000\nseconds = 3600.0",
}


@pytest.fixture
def three(nodes: Nodes, tmp_path: Path) -> Nodes:
    """n1 has the store and runs nothing, n2 and n3 run everything."""
    nodes.start("n1", lease=LEASE, containers=0)
    nodes.start("n2", lease=LEASE)
    nodes.start("n3", lease=LEASE)
    for name, durability in FUNCTIONS.items():
        deploy(nodes.addresses["n1"], a_counter(tmp_path, name, durability))
        served_by(nodes.addresses["n1"], name, 2)
    return nodes


def test_a_killed_nodes_sessions_are_taken_over(three: Nodes) -> None:
    """kill -9 of their owner: each class of durability gives what it promised, `hold` waits for the operator."""
    address = three.addresses["n3"]
    devices = {name: Device(address, name) for name in ("saved", "synced", "unsaved", "held")}
    for name, device in devices.items():
        localized(three, name, "n2")
        assert [device.incr() for _ in range(13)] == list(range(1, 14))
        assert device.meta["node"] == "n2"
    until(lambda: stored(three, "saved") >= 10)
    kept = stored(three, "saved")
    three.signal("n2", signal.SIGKILL)
    three.ended("n2")

    assert devices["saved"].incr() == kept + 1
    assert devices["saved"].meta["recovered"] == {"version": kept}
    assert devices["saved"].again() == kept + 1, "a repetition gets the same answer"
    assert devices["saved"].meta["recovered"] == {"version": kept}, "and hears of the recovery: the first may have been lost"
    assert devices["saved"].incr() == kept + 2
    assert "recovered" not in devices["saved"].meta
    assert devices["synced"].incr() == 14
    with pytest.raises(CallError, match="state was lost") as caught:
        devices["unsaved"].incr()
    assert caught.value.code == 105
    assert devices["unsaved"].incr() == 1

    def is_local_here() -> bool:
        return bool(devices["synced"].incr() and devices["synced"].meta["mode"] == "local")

    until(is_local_here)
    assert devices["synced"].meta["node"] == "n3"
    with closing(WireClient(address)) as client, pytest.raises(CallError) as refused:
        client.once("held", "s", "incr", timeout_ms=1000)
    assert refused.value.code == 105
    assert edgectl(address, "node", "forget", "n2")["node"] == "n2"
    assert devices["held"].incr() == 14
    for name, device in devices.items():
        assert device.epochs == sorted(device.epochs), name
        device.close()


def test_a_paused_owner_does_not_answer_beside_its_successor(three: Nodes) -> None:
    """SIGSTOP for longer than a lease: what it is told then is not answered from its memory, which is set aside and can
    be exported, and restored."""
    own, other = Device(three.addresses["n2"], "memory"), Device(three.addresses["n3"], "memory")
    localized(three, "memory", "n2")
    assert [own.incr() for _ in range(7)] == list(range(1, 8))
    assert stored(three, "memory") == 0
    three.signal("n2", signal.SIGSTOP)
    assert other.incr() == 1
    assert other.meta["recovered"] == {"version": 0}
    three.signal("n2", signal.SIGCONT)
    assert own.incr() == 2
    assert own.epochs == sorted(own.epochs)

    def listed() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = edgectl(three.addresses["n3"], "session", "conflicts", "memory")
        return found

    until(lambda: len(listed()) == 1)
    [row] = listed()
    assert (row["session"], row["version"], row["stored"]) == ("s", 7, 0)
    assert row["id"].startswith("n2:")
    edgectl(three.addresses["n3"], "session", "externalize", "memory/s")
    assert edgectl(three.addresses["n3"], "session", "restore", row["id"])["version"] == 7
    assert other.incr() == 8
    own.close()
    other.close()
