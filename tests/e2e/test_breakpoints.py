"""Tests may stop a node at a named step of a session."""

import signal
from contextlib import closing
from pathlib import Path

import pytest
from support.nodes import COUNTER, Nodes, deploy, until
from support.wire_client import WireClient


@pytest.mark.parametrize("step", ["claiming", "claiming+"])
def test_a_node_stops_at_the_step_and_goes_on(tmp_path: Path, step: str) -> None:
    """A node told to stop while it claims a session does, and finishes the move once it is let go."""
    nodes = Nodes(tmp_path)
    try:
        address = nodes.start("a", stop_at=step)
        deploy(address, COUNTER)
        with closing(WireClient(address, "operator")) as operator:
            request = operator.send_request("session.localize", {"function": "counter", "session": "s"})
            until(lambda: nodes.stopped("a"))
            nodes.signal("a", signal.SIGCONT)
            assert operator.reply(request)["mode"] == "local"
    finally:
        nodes.close()
