"""What the commands of edgectl ask for and show: the whole mesh at a glance, lists, logs, a call that is repeated by hand."""

import json

import pytest
from click.testing import CliRunner, Result
from fake_broker import FakeBroker

from edgectl.cli import main
from edgectl.render import listing
from edged_protocol import messages as m
from edged_protocol.codec import pack


def run(broker: FakeBroker, *words: str) -> Result:
    return CliRunner().invoke(main, ["--node", broker.address, *words])


def a_mesh(broker: FakeBroker) -> None:
    """Two nodes, a pool, a move."""
    rows = [{"name": "n1", "state": "alive", "containers": {"used": 2, "total": 4}, "sessions": 1}]
    broker.replies("mesh.nodes", [*rows, {"name": "n2\x1b[2J", "state": "down", "containers": {}, "sessions": 0}])
    pool = {"room": 4, "busy": 2, "queued": 7, "service_us": 12_500, "rate": 3_200}
    broker.replies("mesh.load", [{"node": "n1", "functions": {"arm": pool}, "sessions": {"local": 1, "active": 9}}])
    move = {"at": "12:00", "node": "n1", "event": "session.localized", "session": "arm-7"}
    broker.script["mesh.events"] = lambda asked: [m.Item(asked.id, move, False), m.Item(asked.id, None, True)]


def test_top_shows_nodes_pools_and_moves(broker: FakeBroker) -> None:
    """One picture in a pipe: slots, queue, service time, calls a second, the last move; no control characters."""
    a_mesh(broker)
    shown = run(broker, "top")
    assert shown.exit_code == 0, shown.output
    for text in ("n1", "2/4", "down", "arm", "12.50", "3.2", "7", "session.localized", "arm-7"):
        assert text in shown.output
    assert "\x1b[2J" not in shown.output


def test_top_in_json_is_one_document(broker: FakeBroker) -> None:
    """For programs: nodes, load and events as they were told."""
    a_mesh(broker)
    document = json.loads(run(broker, "-o", "json", "top").output)
    assert document["load"][0]["functions"]["arm"]["queued"] == 7
    assert [row["name"] for row in document["nodes"]] == ["n1", "n2\x1b[2J"]
    assert document["events"][0]["event"] == "session.localized"


def test_top_survives_what_makes_no_sense(broker: FakeBroker) -> None:
    """A node of another version, or a liar, ends nothing."""
    broker.replies("mesh.nodes", [{"name": 3, "containers": 5}, 7, None])
    broker.replies("mesh.load", [{"node": None, "functions": [1], "sessions": "x"}])
    broker.script["mesh.events"] = lambda asked: [m.Item(asked.id, 5, False), m.Item(asked.id, None, True)]
    assert run(broker, "top", "--once").exit_code == 0


def test_all_pages_of_a_listing_are_fetched(broker: FakeBroker) -> None:
    """Each page begins behind the last row of the one before, until one is empty."""
    rows = [{"function": "f", "session": f"s{n}", "mode": "remote"} for n in range(5)]

    def page(asked: m.Request | m.Invoke) -> list[m.Message]:
        assert isinstance(asked, m.Request)
        after = asked.params.get("after")
        begin = (
            0 if after is None else [[r["function"], r["session"]] for r in rows].index(after) + 1
        )
        return [m.Reply(asked.id, rows[begin : begin + 2])]

    broker.script["session.list"] = page
    shown = run(broker, "sessions", "f").stdout.splitlines()[1:]
    assert [line.split()[1] for line in shown] == ["s0", "s1", "s2", "s3", "s4"]
    assert len(broker.seen) == 4


@pytest.mark.parametrize(("flag", "meta"), [([], None), (["--retry"], {"attempt": 1})])
def test_a_repetition_says_that_it_is_one(
    broker: FakeBroker, flag: list[str], meta: m.Map | None
) -> None:
    """--id alone is a first try; with --retry the mesh is told that one before it may have run."""
    broker.script["call"] = lambda asked: [m.Result(asked.id, pack(1))]
    assert run(broker, "call", "counter/a", "incr", "--id", "ab" * 16, *flag).exit_code == 0
    asked = broker.seen[0]
    assert isinstance(asked, m.Invoke)
    assert (asked.call_id, asked.meta) == (b"\xab" * 16, meta)


@pytest.mark.parametrize(("flag", "exit_code"), [([], 4), (["--retry"], 5)])
def test_a_refused_repetition_does_not_say_that_nothing_ran(
    broker: FakeBroker, flag: list[str], exit_code: int
) -> None:
    """A refusal is true of this try only: the earlier one may have run (SPEC "Retries", 8)."""
    broker.fails("call", 206, "no such method")
    result = run(broker, "call", "counter/a", "incr", "--id", "ab" * 16, *flag)
    assert result.exit_code == exit_code
    assert ("an earlier try may have run" in result.stderr) == bool(flag)


def test_a_node_that_is_missing_is_named_on_stderr(broker: FakeBroker) -> None:
    """Stdout has what came and nothing else, in JSON too; the exit code stays 0."""
    line = {"at": "t", "node": "n1", "container": "c1", "line": "hello"}
    missing = {"node": "n3", "missing": "no answer in 2 s"}
    broker.script["function.logs"] = lambda asked: [
        m.Item(asked.id, line, False),
        m.Item(asked.id, missing, False),
        m.Item(asked.id, None, True),
    ]
    for options in ([], ["-o", "json"]):
        result = run(broker, *options, "logs", "counter")
        assert (result.exit_code, result.stderr) == (0, "n3: no answer in 2 s\n")
        assert json.loads(result.stdout) == [line] if options else result.stdout == "n1/c1  hello\n"


def test_status_is_a_line_per_fact(broker: FakeBroker) -> None:
    """Counts and the store's health read well, and each peer has a line of its own."""
    broker.replies(
        "node.status",
        {
            "name": "n1",
            "sessions": {"local": 2, "remote": 7},
            "peers": [{"name": "n2", "state": "alive"}, {"name": "n3", "state": "alive"}],
            "store": {"ok": False, "state": "failing: the disk is full"},
        },
    )
    assert run(broker, "status").stdout.splitlines() == [
        "name      n1",
        "sessions  local=2 remote=7",
        "peers     name=n2 state=alive",
        "          name=n3 state=alive",
        "store     ok=false state=failing: the disk is full",
    ]


def test_an_object_without_peers_keeps_its_line() -> None:
    """An empty list is shown as nothing rather than not at all."""
    assert listing({"peers": [], "labels": ["a", "b"]}) == "peers   -\nlabels  a,b"
