"""Scenario files: the ready ones play, wrong ones are told with their lines; `edged sim`."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from edged.cli import main
from edged.core.schema import Mistakes
from edged.lab.mesh import DYNAMIC, play
from edged.lab.scenario import load_scenario, parse_scenario

SCENARIOS = sorted((Path(__file__).parents[2] / "configs" / "scenarios").glob("*.toml"))
SHORT = """
[scenario]
duration = "60s"
static = [4]
[function.f]
local = "10ms"
remote = "30ms"
[clients.c]
function = "f"
count = 8
rate = 1.0
"""


def test_all_the_ready_scenarios_are_there() -> None:
    """The paper's two experiments and its two use cases, a flash crowd, the loss of a node, mobility."""
    names = {"paper-latency", "paper-provision", "smart-vehicles", "smart-factory", "flash-crowd", "node-loss", "mobility"}
    assert names <= {path.stem for path in SCENARIOS}


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_each_plays(path: Path) -> None:
    """A shortened run with the policy answers its calls, gives none up, and moves no session twice within a dwell time."""
    scenario = load_scenario(path)
    rate = sum(group.count * group.rate for group in scenario.clients)
    seconds = min(scenario.duration, 2500 / rate)
    short = replace(scenario, duration=seconds, warmup=0.0, failures=tuple(f for f in scenario.failures if f.at < seconds))
    result = play(short, DYNAMIC)
    assert result.latency["all"].calls > 500
    assert (result.refused, result.stable) == (0, True)
    assert result.rounds <= 1


@pytest.mark.parametrize(
    ("change", "line", "words"),
    [
        (("count = 8", "cuont = 8"), 10, "unknown key clients.c.cuont (did you mean count?)"),
        (('function = "f"', 'function = "g"'), 9, "clients.c.function: one of f was expected, not 'g'"),
        (('duration = "60s"', "duration = 0"), 3, "a time above 0 was expected"),
        (("[function.f]", "[functoin.f]"), 5, "unknown section [functoin]"),
        (("rate = 1.0", 'rate = 1.0\narrivals = "trace"'), 8, 'clients.c.trace: goes with arrivals = "trace"'),
        (("rate = 1.0", 'rate = 1.0\nnodes = ["n9"]'), 12, "clients.c.nodes: there are 4 nodes"),
        (("rate = 1.0", 'rate = 1.0\narrivals = "poison"'), 12, "did you mean poisson?"),
        (("[clients.c]", "[mesh]\ncontainers = [1, 2]\n[clients.c]"), 9, "one for each of 4 nodes"),
        (("[clients.c]", '[failure.x]\nnode = "four"\nat = 1\nlasts = 1\n[clients.c]'), 9, "a node's name"),
    ],
)
def test_mistakes_are_told_with_their_lines(change: tuple[str, str], line: int, words: str) -> None:
    """Whatever is wrong is told at its line, with the nearest right name."""
    with pytest.raises(Mistakes) as caught:
        parse_scenario(SHORT.replace(*change), "short", Path(), "short.toml")
    assert any(row[0] == line and words in row[1] for row in caught.value.rows), caught.value.rows


def test_a_trace_that_is_wrong_is_told(tmp_path: Path) -> None:
    """A file that is not there or not a trace is a mistake of the scenario."""
    text = SHORT.replace("rate = 1.0", 'rate = 1.0\narrivals = "trace"\ntrace = "t.csv"')
    for content, words in ((None, "No such file"), ("1,0\nx", "line 2"), ("2,0\n1,0", "times rise"), ("1,8", "from 0 to 7")):
        if content is not None:
            (tmp_path / "t.csv").write_text(content)
        with pytest.raises(Mistakes, match=words):
            parse_scenario(text, "short", tmp_path)


def test_sim_prints_one_document(tmp_path: Path) -> None:
    """`-o json` gives one document with every run, the same for the same seed; without it a table and a curve."""
    file = tmp_path / "short.toml"
    file.write_text(SHORT)
    runs = [CliRunner().invoke(main, ["sim", str(file), "--seed", "3", "-o", "json"]) for _ in range(2)]
    assert [run.exit_code for run in runs] == [0, 0]
    assert runs[0].stdout == runs[1].stdout
    document = json.loads(runs[0].stdout)
    assert (document["scenario"], document["seed"], document["seconds"]) == ("short", 3, 60.0)
    assert [run["name"] for run in document["runs"]] == ["all remote", "4 local", "dynamic"]
    assert all(run["latency"]["all"]["calls"] > 300 for run in document["runs"])
    table = CliRunner().invoke(main, ["sim", str(file)])
    assert table.exit_code == 0
    assert "dynamic" in table.stdout
    assert "mean latency, s" in table.stdout


def test_sim_tells_mistakes_and_fails(tmp_path: Path) -> None:
    """A wrong file ends with 1 and its lines on stderr, as does one that is not there."""
    file = tmp_path / "wrong.toml"
    file.write_text(SHORT.replace("count", "cuont"))
    wrong = CliRunner().invoke(main, ["sim", str(file)])
    assert (wrong.exit_code, wrong.stdout) == (1, "")
    assert f"{file}:10: unknown key clients.c.cuont" in wrong.stderr
    assert CliRunner().invoke(main, ["sim", str(tmp_path / "none.toml")]).exit_code == 1
