"""What a checkpoint costs, and what is there after a crash."""

import signal
from contextlib import closing
from pathlib import Path

import pytest
from support.keyed import keyed
from support.nodes import Nodes, deploy
from support.wire_client import WireClient

from edged_protocol.errors import UnknownOutcome

KEYS = 1000
CALLS = 20


def written(nodes: Nodes, name: str) -> int:
    """Bytes the node has written to files since it started."""
    lines = Path(f"/proc/{nodes.pid(name)}/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("wchar:"))


@pytest.mark.parametrize("dies", [False, True])
def test_a_change_of_a_large_state_is_stored_at_the_cost_of_the_change(tmp_path: Path, dies: bool) -> None:
    """Twenty `sync` calls that change one key each of a 1 MiB state write less than one such state, and all of
    them are there after the session was given back, or after the node was killed."""
    nodes = Nodes(tmp_path)
    try:
        address = nodes.start("a")
        deploy(address, keyed(tmp_path, durability='local = "sync"', state='max_bytes = "2MiB"'))
        with closing(WireClient(address, "operator")) as operator, closing(WireClient(address)) as device:
            names = {"function": "keyed", "session": "s"}
            operator.request("session.localize", names)
            device.call("keyed", "s", "fill", 0, KEYS, 1024)
            before = written(nodes, "a")
            for n in range(CALLS):
                device.call("keyed", "s", "put", f"k{n}", n)
            device.call("keyed", "s", "drop", "k999")
            assert written(nodes, "a") - before < KEYS * 1024
            if not dies:
                operator.request("session.externalize", names)
        if dies:
            nodes.signal("a", signal.SIGKILL)
            nodes.ended("a")
            address = nodes.start("a")
        with closing(WireClient(address)) as device:
            assert [device.call("keyed", "s", "get", f"k{n}") for n in range(CALLS)] == list(range(CALLS))
            assert device.call("keyed", "s", "get", "k500") == bytes(1024)
            assert device.call("keyed", "s", "get", "k999") is None
            assert device.call("keyed", "s", "put", "new", 1) == KEYS
    finally:
        nodes.close()


def test_a_sync_call_whose_state_cannot_be_stored_is_not_acknowledged(tmp_path: Path) -> None:
    """A state too long for the store ends that call as unknown (402); the session goes on with what the store has."""
    nodes = Nodes(tmp_path)
    try:
        address = nodes.start("a")
        sections = {"durability": 'local = "sync"', "state": 'max_bytes = "64MiB"', "limits": 'memory = "1GiB"'}
        deploy(address, keyed(tmp_path, **sections))
        with closing(WireClient(address, "operator")) as operator, closing(WireClient(address)) as device:
            operator.request("session.localize", {"function": "keyed", "session": "s"})
            assert device.call("keyed", "s", "put", "a", 1) == 1
            with pytest.raises(UnknownOutcome, match="cannot be stored") as caught:
                device.once("keyed", "s", "fill", 0, 22, 1 << 20, timeout_ms=20000)
            assert caught.value.code == 402
            assert device.call("keyed", "s", "get", "a") == 1
            assert device.call("keyed", "s", "get", "k0") is None
            assert device.call("keyed", "s", "put", "b", 2) == 2
    finally:
        nodes.close()
