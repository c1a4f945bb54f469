"""edgectl and edged told something wrong, or asked for help: the nearest name, what was wrong, an example."""

import re
import socket
from typing import Any

import pytest
from click.testing import CliRunner, Result
from fake_broker import FakeBroker

from edgectl.cli import main
from edgectl.hints import suggestion
from edgectl.rows import (
    COMMANDS,
    CONFLICT_COMMANDS,
    DEAD_COMMANDS,
    NODE_COMMANDS,
    POLICY_COMMANDS,
    SESSION_COMMANDS,
)
from edged.cli import main as edged
from edged_protocol import messages as m


def run(broker: FakeBroker, *words: str) -> Result:
    return CliRunner().invoke(main, ["--node", broker.address, *words])


@pytest.mark.parametrize(
    ("words", "asks", "code", "meta"),
    [
        (["call", "countr/s"], "call", 204, None),
        (["remove", "countr"], "function.remove", 204, None),
        (["logs", "countr"], "function.logs", 204, None),
        (["sessions", "countr"], "session.list", 204, None),
        (["session", "get", "countr/s"], "session.get", 204, None),
        (["session", "localize", "countr/s"], "session.localize", 204, None),
    ],
)
def test_an_unknown_function_is_exit_3_with_the_nearest_name(
    broker: FakeBroker, words: list[str], asks: str, code: int, meta: m.Map | None
) -> None:
    """Whatever the command, the name that was probably meant stands behind the error."""
    broker.fails(asks, code, "no such thing", meta)
    broker.replies("function.list", [{"name": "echo"}, {"name": "counter"}])
    result = run(broker, *words)
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.splitlines() == [
        "204 no_such_function: no such thing",
        "did you mean counter?",
    ]


def test_an_unknown_session_is_exit_3_with_the_nearest_key(broker: FakeBroker) -> None:
    """Among the sessions of its function, and only after the failure."""
    broker.fails("session.get", 201, "no session", {"not_found": True})
    broker.replies("session.list", [{"function": "counter", "session": "kitchen"}])
    result = run(broker, "session", "get", "counter/kitchn")
    assert result.exit_code == 3
    assert result.stderr.splitlines()[-1] == "did you mean kitchen?"
    asked = broker.seen[-1]
    assert isinstance(asked, m.Request)
    assert asked.params == {"function": "counter"}


def test_a_hint_never_replaces_the_error(broker: FakeBroker) -> None:
    """A node that cannot say what it has costs the hint and nothing else."""
    broker.fails("call", 204, "no such thing")
    broker.fails("function.list", 500, "broken")
    result = run(broker, "call", "countr")
    assert (result.exit_code, result.stderr) == (3, "204 no_such_function: no such thing\n")


@pytest.mark.parametrize(
    ("there", "said"),
    [
        ([], "there are no functions"),
        (["echo", "counter"], "did you mean counter?"),
        (["a", "b"], "there are functions: a, b"),
        (["a", "b", "c", "d"], "there are functions: a, b, c, ..."),
    ],
)
def test_what_is_suggested(there: list[str], said: str) -> None:
    """Similar names, else the first of those that are there."""
    assert suggestion("countr", there, "functions") == said


@pytest.mark.parametrize("given", ["nan", "-1", "0", "inf", "soon"])
def test_a_time_that_is_none_is_a_wrong_argument(given: str) -> None:
    """Exit 2, with what was typed and nothing of how negative arguments are told from options."""
    result = CliRunner().invoke(main, ["call", "counter/a", "incr", "--timeout", given])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--timeout" in result.stderr
    assert "\0" not in result.stderr and "x00" not in result.stderr


def test_nobody_there_says_how_to_name_a_node() -> None:
    """Exit 6, the address that was tried and what else could be given."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    result = CliRunner().invoke(main, ["--node", address, "status"])
    assert result.exit_code == 6
    assert address in result.stderr
    assert "--node" in result.stderr
    assert "EDGED_NODE" in result.stderr


def pages() -> list[tuple[Any, list[str], str]]:
    """Every help page of both programs: program, words, what its example must contain."""
    tools = [(main, [*group, row.name]) for group, rows in ROWS for row in rows]
    daemons = [(edged, words) for words in (["run"], ["check"], ["dev"], ["plan", "latency"], ["plan", "provision"])]
    named = [(program, words, " ".join(words)) for program, words in [*tools, *daemons]]
    return [(main, [], ""), (main, ["session"], "session"), (main, ["policy"], "policy"), (edged, ["plan"], "plan"), (edged, [], ""), *named]


ROWS: list[tuple[list[str], Any]] = [
    ([], COMMANDS), (["session"], SESSION_COMMANDS), (["session"], CONFLICT_COMMANDS),
    (["node"], NODE_COMMANDS), (["dead"], DEAD_COMMANDS), (["policy"], POLICY_COMMANDS),
]


@pytest.mark.parametrize(("program", "words", "name"), pages(), ids=lambda v: str(v)[:30])
def test_every_help_page_has_an_example(program: Any, words: list[str], name: str) -> None:
    """-h and --help say what it does and show a whole command line that could be typed."""
    result = CliRunner().invoke(program, [*words, "--help"])
    assert result.exit_code == 0
    tool = "edgectl" if program is main else "edged"
    assert re.search(rf"Examples?: {tool} .*{name}", " ".join(result.stdout.split()))
    assert "..." not in re.sub(r"\[[A-Z]+\]\.\.\.", "", result.stdout)
    assert CliRunner().invoke(program, [*words, "-h"]).stdout == result.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run"], "--config"),
        (["run", "--config"], "requires an argument"),
        (["check"], "FILE"),
        (["dev", "--nodes", "0"], "1<=x<=64"),
        (["dev", "--nodes", "x"], "not a valid integer"),
        (["dev", "--containers", "-1"], "0<=x<=4096"),
        (["stop"], "No such command"),
        (["run", "--confg", "x"], "--config"),
    ],
)
def test_a_wrong_argument_of_the_daemon_is_exit_2(words: list[str], said: str) -> None:
    """What is wrong is said on stderr, and nothing is started."""
    result = CliRunner().invoke(edged, words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
