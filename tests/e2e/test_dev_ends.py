"""`edged dev` leaves nothing behind, whatever ends it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.nodes import COUNTER, PATIENCE, until
from support.wire_client import WireClient


def ended(pid: int) -> bool:
    """Whether a process has ended; one that fell to init is reaped when init gets round to it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@contextmanager
def started(command: list[str], tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The program, with its temporary files in the directory of the test; whatever comes, it has ended afterwards."""
    process = subprocess.Popen(
        command, env={**os.environ, "TMPDIR": str(tmp_path)}, stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    with process.stdout:
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def nodes_of(process: subprocess.Popen[bytes]) -> list[dict[str, Any]]:
    """What the line of JSON says, once all of them serve."""
    assert process.stdout is not None
    rows: list[dict[str, Any]] = json.loads(process.stdout.readline())["nodes"]
    return rows


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGHUP, 0), (signal.SIGKILL, -signal.SIGKILL), (signal.SIGQUIT, -signal.SIGQUIT)],
)
def test_no_node_outlives_its_mesh(tmp_path: Path, number: int, status: int) -> None:
    """The terminal is closed, somebody kills it, or it quits: the nodes end, and with the terminal in order."""
    # A script that runs tests in its background, or under nohup, has made them ignore some of these.
    command = ["env", "--default-signal=HUP,QUIT", sys.executable, "-m", "edged.cli", "dev", "--nodes", "2"]
    with started(command, tmp_path) as process:
        rows = nodes_of(process)
        with closing(WireClient(rows[0]["address"], "operator")) as operator:
            operator.deploy(COUNTER)
            operator.request("session.localize", {"function": "counter", "session": "a"})
        process.send_signal(number)
        assert process.wait(PATIENCE) == status
    until(lambda: all(ended(row["pid"]) for row in rows))
    assert list(tmp_path.iterdir()) == [] or status


def test_who_started_it_may_have_it_outlive_the_terminal(tmp_path: Path) -> None:
    """Under `nohup` SIGHUP is ignored and stays so; SIGTERM ends it."""
    with started(["nohup", sys.executable, "-m", "edged.cli", "dev", "--nodes", "1"], tmp_path) as process:
        [row] = nodes_of(process)
        for pid in (process.pid, row["pid"]):
            os.kill(pid, signal.SIGHUP)
        with closing(WireClient(row["address"], "operator")) as operator:
            assert operator.request("node.status", {})["state"] == "alive"
        process.terminate()
        assert process.wait(PATIENCE) == 0


def test_a_directory_that_cannot_be_made_is_said_in_a_line() -> None:
    """No traceback: exit 1 and which one."""
    done = subprocess.run(
        [sys.executable, "-m", "edged.cli", "dev", "--data-dir", "/proc/none"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1 and "/proc/none" in done.stderr
