"""A store that is put back from an older copy, on real processes (fault F24)."""

import signal
from contextlib import closing
from pathlib import Path

import pytest
from support.nodes import COUNTER, Nodes, deploy, edgectl, until
from support.wire_client import WireClient

from edged_protocol.errors import CallError, NotRunRetry


def answers(device: WireClient, session: str) -> bool:
    """Whether the session can be called."""
    try:
        device.once("counter", session, "get")
    except NotRunRetry:
        return False
    return True


def test_a_store_that_went_back_freezes_its_sessions(nodes: Nodes, tmp_path: Path) -> None:
    """Sessions that lost acknowledged calls are refused, run nothing twice and are told of; all others go on."""
    nodes.start("n1")
    address = nodes.start("n2")
    deploy(address, COUNTER)
    with closing(WireClient(address)) as device:
        for session in ("kept", "lost"):
            device.call("counter", session, "incr")
        nodes.signal("n1", signal.SIGKILL)
        nodes.ended("n1")
        older = {file.name: file.read_bytes() for file in (tmp_path / "n1").glob("store.db*")}
        nodes.start("n1")
        call_id = bytes(16)
        until(lambda: answers(device, "lost"))
        assert device.once("counter", "lost", "incr", call_id=call_id)[0] == 2
        nodes.signal("n1", signal.SIGKILL)
        nodes.ended("n1")
        for file in (tmp_path / "n1").glob("store.db*"):
            file.unlink()
        for name, content in older.items():
            (tmp_path / "n1" / name).write_bytes(content)
        nodes.start("n1")
        until(lambda: answers(device, "kept"))
        assert device.call("counter", "kept", "incr") == 2
        for _ in range(2):
            with pytest.raises(CallError, match="the store went back from") as caught:
                device.once("counter", "lost", "incr", call_id=call_id, attempt=1)
            assert caught.value.code == 106
    [event] = [line for line in edgectl(address, "events") if "session.frozen" in line]
    assert '"session": "lost"' in event
