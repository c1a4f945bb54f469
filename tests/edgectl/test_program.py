"""Both programs, as processes, where what they print cannot be written."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from fake_broker import FakeBroker

from edged_protocol import messages as m

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0
ENVIRONMENT = {**os.environ, "PYTHONUNBUFFERED": ""}
"""Python keeps output for later, as it does where nobody has asked it not to."""
SCENARIO = """[scenario]
duration = "20s"
static = [0]

[mesh]
nodes = 1
containers = 4

[function.lambda]
local = "1s"
remote = "3s"

[clients.some]
function = "lambda"
count = 2
rate = 0.1
"""
LONG = 100
"""Rows as wide as the longest: more than fit into a pipe that nobody reads."""

DAEMON = ("--help", "--version", "run -h", "check {root}/configs/edged.toml", "sim {tmp}/scenario.toml", "sim {tmp}/scenario.toml -o json", "dev")
PLAN = ("latency --clients 20", "latency --clients 20 -o json", "latency --clients 20 -o csv", "provision --clients 9 --local-share 0.3 -o csv")
TOOL = ("--help", "--version", "session get -h", "nodes", "-o json nodes", "logs counter", "-o json events --watch", "top --once")
COMMANDS = [f"edged {words}" for words in (*DAEMON, *(f"plan {words}" for words in PLAN))] + [f"edgectl {words}" for words in TOOL]


@pytest.fixture
def mesh(broker: FakeBroker) -> FakeBroker:
    """What the commands of edgectl ask for, at length."""
    line = {"at": "12:00", "node": "n1", "event": "session.localized", "text": "it is warm in here"}
    broker.replies("mesh.nodes", [{"name": "n" * 4_000 if i == 0 else f"n{i}"} for i in range(LONG)])
    broker.replies("mesh.load", [])
    for verb in ("function.logs", "mesh.events"):
        broker.script[verb] = lambda asked: [m.Item(asked.id, line, last=i == LONG) for i in range(LONG + 1)]
    return broker


@pytest.fixture
def command(request: pytest.FixtureRequest, mesh: FakeBroker, tmp_path: Path) -> list[str]:
    """A program and its arguments."""
    (tmp_path / "scenario.toml").write_text(SCENARIO)
    program, *words = request.param.format(root=ROOT, tmp=tmp_path).split()
    where = ["--node", mesh.address] if program == "edgectl" else []
    return [sys.executable, "-m", f"{program}.cli", *where, *words]


def run(command: list[str], stdout: int, stderr: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    """To its end."""
    return subprocess.run(command, stdout=stdout, stderr=stderr, text=True, env=ENVIRONMENT, check=False, timeout=PATIENCE)


def said(stderr: str) -> list[str]:
    """The program's own lines: what the nodes of `edged dev` log goes there too."""
    return [line for line in stderr.splitlines() if " edged.daemon." not in line]


@pytest.mark.parametrize("command", COMMANDS, indirect=True)
def test_a_full_disk_is_one_line(command: list[str]) -> None:
    """Behind `>`: exit 1 and the reason, no traceback."""
    with open("/dev/full", "w") as full:
        done = run(command, full.fileno())
    assert done.returncode == 1
    assert len(said(done.stderr)) == 1 and "No space left" in done.stderr


@pytest.mark.parametrize("command", COMMANDS, indirect=True)
def test_a_reader_that_has_gone_is_told_nothing(command: list[str]) -> None:
    """Behind `|`: exit 1, not a word."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w"):
        done = run(command, writer)
    assert (done.returncode, said(done.stderr)) == (1, [])


def test_a_reader_that_has_seen_enough(mesh: FakeBroker) -> None:
    """`| head -1` gets its line, and the rest, for which there is no room, is not complained about."""
    command = [sys.executable, "-m", "edgectl.cli", "--node", mesh.address, "nodes"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT) as process:
        assert process.stdout and process.stderr
        assert process.stdout.readline().startswith("NAME")
        process.stdout.close()
        assert (process.stderr.read(), process.wait(PATIENCE)) == ("", 1)


def test_a_complaint_that_cannot_be_written() -> None:
    """The exit code still tells a script what happened: 6, nobody there."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    with open("/dev/full", "w") as full:
        done = run([sys.executable, "-m", "edgectl.cli", "--node", address, "status"], subprocess.PIPE, full.fileno())
    assert (done.returncode, done.stdout) == (6, "")


def test_output_that_was_closed_before() -> None:
    """`>&-` with a failure: exit 6 as ever."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    command = ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-m", "edgectl.cli", "--node", address, "status"]
    assert run(command, subprocess.PIPE).returncode == 6
