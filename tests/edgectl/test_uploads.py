"""What `edgectl deploy` says while it sends and afterwards, on a terminal and in a pipe."""

import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_broker import FakeBroker

from edgectl import upload
from edged_protocol import messages as m

PROGRAM = [sys.executable, "-m", "edgectl.cli"]
PATIENCE = 60.0


@pytest.fixture
def bundle(broker: FakeBroker, tmp_path: Path) -> Path:
    """A function of several pieces, and a broker that takes it."""
    (tmp_path / "function.toml").write_text('[function]\nname = "f"\nentry = "f:fn"\n')
    (tmp_path / "f.bin").write_bytes(os.urandom(3 * upload.CHUNK))
    got = 0

    def take(asked: m.Request | m.Invoke) -> list[m.Message]:
        nonlocal got
        assert isinstance(asked, m.Request)
        got += len(asked.blob or b"")
        return [m.Reply(asked.id, {"have": got})]

    broker.script["function.upload"] = take
    broker.replies("function.deploy", {"name": "f"})
    return tmp_path


def test_deploying_tells_what_a_manifest_asks_for_in_vain(broker: FakeBroker, bundle: Path) -> None:
    """Each warning of the node is a line on stderr; the document on stdout has them too."""
    broker.replies("function.deploy", {"name": "f", "warnings": ["[limits] cpu is not enforced"]})
    command = [*PROGRAM, "--node", broker.address, "-o", "json", "deploy", str(bundle)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert ended.stderr == "warning: [limits] cpu is not enforced\n"
    assert json.loads(ended.stdout)["warnings"] == ["[limits] cpu is not enforced"]


def test_an_upload_shows_its_progress_on_a_terminal(broker: FakeBroker, bundle: Path) -> None:
    """Percentages up to 100 on stderr if that is a terminal; stdout has the result alone."""
    ours, theirs = pty.openpty()
    command = [*PROGRAM, "--node", broker.address, "deploy", str(bundle)]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=theirs, env=environment
    ) as process:
        os.close(theirs)
        shown = read_all(ours)
        said, _ = process.communicate(timeout=PATIENCE)
    assert (process.returncode, said) == (0, b"name  f\n")
    percents = [int(number) for number in re.findall(rb"(\d+)%", shown)]
    assert b"upload" in shown
    assert percents == sorted(percents)
    assert percents[-1] == 100
    assert len(set(percents)) > 2


def read_all(fd: int) -> bytes:
    """What a terminal shows until its other end is closed."""
    data, deadline = b"", time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if select.select([fd], [], [], 1)[0]:
            try:
                more = os.read(fd, 4096)
            except OSError:  # as Linux says it of a terminal whose programs have ended
                break
            if not more:
                break
            data += more
    os.close(fd)
    return data


def test_an_upload_into_a_pipe_shows_nothing(broker: FakeBroker, bundle: Path) -> None:
    """Without a terminal stderr stays empty."""
    command = [*PROGRAM, "--node", broker.address, "deploy", str(bundle)]
    done = subprocess.run(command, capture_output=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"name  f\n", b"")
