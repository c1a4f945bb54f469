"""Containers that are no longer needed clean up on real nodes: idle ones, and all when the node stops."""

import signal
from contextlib import closing
from pathlib import Path

import pytest
from support.nodes import Nodes, deploy, until
from support.wire_client import WireClient

CODE = """
from pathlib import Path

from edged.sdk import Function

fn = Function("tidy")
opened = []

@fn.handler
def open_(s, path):
    opened.append(path)

@fn.stop
def close():
    for path in opened:
        Path(path).write_text("closed")
"""


@pytest.mark.parametrize("why", ["idle", "local", "node"])
def test_a_container_cleans_up_before_it_ends(tmp_path: Path, why: str) -> None:
    """Idle for longer than its pool wants, its session gone back to the store, or its node told to stop."""
    bundle, marker, nodes = tmp_path / "tidy", tmp_path / "marker", Nodes(tmp_path)
    bundle.mkdir()
    (bundle / "tidy.py").write_text(CODE)
    idle = "100ms" if why == "idle" else "1h"
    (bundle / "function.toml").write_text(f'[function]\nname = "tidy"\nentry = "tidy:fn"\n[pool]\nidle = "{idle}"\n')
    try:
        address = nodes.start("a")
        deploy(address, bundle)
        with closing(WireClient(address, "operator")) as operator, closing(WireClient(address)) as client:
            if why == "local":
                operator.request("session.localize", {"function": "tidy", "session": "s"})
            client.call("tidy", "s", "open_", str(marker))
            if why == "local":
                operator.request("session.externalize", {"function": "tidy", "session": "s"})
        if why == "node":
            assert not marker.exists()
            nodes.signal("a", signal.SIGTERM)
            assert nodes.ended("a") == 0
        until(lambda: marker.exists() and marker.read_text() == "closed")
    finally:
        nodes.close()
