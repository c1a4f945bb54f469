"""edgectl as somebody new meets it: interrupted, mistyped, on a terminal and in a pipe."""

import contextlib
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from fake_broker import FakeBroker

from edgectl import upload
from edgectl.cli import main
from edgectl.hints import suggestion
from edgectl.render import listing
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
from edged_protocol.codec import pack

PROGRAM = [sys.executable, "-m", "edgectl.cli"]
PATIENCE = 60.0


def run(broker: FakeBroker, *words: str) -> Result:
    return CliRunner().invoke(main, ["--node", broker.address, *words])


# The whole mesh at a glance


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


# Sessions, page by page


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


# Names that are not there


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


# Repeated by hand


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


# Interrupted


@contextlib.contextmanager
def started(*words: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*PROGRAM, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        yield process
        process.kill()


def test_ctrl_c_ends_followed_logs_well(broker: FakeBroker) -> None:
    """A real SIGINT while lines are awaited: exit 0, every line shown, no word on stderr."""
    item = {"node": "n1", "container": "c1", "line": "hello"}
    broker.script["function.logs"] = lambda asked: [m.Item(asked.id, item, False)]
    with started("--node", broker.address, "logs", "-f", "counter") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "n1/c1  hello\n"
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, rest, errors) == (0, "", "")


def test_ctrl_c_is_exit_130_where_an_answer_was_wanted(broker: FakeBroker) -> None:
    """A real SIGINT while a call is under way: no traceback, and a code a script can tell from a failure."""
    asked = threading.Event()

    def say_nothing(_: m.Request | m.Invoke) -> list[m.Message]:
        asked.set()
        return [m.Ping(1)]

    broker.script["call"] = say_nothing
    with started("--node", broker.address, "call", "counter/s") as process:
        assert asked.wait(PATIENCE)
        process.send_signal(signal.SIGINT)
        said, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, said) == (130, "")
    assert errors.strip() == "interrupted"


# Logs of the whole mesh


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


# The upload's progress


@pytest.fixture
def bundle(broker: FakeBroker, tmp_path: Path) -> Path:
    """A function of several pieces, and a broker that takes it."""
    (tmp_path / "function.toml").write_text('[function]\nname = "f"\nentry = "f:fn"\n')
    (tmp_path / "f.bin").write_bytes(os.urandom(3 * upload.CHUNK))
    got = 0

    def take(asked: m.Request | m.Invoke) -> list[m.Message]:
        nonlocal got
        assert isinstance(asked, m.Request)
        got += len(asked.blob or b"")
        return [m.Reply(asked.id, {"have": got})]

    broker.script["function.upload"] = take
    broker.replies("function.deploy", {"name": "f"})
    return tmp_path


def test_deploying_tells_what_a_manifest_asks_for_in_vain(broker: FakeBroker, bundle: Path) -> None:
    """Each warning of the node is a line on stderr; the document on stdout has them too."""
    broker.replies("function.deploy", {"name": "f", "warnings": ["[limits] cpu is not enforced"]})
    command = [*PROGRAM, "--node", broker.address, "-o", "json", "deploy", str(bundle)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert ended.stderr == "warning: [limits] cpu is not enforced\n"
    assert json.loads(ended.stdout)["warnings"] == ["[limits] cpu is not enforced"]


def test_an_upload_shows_its_progress_on_a_terminal(broker: FakeBroker, bundle: Path) -> None:
    """Percentages up to 100 on stderr if that is a terminal; stdout has the result alone."""
    ours, theirs = pty.openpty()
    command = [*PROGRAM, "--node", broker.address, "deploy", str(bundle)]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=theirs, env=environment
    ) as process:
        os.close(theirs)
        shown = read_all(ours)
        said, _ = process.communicate(timeout=PATIENCE)
    assert (process.returncode, said) == (0, b"name  f\n")
    percents = [int(number) for number in re.findall(rb"(\d+)%", shown)]
    assert b"upload" in shown
    assert percents == sorted(percents)
    assert percents[-1] == 100
    assert len(set(percents)) > 2


def read_all(fd: int) -> bytes:
    """What a terminal shows until its other end is closed."""
    data, deadline = b"", time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if select.select([fd], [], [], 1)[0]:
            try:
                more = os.read(fd, 4096)
            except OSError:  # as Linux says it of a terminal whose programs have ended
                break
            if not more:
                break
            data += more
    os.close(fd)
    return data


def test_an_upload_into_a_pipe_shows_nothing(broker: FakeBroker, bundle: Path) -> None:
    """Without a terminal stderr stays empty."""
    command = [*PROGRAM, "--node", broker.address, "deploy", str(bundle)]
    done = subprocess.run(command, capture_output=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"name  f\n", b"")


# What is shown


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


# Help


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
