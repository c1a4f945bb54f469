"""Real daemons that end with the test."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.nodes import Nodes


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    running = Nodes(tmp_path)
    yield running
    running.close()
