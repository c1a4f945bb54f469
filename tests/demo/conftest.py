"""The demo's modules, as its own interpreter has them."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[2] / "tools" / "demo"


@pytest.fixture(autouse=True)
def demo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The programs' directory is importable, and forgotten after the test."""
    monkeypatch.syspath_prepend(str(DEMO))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if str(DEMO) in (getattr(sys.modules[name], "__file__", None) or ""):
            del sys.modules[name]
