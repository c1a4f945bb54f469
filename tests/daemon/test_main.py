"""The process around a node: what an end with an error looks like to whoever started it."""

import types
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from edged.config import parse_config
from edged.daemon import main
from edged.daemon.claiming import NameTaken

Fails = Callable[[Exception, bool], list[str]]


@pytest.fixture
def fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Fails:
    """Run a node that ends with `error`, before or after it served; what its log says."""

    def run(error: Exception, served: bool) -> list[str]:
        async def live(task_status: trio.TaskStatus[None]) -> None:
            if served:
                task_status.started()
            raise error

        config = parse_config("")
        node = types.SimpleNamespace(run=live, name="one", address="", admin="", http="", config=config)
        monkeypatch.setattr(main, "Node", lambda *_: node)
        with (tmp_path / "log").open("w+b") as file:
            monkeypatch.setattr(main, "STDERR", file.fileno())
            assert main.run_node(config) == 1
        text = (tmp_path / "log").read_text()
        return [line for line in text.splitlines() if " serves " not in line]

    return run


def test_what_is_wrong_with_the_machine_is_one_line(fails: Fails) -> None:
    """Before it serves, an error of the system or of the store says what to mend, and no more."""
    (line,) = fails(OSError(28, "No space left on device", "/data"), False)
    assert line.endswith("ERROR edged.daemon.main: [Errno 28] No space left on device: '/data'")


def test_the_same_error_of_a_node_that_served_says_where(fails: Fails) -> None:
    """Later on it is a defect: the log has its traceback."""
    first, *more = fails(OSError(28, "No space left on device"), True)
    assert "ERROR edged.daemon.main: [Errno 28]" in first
    assert any(f"{__file__}:" in line and " in " in line for line in more)


@pytest.mark.parametrize("served", [False, True])
def test_a_defect_is_exit_1_and_a_traceback(fails: Fails, served: bool) -> None:
    """An error nobody thought of is critical and told in full, in the log and not around it."""
    first, *more = fails(RuntimeError("nobody thought of it"), served)
    assert first.endswith("CRITICAL edged.daemon.main: a defect ended the node")
    assert any("RuntimeError: nobody thought of it" in line for line in more)
    assert any(f"{__file__}:" in line for line in more)


def test_a_name_that_is_taken_is_one_line(fails: Fails) -> None:
    """Also of a node that has served, since its store was away when it started: it is no defect."""
    for served in (False, True):
        (line,) = fails(NameTaken("another node is called one"), served)
        assert line.endswith("ERROR edged.daemon.main: another node is called one")
