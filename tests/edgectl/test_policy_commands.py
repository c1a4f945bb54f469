"""`edgectl policy` and `session explain`: what they ask, and what of the answer a person reads."""

import json
from typing import Any

import pytest
from click.testing import CliRunner, Result
from fake_broker import FakeBroker

from edgectl.cli import main
from edged_protocol import messages as m

GET = {
    "frozen": True,
    "settings": {"guard": 0.8, "budget": 2},
    "functions": [{"function": "arm", "node": "n1", "policy": "auto", "local": 3, "remote": 9, "rate": 4.5, "local_ms": 1.5, "remote_ms": None}],
    "silent": ["n3"],
    "more": True,
}
EXPLAIN = {
    "functions": [{"function": "arm", "node": "n1", "reason": "3 local sessions are as good as 4"}],
    "moves": [{"at": "t", "node": "n1", "function": "arm", "session": "a", "to": None, "reason": "the pool needs it", "gain_ms_per_s": 2.0, "failed": "103 moving"}],
    "silent": [],
}
POINTS = [{"k": k, "mean_ms": mean, "p99_ms": mean, "pool_busy": 0.2} for k, mean in enumerate([9.0, 7.0, 6.0, None])]
WHAT_IF = {
    "sessions": 3,
    "containers": 4,
    "rate": 2.0,
    "times": {"arm": {"local_ms": 1.0, "remote_ms": 3.0, "store_ms": None, "measured": True}},
    "now": 0,
    "best": 2,
    "planned": 1,
    "cliff": 2,
    "points": POINTS,
}
SESSION = {"function": "arm", "session": "a", "mode": "local", "node": "n1", "rate": 2.5, "why": ["an operator moved it", "and so on"]}


def run(broker: FakeBroker, *words: str) -> Result:
    """edgectl, told where the broker is."""
    result = CliRunner().invoke(main, ["--node", broker.address, *words])
    assert result.exit_code == 0, result.stderr
    return result


@pytest.mark.parametrize(
    ("words", "verb", "params", "answer"),
    [
        (["policy", "get"], "policy.get", {}, GET),
        (["policy", "explain"], "policy.explain", {}, EXPLAIN),
        (["policy", "explain", "arm"], "policy.explain", {"function": "arm"}, EXPLAIN),
        (["policy", "what-if"], "policy.what_if", {}, WHAT_IF),
        (["policy", "what-if", "arm"], "policy.what_if", {"function": "arm"}, WHAT_IF),
        (["policy", "freeze"], "policy.freeze", {}, {"frozen": True, "nodes": ["n1"], "silent": []}),
        (["policy", "thaw"], "policy.thaw", {}, {"frozen": False, "nodes": ["n1"], "silent": []}),
        (["session", "explain", "arm/a/b"], "session.explain", {"function": "arm", "session": "a/b"}, SESSION),
    ],
)
def test_each_command_asks_its_verb(broker: FakeBroker, words: list[str], verb: str, params: m.Map, answer: Any) -> None:
    """The JSON is exactly what the node said."""
    broker.replies(verb, answer)
    assert json.loads(run(broker, "-o", "json", *words).stdout) == answer
    asked = broker.seen[0]
    assert isinstance(asked, m.Request)
    assert (asked.verb, asked.params) == (verb, params)


@pytest.mark.parametrize(
    ("words", "verb", "answer", "read"),
    [
        (["policy", "get"], "policy.get", GET, ["frozen", "true", "auto", "no answer from n3", "more than fits"]),
        (["policy", "explain"], "policy.explain", EXPLAIN, ["arm on n1: 3 local sessions are as good as 4", "the store", "103 moving"]),
        (["policy", "explain"], "policy.explain", {**EXPLAIN, "moves": []}, ["no moves yet"]),
        (["policy", "what-if"], "policy.what_if", WHAT_IF, ["0 sessions are local, 9.0 ms a call is expected; with 2 it would be 6.0 ms; beyond 2", "the policy's aim"]),
        (["policy", "what-if", "--plot"], "policy.what_if", WHAT_IF, ["mean latency, ms", "▼", "●"]),
        (["policy", "what-if"], "policy.what_if", {**WHAT_IF, "now": 3}, ["3 sessions are local: the pool does not keep up"]),
        (["policy", "what-if"], "policy.what_if", {**WHAT_IF, "best": None}, ["with no number of local sessions does the pool keep up"]),
        (["policy", "what-if"], "policy.what_if", {**WHAT_IF, "rate": 0}, ["nothing is called: no number of local sessions is better"]),
        (["policy", "what-if", "--plot"], "policy.what_if", {"points": "none"}, ["no point"]),
        (["session", "explain", "arm/a"], "session.explain", SESSION, ["- an operator moved it", "- and so on"]),
        (["policy", "freeze"], "policy.freeze", {"frozen": True, "nodes": ["n1"], "silent": ["n2"]}, ["no answer from n2"]),
    ],
)
def test_what_a_person_reads(broker: FakeBroker, words: list[str], verb: str, answer: Any, read: list[str]) -> None:
    """The numbers with their meaning; who did not answer; a node that answers nonsense ends nothing."""
    broker.replies(verb, answer)
    told = run(broker, *words).stdout
    assert [part for part in read if part not in told] == []


def test_a_curve_that_never_ends_has_no_cliff(broker: FakeBroker) -> None:
    """When every session could be local, nothing is said of what is beyond."""
    broker.replies("policy.what_if", {**WHAT_IF, "cliff": 2, "points": POINTS[:3]})
    told = run(broker, "policy", "what-if").stdout
    assert "with 2 it would be 6.0 ms" in told
    assert "beyond" not in told


def test_where_it_stands_is_drawn_however_far_from_the_best(broker: FakeBroker) -> None:
    """One number of local sessions is far better than all others: these, and the present one, are seen all the same."""
    means = [50.0, 49.0, 48.0, 47.0, 1.0]
    broker.replies("policy.what_if", {**WHAT_IF, "best": 4, "points": [{"k": k, "mean_ms": mean} for k, mean in enumerate(means)]})
    lines = run(broker, "policy", "what-if", "--plot").stdout.splitlines()
    assert next(line for line in lines if "●" in line).split("┤")[1].startswith("●")
    assert next(line for line in lines if "▼" in line).endswith("▼")


def test_a_plot_leaves_the_document_alone(broker: FakeBroker) -> None:
    """With -o json the curve goes to stderr."""
    broker.replies("policy.what_if", WHAT_IF)
    result = run(broker, "-o", "json", "policy", "what-if", "--plot")
    assert json.loads(result.stdout) == WHAT_IF
    assert "▼" in result.stderr
