"""A test that runs ahead of its turn counts like any other: what holds passes, what does not hold fails and is told of."""

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]

MARKED = """
import multiprocessing, os
import pytest

pytestmark = pytest.mark.ahead

@pytest.mark.parametrize("n", [1, 2])
def test_cases(n):
    assert n == 1

def test_patched(monkeypatch):
    monkeypatch.setattr(os, "sep", "?")
    assert os.sep == "?"
    assert multiprocessing.parent_process() is not None

def test_left_as_it_was():
    assert os.sep == "/"

def test_not_there():
    assert multiprocessing.parent_process() is None
"""

RESULTS = """
import pytest

pytestmark = pytest.mark.ahead_of(abs, [-1, -2, 3])

def test_sum(results):
    assert list(results) == [1, 2, 3]
"""


def test_what_is_found_ahead_is_told(tmp_path: Path) -> None:
    """Cases, patches and results are those of the other process; a failure shows its values, and one that only happens
    there is a failure too."""
    (tmp_path / "test_marked.py").write_text(MARKED)
    (tmp_path / "test_results.py").write_text(RESULTS)
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "support.ahead", "-p", "no:cacheprovider"]
    env = {**os.environ, "PYTHONPATH": f"{TESTS}:{tmp_path}"}
    ended = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False)
    words = (line.split(" - ")[0].split() for line in ended.stdout.splitlines() if line.startswith(("PASSED", "FAILED")))
    assert {test.rpartition("::")[2]: outcome for outcome, test in words} == {
        "test_cases[1]": "PASSED",
        "test_cases[2]": "FAILED",
        "test_patched": "PASSED",
        "test_left_as_it_was": "PASSED",
        "test_not_there": "FAILED",
        "test_sum": "PASSED",
    }, ended.stdout
    assert "assert 2 == 1" in ended.stdout
    assert "passes here, but in another process" in ended.stdout
