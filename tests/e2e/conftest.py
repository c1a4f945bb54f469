"""Real daemons that end with the test, and what they logged beside the failure of one."""

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from support.attacked import Node
from support.nodes import Nodes

TOLD = 4000
"""Characters of each log that a failed test shows: its last words."""


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    running = Nodes(tmp_path)
    yield running
    running.close()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """One with counter and echo, for all tests of a module."""
    node = Node(tmp_path_factory.mktemp("hostile"))
    yield node
    node.stop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure that comes once in a thousand runs has to be understood from the one that was seen."""
    report = yield
    root = getattr(item, "funcargs", {}).get("tmp_path")
    if report.failed and root is not None:
        for log in sorted(Path(root).glob("*.log")):
            report.sections.append((f"log of {log.stem}", log.read_text(errors="replace")[-TOLD:]))
    return report
