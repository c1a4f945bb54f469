"""The policy's bench: what counts as missed, and what is left of a scenario in which nothing changes."""

import sys
from pathlib import Path

import pytest

from edged.lab.scenario import load_scenario

SCENARIOS = sorted((Path(__file__).parents[2] / "configs" / "scenarios").glob("*.toml"))


@pytest.mark.parametrize(("good", "code"), [(True, 0), (False, 1)])
def test_a_row_that_misses_is_the_exit_code(bench: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], good: bool, code: int) -> None:
    """Whatever is not as claimed is marked, counted at the end, and what the program ends with."""
    import policy

    monkeypatch.setattr(policy, "TABLES", {1: lambda runs, scale, verdict: print(f"a row{verdict(True, good)}")})
    monkeypatch.setattr(sys, "argv", ["policy.py"])
    assert policy.main() == code
    said = capsys.readouterr().out
    assert ("MISSED" in said, "1 rows are not as claimed" in said) == (not good, not good)


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_still_is_still(bench: None, path: Path) -> None:
    """Of every scenario clients are left that call all the time and change nothing but by chance."""
    from policy import still

    left = still(load_scenario(path), 2.0)
    assert left.clients
    assert all(group.since == 0 and not (group.roams or group.local_share) for group in left.clients)
    assert (left.failures, left.duration) == ((), 7200.0)
