"""A data directory that is full, or that nothing can be written to."""

import os
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from support.nodes import COUNTER, Nodes, edgectl
from support.wire_client import WireClient

from edged_protocol.errors import NotRunRetry

MOUNTED = """
import os, sys
config = sys.argv[-1]
data = config.removesuffix(".toml")
script = 'mount -t tmpfs -o %s none "$0" && exec "$@"' % {options!r}
command = ["sh", "-c", script, data, sys.executable, "-m", "edged.cli", *sys.argv[1:]]
os.execvp("unshare", [*{unshare!r}, *command])
"""
"""Becomes a node whose data directory is a small file system of its own."""

UNSHARE = ["unshare", "-m" if os.geteuid() == 0 else "-rm"]


def on_a_disk(options: str) -> list[str]:
    """The command of such a node."""
    if not shutil.which("unshare") or subprocess.run([*UNSHARE, "true"], check=False).returncode:
        pytest.skip("needs a name space of its own for a small disk")
    return ["-c", MOUNTED.format(options=options, unshare=UNSHARE)]


def test_a_deploy_that_finds_no_room_changes_nothing(nodes: Nodes, tmp_path: Path) -> None:
    """It is answered 104, certainly not done, with the reason; what was deployed serves on, and what fits is deployed."""
    address = nodes.start("n1", *on_a_disk("size=2m"))
    large = tmp_path / "large"
    shutil.copytree(COUNTER, large)
    (large / "model.bin").write_bytes(os.urandom(4 << 20))
    with closing(WireClient(address, "operator")) as operator, closing(WireClient(address)) as device:
        before = operator.deploy(COUNTER)["hash"]
        assert device.call("counter", "a", "incr") == 1
        with pytest.raises(NotRunRetry, match="No space left on device") as caught:
            operator.deploy(large)
        assert caught.value.code == 104
        assert [row["hash"] for row in operator.request("function.list", {})] == [before]
        assert device.call("counter", "a", "incr") == 2
        (large / "model.bin").write_bytes(b"small")
        assert operator.deploy(large)["hash"] != before
        assert device.call("counter", "a", "incr") == 3


def test_a_node_that_can_write_nothing_says_so_and_ends(nodes: Nodes) -> None:
    """One line that names the setting and the reason, exit code 1, and it never listened."""
    assert nodes.start("n1", *on_a_disk("ro"), refused=True) == ""
    assert nodes.ended("n1") == 1
    [line] = nodes.said("n1").splitlines()
    assert "[node] data_dir: nothing can be kept in " in line and line.endswith("n1: Read-only file system")


def test_dead_letters_of_nothing_are_not_found(nodes: Nodes) -> None:
    """`edgectl dead ls` of a function that was never deployed is exit code 3, of one that has none an empty list."""
    address = nodes.start("n1")
    with closing(WireClient(address, "operator")) as operator:
        operator.deploy(COUNTER)
    assert edgectl(address, "dead", "ls", "counter") == []
    assert edgectl(address, "dead", "ls") == []
    command = ["-m", "edgectl.cli", "--node", address, "-o", "json", "dead", "ls", "nothing"]
    ended = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (3, "")
