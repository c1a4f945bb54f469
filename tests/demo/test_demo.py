"""The demo as a whole: its exit code, its books while calls fail, its processes and files."""

import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trio

from edged_protocol.errors import Code, call_error

ROOT = Path(__file__).parents[2]
RUN = ROOT / "tools" / "demo" / "run.py"
PATIENCE = 110
"""Seconds for a whole performance: the demo promises two minutes."""


class Said(NamedTuple):
    """What the fleet looks at in an answer."""

    value: Any
    mode: str = "remote"
    node: str = "edge-1"
    epoch: int = 0


class Script:
    """A session that answers as written; keeps the call ids it was asked with."""

    def __init__(self, *script: Said | Exception) -> None:
        self._script = list(script)
        self.ids: list[bytes] = []

    async def invoke(self, method: str, *args: Any, call_id: bytes, timeout: float) -> Said:
        """The next line of the script."""
        await trio.lowlevel.checkpoint()
        self.ids.append(call_id)
        line = self._script.pop(0)
        if isinstance(line, Exception):
            raise line
        return line


async def test_a_call_is_repeated_under_its_id_and_booked_once() -> None:
    """Refusals and unknown outcomes lead to the same call id again, and to one call in the books."""
    from account import Ledger
    from fleet import Caller

    moving = call_error(Code.MOVING, "moving")
    lost = call_error(Code.NODE_LOST, "lost")
    session, caller = Script(moving, lost, moving, Said(5)), Caller(Ledger("counter/s"))
    assert await caller.call(session, "incr") == 5  # type: ignore[arg-type]
    assert len(session.ids) == 4 and len(set(session.ids)) == 1
    assert (caller.ledger.asked, caller.ledger.unanswered, len(caller.points)) == (1, [], 1)


@pytest.mark.parametrize(
    "code", [Code.OUTCOME_FORGOTTEN, Code.NO_SUCH_FUNCTION, Code.FUNCTION_ERROR]
)
async def test_a_call_that_cannot_be_repeated_is_lost(code: Code) -> None:
    """What no repetition can mend is booked as asked and not answered."""
    from account import Ledger, count
    from fleet import Caller

    session, caller = Script(call_error(code, "no")), Caller(Ledger("counter/s"))
    assert await caller.call(session, "incr") is None  # type: ignore[arg-type]
    assert len(session.ids) == len(caller.ledger.unanswered) == 1
    assert count(caller.ledger, 0).lost == 1


async def test_an_older_epoch_is_booked() -> None:
    """An answer of an epoch below one seen before is counted."""
    from account import Ledger
    from fleet import Caller

    caller = Caller(Ledger("counter/s"))
    session = Script(Said(1, epoch=2), Said(2, epoch=1), Said(3, epoch=2))
    for _ in range(3):
        await caller.call(session, "incr")  # type: ignore[arg-type]
    assert caller.ledger.backwards == 1


async def test_an_arm_books_what_the_function_says() -> None:
    """The function's own count and the abnormal readings that were acknowledged go into the books."""
    from fleet import Arm

    arm = Arm(7, 5.0)
    session = Script(Said({"n": 1}), Said({"n": 2}), call_error(Code.FUNCTION_ERROR, "no"))
    await arm.sample(session)  # type: ignore[arg-type]
    arm.abnormal = True
    await arm.sample(session)  # type: ignore[arg-type]
    await arm.sample(session)  # type: ignore[arg-type]
    ledger = arm.caller.ledger
    assert (ledger.asked, ledger.values, ledger.abnormal) == (3, [1, 2], 1)


def test_the_largest_gap_counts_from_the_last_answer_before() -> None:
    """A pause that begins before the window's first answer is seen whole."""
    from fleet import Point, largest_gap

    points = [Point(at, 0.0, "local", "n") for at in (1.0, 1.1, 1.6, 1.7, 1.9)]
    assert largest_gap(points, 1.5) == pytest.approx(0.5)
    assert largest_gap(points, 1.65) == pytest.approx(0.2)
    assert largest_gap([], 0.0) == 0.0


def test_quantiles_are_values_that_were_measured() -> None:
    """Nearest rank; nothing measured is 0."""
    from fleet import quantile

    assert [quantile([3.0, 1.0, 2.0, 4.0], q) for q in (0.0, 0.5, 0.99)] == [1.0, 3.0, 4.0]
    assert quantile([], 0.5) == 0.0


class Told:
    """A story that ends with these checks, or with this failure."""

    def __init__(self, *checks: bool, failure: Exception | None = None) -> None:
        from account import Check

        self._said = [Check("a count", ok, "") for ok in checks]
        self.checks: list[Check] = []
        self._failure = failure

    async def tell(self) -> None:
        """The story."""
        await trio.lowlevel.checkpoint()
        if self._failure is not None:
            raise self._failure
        self.checks = self._said


