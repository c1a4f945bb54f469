"""Ctrl-C, as a person presses it: an end where it was waited for, a failure where an answer was wanted."""

import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

from fake_broker import FakeBroker

from edged_protocol import messages as m

PROGRAM = [sys.executable, "-m", "edgectl.cli"]
PATIENCE = 60.0


@contextlib.contextmanager
def started(*words: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*PROGRAM, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        yield process
        process.kill()


def test_ctrl_c_ends_followed_logs_well(broker: FakeBroker) -> None:
    """A real SIGINT while lines are awaited: exit 0, every line shown, no word on stderr."""
    item = {"node": "n1", "container": "c1", "line": "hello"}
    broker.script["function.logs"] = lambda asked: [m.Item(asked.id, item, False)]
    with started("--node", broker.address, "logs", "-f", "counter") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "n1/c1  hello\n"
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, rest, errors) == (0, "", "")


def test_ctrl_c_is_exit_130_where_an_answer_was_wanted(broker: FakeBroker) -> None:
    """A real SIGINT while a call is under way: no traceback, and a code a script can tell from a failure."""
    asked = threading.Event()

    def say_nothing(_: m.Request | m.Invoke) -> list[m.Message]:
        asked.set()
        return [m.Ping(1)]

    broker.script["call"] = say_nothing
    with started("--node", broker.address, "call", "counter/s") as process:
        assert asked.wait(PATIENCE)
        process.send_signal(signal.SIGINT)
        said, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, said) == (130, "")
    assert errors.strip() == "interrupted"
