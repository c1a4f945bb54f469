"""ARCHITECTURE.md shows the states of a session as the table has them."""

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_diagram_is_made_from_the_table() -> None:
    """Whoever changes `core.transition` runs tools/docs/diagram.py."""
    tool = runpy.run_path(str(ROOT / "tools" / "docs" / "diagram.py"))
    text = (ROOT / "ARCHITECTURE.md").read_text()
    assert tool["BEGIN"] in text
    assert tool["placed"](text) == text