async def test_only_a_verdict_without_fault_is_ok() -> None:
    """Exit code 0 needs checks, all of them right, and a story told to its end."""
    from nodes import NodeFailed
    from run import OFF, OK, told  # type: ignore[attr-defined]
    from screen import Screen
    from watch import StoryFailed

    failed = [NodeFailed("x"), StoryFailed("x"), call_error(Code.FUNCTION_ERROR, "x")]
    bad = [Told(True, False), Told(), *(Told(True, failure=error) for error in failed)]
    with Screen() as screen:
        assert await told(Told(True, True), screen) == OK  # type: ignore[arg-type]
        for story in bad:
            assert await told(story, screen) == OFF  # type: ignore[arg-type]


async def test_a_node_that_does_not_start_shows_its_log(tmp_path: Path) -> None:
    """The reason is in the failure's text, and the node is gone."""
    from nodes import NodeFailed, Nodes

    nodes = Nodes(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(NodeFailed, match="(?s)cloud did not start.*Address already in use"):
            await nodes.start_cloud(port, "127.0.0.1:1")
    process = nodes.running[0].process
    await nodes.stop()
    assert process.returncode == 1
    assert nodes.running == []


def test_help_has_examples() -> None:
    """--help says what it does and how it is called."""
    said = subprocess.run(
        [sys.executable, RUN, "--help"], capture_output=True, text=True, timeout=60
    )
    assert said.returncode == 0
    assert "Examples:" in said.stdout and "--keep" in said.stdout


@contextlib.contextmanager
def performance(tmp_path: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """The demo as a child with its own temporary directory; killed if the test fails."""
    home = tmp_path / "tmp"
    home.mkdir()
    with subprocess.Popen(
        [sys.executable, RUN, "--quick", *options],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(home)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()
    assert list(home.iterdir()) == []


def until(process: subprocess.Popen[str], text: str) -> list[str]:
    """The lines up to one that has `text`."""
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return lines
    raise AssertionError(f"{text!r} was not said:\n{''.join(lines)}")


def family(pid: int) -> list[int]:
    """A process's descendants, whichever of its threads started them."""
    found = []
    with contextlib.suppress(OSError):
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in children.read_text().split():
                found += [int(child), *family(int(child))]
    return found


def still_there(pids: list[int]) -> list[int]:
    """Those that run."""
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_the_whole_story(tmp_path: Path) -> None:
    """In its short form it ends by itself with exit code 0, every check right, and leaves no file."""
    out = tmp_path / "verdict.json"
    with performance(tmp_path, "--json", str(out)) as process:
        said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, said
    verdict = json.loads(out.read_text())
    assert verdict["ok"] and len(verdict["checks"]) == 9
    assert all(check["ok"] for check in verdict["checks"])
    assert verdict["remote"]["all arms"]["p50_ms"] > 20
    moves = [(move["session"], move["to"]) for move in verdict["moves"]]
    assert ("arm-monitor/arm-7", "edge-2") in moves and ("arm-monitor/arm-7", "edge-3") in moves
    assert all(move["pause_ms"] > 0 for move in verdict["moves"])
    assert verdict["proxy"]["frames_up"] > verdict["proxy"]["remote_calls"] > 100
    for act in range(1, 7):
        assert f"\n{act}. " in said


def test_kept_mesh_answers_the_commands_it_prints(tmp_path: Path) -> None:
    """With --keep each printed command works as pasted; Ctrl-C ends everything with exit code 0."""
    with performance(tmp_path, "--keep") as process:
        until(process, "7. The mesh stays up")
        commands = []
        while not commands or "status" not in commands[-1]:
            commands.append(until(process, "$ ")[-1].split("$ ", 1)[1])
        assert len(commands) > 5
        for command in commands:
            ran = subprocess.run(
                shlex.split(command), cwd=ROOT, capture_output=True, text=True, timeout=60
            )
            assert ran.returncode == 0, f"{command}\n{ran.stderr}"
        descendants = family(process.pid)
        assert len(descendants) > 8  # four daemons, their zygotes and containers
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert still_there(descendants) == []


def test_interrupted_at_the_start_it_leaves_nothing(tmp_path: Path) -> None:
    """A signal while nodes are starting ends them: exit code 130, no process, no file."""
    with performance(tmp_path) as process:
        until(process, "edge-1")
        descendants = family(process.pid)
        assert descendants
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 130
        assert still_there(descendants) == []
