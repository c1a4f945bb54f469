"""A data directory serves one process at a time."""

import signal
import subprocess
import sys
from pathlib import Path

from support.nodes import Nodes, until


def test_a_second_node_on_the_same_directory_is_refused(nodes: Nodes, tmp_path: Path) -> None:
    """Whatever its store is: it says so and ends, and the first one keeps its admin socket; killed, it makes room."""
    nodes.start("n1")
    nodes.start("n2")
    for name in ("n1", "n2"):
        again = [sys.executable, "-m", "edged.cli", "run", "--config", str(tmp_path / f"{name}.toml")]
        ended = subprocess.run(again, capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == 1
        assert f"{tmp_path / name} is in use by another edged process" in ended.stderr
        assert "Traceback" not in ended.stderr
        admin = [sys.executable, "-m", "edgectl.cli", "--admin", str(tmp_path / name / "admin.sock"), "status"]
        until(lambda admin=admin: subprocess.run(admin, capture_output=True, timeout=60, check=False).returncode == 0)  # type: ignore[misc]
    nodes.signal("n2", signal.SIGKILL)
    nodes.ended("n2")
    assert nodes.start("n2")
