"""`edged plan` as an operator types it: the documents, the figures, and what is refused."""

import csv
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from edged.cli import main


def plan(*words: str) -> Result:
    """One run."""
    return CliRunner().invoke(main, ["plan", *words])


def document(*words: str) -> Any:
    """Its one JSON document."""
    done = plan(*words, "-o", "json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_latency_as_csv() -> None:
    """The columns others rely on, a row for each k, numbers that any program reads."""
    done = plan("latency", "--clients", "70", "-o", "csv")
    rows = list(csv.DictReader(done.stdout.splitlines()))
    assert (done.exit_code, done.stderr) == (0, "")
    assert list(rows[0]) == ["k", "mean", "p95", "p99", "stable"]
    assert [int(row["k"]) for row in rows] == list(range(41))
    assert [row["stable"] for row in rows] == ["true"] * 32 + ["false"] * 9
    assert min(rows, key=lambda row: float(row["mean"]))["k"] == "25"
    assert f"{float(rows[25]['mean']):.4f}" == "2.3586"


def test_latency_as_json() -> None:
    """The same with the best k and the last stable one; no number that JSON does not have."""
    said = document("latency", "--clients", "70")
    assert (said["best"], said["cliff"], len(said["points"])) == (25, 31, 41)
    assert said["points"][40] == {"k": 40, "mean": None, "p95": None, "p99": None, "stable": False}


def test_several_curves_at_once() -> None:
    """A list of documents; in csv a first column tells which curve a row is of."""
    assert [one["best"] for one in document("latency", "--clients", "50,70,90,110")] == [33, 25, 18, 11]
    rows = list(csv.DictReader(plan("latency", "--clients", "50,70", "-o", "csv").stdout.splitlines()))
    assert {row["clients"] for row in rows} == {"50", "70"}


def test_the_table_shows_what_matters() -> None:
    """The minimum and the cliff are named, also of a curve far too long to be shown whole."""
    for words in (["70"], ["7000", "--containers", "4000"]):
        done = plan("latency", "--clients", *words)
        lines = done.stdout.splitlines()
        assert sum("least latency" in line for line in lines) == 1
        assert sum("last that is stable" in line for line in lines) == 1
        assert len(lines) < 80


def test_unstable_everywhere() -> None:
    """Still an answer, with the reason in numbers on stderr."""
    done = plan("latency", "--clients", "1000", "-o", "json")
    said = json.loads(done.stdout)
    assert (done.exit_code, said["best"], said["cliff"]) == (0, None, None)
    assert "keep 225 containers busy, and there are 40" in done.stderr


def test_provision() -> None:
    """The paper's answers; null where there is none, with a word about it."""
    said = document("provision", "--clients", "10", "--local-share", "0.2")
    assert (said["containers"], said["cap"], round(said["violation"], 4)) == (7, 6, 0.0071)
    none = plan("provision", "--clients", "5", "--local-share", "0.4", "-o", "json")
    assert json.loads(none.stdout) == {"containers": None, "cap": None, "violation": None}
    assert "one container for each client is not enough" in none.stderr
    many = document("provision", "--clients", "50,98", "--local-share", "0.2,0.3,0.4")
    assert [one["containers"] for one in many] == [26, 46, 30, 54, 34, 63]
    rows = list(csv.DictReader(plan("provision", "--clients", "5,10", "--local-share", "0.4,0.2", "-o", "csv").stdout.splitlines()))
    assert [(row["clients"], row["local_share"], row["containers"], row["cap"]) for row in rows] == [
        ("5", "0.4", "", ""),
        ("10", "0.4", "10", "10"),
        ("5", "0.2", "5", "5"),
        ("10", "0.2", "7", "6"),
    ]


@pytest.mark.parametrize(
    "words",
    [
        ["latency", "--clients", "0"],
        ["latency", "--clients", "-3"],
        ["latency", "--clients", "9" * 30],
        ["latency", "--clients", "7,x"],
        ["latency"],
        ["latency", "--clients", "7", "--rate", "0"],
        ["latency", "--clients", "7", "--rate", "-1"],
        ["latency", "--clients", "7", "--local", "nan"],
        ["latency", "--clients", "7", "--remote", "inf"],
        ["latency", "--clients", "7", "--remote", "1e300"],
        ["latency", "--clients", "7", "--containers", "1000000"],
        ["latency", "--clients", "7", "--store", "-1"],
        ["provision", "--clients", "7", "--local-share", "0"],
        ["provision", "--clients", "7", "--local-share", "1.5"],
        ["provision", "--clients", "7", "--local-share", "0.2", "--epsilon", "0"],
        ["provision", "--clients", "7"],
    ],
)
def test_what_makes_no_sense_is_refused(words: list[str]) -> None:
    """Exit 2, the option's name, and nothing on stdout."""
    done = plan(*words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "--" in done.stderr


@pytest.mark.parametrize("words", [["1", "--rate", "1e-6", "--local", "1e-6"], ["10000", "--containers", "10000", "--rate", "1e6", "--remote", "1e6"]])
def test_extreme_numbers_have_an_answer(words: list[str]) -> None:
    """The ends of what is allowed: a document, no traceback."""
    said = document("latency", "--clients", *words)
    assert said["points"]


@pytest.mark.parametrize("words", [["latency", "--clients", "50,70"], ["provision", "--clients", "30", "--local-share", "0.2,0.4"]])
def test_figures(words: list[str], tmp_path: Path) -> None:
    """A picture in a file, one in the terminal; the document on stdout stays one."""
    file = tmp_path / "figure.png"
    done = plan(*words, "-o", "json", "--plot", "--png", str(file))
    assert done.exit_code == 0, done.output
    assert file.read_bytes().startswith(b"\x89PNG")
    assert json.loads(done.stdout)
    assert "└────" in done.stderr


def test_a_figure_that_cannot_be_written(tmp_path: Path) -> None:
    """Exit 1 with the file's name and the reason."""
    done = plan("latency", "--clients", "5", "--png", str(tmp_path / "none" / "figure.png"))
    assert done.exit_code == 1
    assert "No such file or directory" in done.stderr


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It says what to install; all else works without."""
    monkeypatch.delitem(sys.modules, "edged.plan_figures", raising=False)
    monkeypatch.delattr("edged.plan_figures", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    done = plan("latency", "--clients", "5", "--png", str(tmp_path / "figure.png"))
    assert done.exit_code == 1
    assert "pip install 'edged[plot]'" in done.stderr


@pytest.mark.parametrize("words", [[], ["latency"], ["provision"]])
def test_help_has_examples(words: list[str]) -> None:
    """Each command says what it answers and how it is typed."""
    done = plan(*words, "--help")
    assert done.exit_code == 0
    assert not words or f"edged plan {words[0]} --clients" in done.stdout
