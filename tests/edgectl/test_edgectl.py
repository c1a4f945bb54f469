"""edgectl against a scripted broker: what it asks, what it prints, how it ends."""

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from fake_broker import FakeBroker

from edgectl import upload
from edgectl.addresses import Target, targets
from edgectl.cli import main
from edgectl.progress import bar
from edgectl.render import table, to_json
from edgectl.rows import COMMANDS, DEAD_COMMANDS, SESSION_COMMANDS
from edged_protocol import messages as m
from edged_protocol.bundle import bundle_hash, pack_directory
from edged_protocol.codec import pack, unpack

Run = Callable[..., Result]
SESSION = {
    "function": "counter",
    "session": "a/b",
    "mode": "local",
    "node": "n1",
    "epoch": 3,
    "version": 9,
}


@pytest.fixture
def run(broker: FakeBroker) -> Run:
    """edgectl, told where the broker is."""
    return lambda *words: CliRunner().invoke(main, ["--node", broker.address, *words])


def document(result: Result) -> Any:
    """Stdout as the one JSON document it must be."""
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize(
    ("words", "verb", "params", "answer"),
    [
        (["status"], "node.status", {}, {"name": "n1", "peers": []}),
        (["nodes"], "mesh.nodes", {}, [{"name": "n1", "containers": {"used": 1, "total": 4}}]),
        (["functions"], "function.list", {}, [{"name": "counter", "nodes": ["n1", "n2"]}]),
        (["sessions"], "session.list", {}, [SESSION]),
        (["sessions", "counter"], "session.list", {"function": "counter"}, []),
    ],
)
def test_listings_are_the_nodes_answer(
    broker: FakeBroker, run: Run, words: list[str], verb: str, params: m.Map, answer: Any
) -> None:
    """A reading command sends its verb as an operator, and its JSON is exactly what the node said."""
    broker.replies(verb, answer)
    assert document(run("-o", "json", *words)) == answer
    asked = broker.seen[0]
    assert isinstance(asked, m.Request)
    assert (asked.verb, asked.params) == (verb, params)
    assert broker.hello[0]["role"] == "operator"


@pytest.mark.parametrize("move", ["get", "localize", "externalize", "migrate"])
def test_session_commands_name_function_and_key(broker: FakeBroker, run: Run, move: str) -> None:
    """Only the first slash separates, and --to travels with the moves that know it."""
    broker.replies(f"session.{move}", SESSION)
    to = ["--to", "n2"] if move in ("localize", "migrate") else []
    assert document(run("-o", "json", "session", move, "counter/a/b", *to)) == SESSION
    asked = broker.seen[0]
    assert isinstance(asked, m.Request)
    expected = {"function": "counter", "session": "a/b", **({"to": "n2"} if to else {})}
    assert asked.params == expected


def test_a_call_carries_what_was_typed(broker: FakeBroker, run: Run) -> None:
    """JSON words become values, all others strings; method, id, mode and time travel too."""
    meta = {"node": "n1", "mode": "local", "epoch": 3, "version": 9, "run_us": 40}
    broker.script["call"] = lambda asked: [m.Result(asked.id, pack({"raw": b"\x01\xff"}), meta)]
    options = ["--prefer", "local", "--id", "ab" * 16, "--timeout", "5"]
    words = ["call", "counter/a/b", "incr", "-1", "-2.5", '{"k": [1]}', "kitchen", "NaN", "null"]
    said = document(run("-o", "json", *words, *options))
    assert said == {
        "result": {"raw": "01ff"},
        "node": "n1",
        "mode": "local",
        "epoch": 3,
        "version": 9,
        "timings": {"queue_us": None, "run_us": 40, "state_us": None},
    }
    asked = broker.seen[0]
    assert isinstance(asked, m.Invoke)
    assert (asked.function, asked.session, asked.method) == ("counter", "a/b", "incr")
    assert unpack(asked.body) == [-1, -2.5, {"k": [1]}, "kitchen", "NaN", None]
    assert asked.call_id == b"\xab" * 16
    assert asked.meta == {"prefer": "local"}
    assert 0 < asked.timeout_ms <= 5000


def test_a_call_without_session_has_no_call_id(broker: FakeBroker, run: Run) -> None:
    """Nothing remembers a stateless call, so it carries no id and asks for the default method."""
    broker.script["call"] = lambda asked: [m.Result(asked.id, pack(7))]
    result = run("call", "echo")
    assert (result.exit_code, result.stdout) == (0, "7\n")
    asked = broker.seen[0]
    assert isinstance(asked, m.Invoke)
    assert (asked.session, asked.call_id, asked.method) == (None, None, "")


def test_what_was_not_run_is_repeated_under_the_same_id(broker: FakeBroker, run: Run) -> None:
    """A 1xx inside the time is no failure: the call is repeated under its id, as a first attempt."""

    def moving_once(asked: m.Request | m.Invoke) -> list[m.Message]:
        if len(broker.seen) == 1:
            return [m.Error(asked.id, 103, "moving", {"retry_after_ms": 1})]
        return [m.Result(asked.id, pack(1))]

    broker.script["call"] = moving_once
    assert run("call", "counter/a", "incr").exit_code == 0
    first, second = broker.seen
    assert isinstance(first, m.Invoke)
    assert isinstance(second, m.Invoke)
    assert first.call_id == second.call_id is not None
    assert (first.meta, second.meta) == (None, None)


@pytest.mark.parametrize(
    ("code", "meta", "exit_code"),
    [
        (101, None, 4),
        (106, None, 4),
        (201, None, 4),
        (201, {"not_found": True}, 3),
        (204, None, 3),
        (206, None, 4),
        (301, {"traceback": "line one\nline two"}, 1),
        (302, None, 1),
        (401, None, 5),
        (404, None, 5),
        (500, None, 1),
        (777, None, 1),
    ],
)
def test_exit_codes_follow_the_outcome(
    broker: FakeBroker, run: Run, code: int, meta: m.Map | None, exit_code: int
) -> None:
    """The exit code says what is known of the effect; stdout stays empty, stderr says why."""
    broker.fails("call", code, "because", meta)
    result = run("-o", "json", "call", "counter/a", "--timeout", "0.02")
    assert (result.exit_code, result.stdout) == (exit_code, "")
    assert f"{code} " in result.stderr
    assert "because" in result.stderr
    assert ("line two" in result.stderr) == (code == 301)


def test_an_unknown_outcome_says_how_to_repeat_it(broker: FakeBroker, run: Run) -> None:
    """A node lost in the middle of a session's call is exit 5, with the id that makes a retry safe."""
    broker.script["call"] = lambda asked: []
    result = run("call", "counter/a", "incr")
    assert result.exit_code == 5
    asked = broker.seen[0]
    assert isinstance(asked, m.Invoke)
    assert asked.call_id is not None
    assert f"--id {asked.call_id.hex()} --retry" in result.stderr


@pytest.mark.parametrize(
    ("words", "verb", "exit_code"),
    [
        (["status"], "node.status", 6),
        (["logs", "counter"], "function.logs", 6),
        (["remove", "counter"], "function.remove", 5),
        (["session", "externalize", "counter/a"], "session.externalize", 5),
    ],
)
def test_a_lost_answer_matters_where_something_changed(
    broker: FakeBroker, run: Run, words: list[str], verb: str, exit_code: int
) -> None:
    """A connection lost after the request: unreachable if it only read, unknown if it changed."""
    broker.script[verb] = lambda asked: []
    assert run(*words).exit_code == exit_code


def test_nobody_there_is_unreachable(tmp_path: Path, broker: FakeBroker) -> None:
    """No listener, no socket, and a refusal before WELCOME are all exit 6."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    broker.goaway = "unauthenticated"
    for where in (
        ["--node", address],
        ["--admin", str(tmp_path / "none.sock")],
        ["--node", broker.address],
    ):
        result = CliRunner().invoke(main, [*where, "status"])
        assert (result.exit_code, result.stdout) == (6, "")
        assert where[1] in result.stderr or "unauthenticated" in result.stderr


def test_the_admin_socket_and_the_environment_lead_there(tmp_path: Path) -> None:
    """A Unix socket serves like an address, named by an option or by EDGED_ADMIN."""
    path = str(tmp_path / "admin.sock")
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(path)
    with FakeBroker(sock) as broker:
        broker.replies("node.status", {"name": "n1"})
        by_option = CliRunner().invoke(main, ["--admin", path, "-o", "json", "status"])
        by_environment = CliRunner(env={"EDGED_ADMIN": path}).invoke(main, ["-o", "json", "status"])
    assert document(by_option) == document(by_environment) == {"name": "n1"}


def test_the_order_in_which_a_node_is_looked_for() -> None:
    """The command line beats the environment; without both the packaged socket, then loopback."""
    environ = {"EDGED_NODE": "[::1]:7", "EDGED_ADMIN": "/a"}
    assert targets(None, "/b", environ) == [Target("/b", None)]
    assert targets("edge-1", None, environ) == [Target("edge-1", 7400)]
    assert targets(None, None, environ) == [Target("::1", 7)]
    assert [str(target) for target in targets(None, None, {})] == [
        "/run/edged/admin.sock",
        "127.0.0.1:7400",
    ]


@pytest.mark.parametrize(
    "words",
    [
        ["discover", "no mesh's name"],
        ["nothing"],
        ["--node", "a:b", "status"],
        ["--node", "a", "--admin", "b", "status"],
        ["call", "Bad_Name"],
        ["call", "counter/"],
        ["call", "counter/a", "no-method"],
        ["call", "counter/a", "--id", "abc"],
        ["call", "counter", "--id", "ab" * 16],
        ["call", "counter/a", "--retry"],
        ["call", "counter", "--timeout", "0"],
        ["call", "counter", "m", "99999999999999999999999"],
        ["call", "counter", "m", "--typo", "1"],
        ["session", "get", "counter"],
        ["session", "migrate", "counter/a"],
        ["deploy", "/nowhere/at/all"],
    ],
)
def test_usage_errors_ask_nobody(broker: FakeBroker, run: Run, words: list[str]) -> None:
    """What cannot be meant is exit 2 before anything is sent."""
    result = run(*words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert not broker.seen


def test_deploy_sends_every_byte_once(
    broker: FakeBroker, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pieces join to the bundle, its hash names it, and the node's word on progress is followed."""
    monkeypatch.setattr(upload, "CHUNK", 100)
    (tmp_path / "function.toml").write_text('[function]\nname = "f"\nentry = "f:fn"\n')
    (tmp_path / "f.py").write_bytes(b"x" * 431)
    data, got = pack_directory(tmp_path), bytearray()

    def take(asked: m.Request | m.Invoke) -> list[m.Message]:
        assert isinstance(asked, m.Request)
        assert asked.params == {
            "hash": bundle_hash(data),
            "offset": len(got),
            "total": len(data),
        }
        got.extend(asked.blob or b"")
        return [m.Reply(asked.id, {"have": len(got)})]

    row = {"name": "f", "version": "", "hash": bundle_hash(data), "nodes": ["n1"]}
    broker.script["function.upload"] = take
    broker.replies("function.deploy", row)
    assert document(run("-o", "json", "deploy", str(tmp_path))) == row
    assert bytes(got) == data
    assert len(broker.seen) == -(-len(data) // 100) + 1


def test_an_upload_that_stands_still_ends(broker: FakeBroker, run: Run, tmp_path: Path) -> None:
    """A node that never has more is not fed forever."""
    (tmp_path / "function.toml").write_text("")
    broker.replies("function.upload", {"have": 0})
    assert run("deploy", str(tmp_path)).exit_code == 1
    assert len(broker.seen) == 1


def test_a_directory_without_manifest_is_not_sent(
    broker: FakeBroker, run: Run, tmp_path: Path
) -> None:
    """A wrong directory fails here, not after an upload."""
    assert run("deploy", str(tmp_path)).exit_code == 1
    assert not broker.seen


@pytest.mark.parametrize("follow", [False, True])
def test_logs_are_a_line_per_item(broker: FakeBroker, run: Run, follow: bool) -> None:
    """For people text that cannot drive the terminal; for programs one JSON list, and what goes on for ever as JSON lines."""
    item = {"node": "n1", "container": "c1", "line": "\x1b[2J\x9b2Jhello"}
    broker.script["function.logs"] = lambda asked: [
        m.Item(asked.id, item, False),
        m.Item(asked.id, item, False),
        m.Item(asked.id, None, True),
    ]
    flag = ["-f"] if follow else []
    said = run("-o", "json", "logs", "counter", *flag).stdout
    assert "\x9b" not in said
    assert ([json.loads(line) for line in said.splitlines()] if follow else json.loads(said)) == [item, item]
    assert run("logs", "counter", *flag).stdout == "n1/c1  \\x1b[2J\\x9b2Jhello\n" * 2
    asked = broker.seen[0]
    assert isinstance(asked, m.Request)
    assert asked.params == {"name": "counter", "follow": follow}


def test_a_ping_is_answered_and_waiting_goes_on(broker: FakeBroker, run: Run) -> None:
    """A node that wants a PONG first gets it; an answer to something else does not end the wait."""
    broker.script["node.status"] = lambda asked: [m.Ping(7)]
    broker.at_pong = [m.Reply(2, {"name": "other"}), m.Reply(1, {"name": "n1"})]
    assert document(run("-o", "json", "status")) == {"name": "n1"}


def test_tables_align_and_never_cut() -> None:
    """Columns start at one place, containers read used/total, and a hash stays whole."""
    rows: list[dict[str, Any]] = [
        {"name": "a", "hash": "f" * 64, "containers": {"used": 1, "total": 4}},
        {"name": "longer", "hash": None, "containers": {}},
    ]
    lines = table(("name", "hash", "containers"), rows).splitlines()
    assert lines[1].split() == ["a", "f" * 64, "1/4"]
    assert lines[2].split() == ["longer", "-", "-"]
    assert (
        len({line.index(word) for line, word in zip(lines, ("HASH", "f", "-"), strict=True)}) == 1
    )


def test_json_output_is_json_for_any_value() -> None:
    """Byte strings are hex at any depth and numbers JSON lacks are strings."""
    value = {"a": [b"\x00\xff", float("nan"), float("-inf")], "b": ("ü", None, 1.5)}
    expected = {"a": ["00ff", "nan", "-inf"], "b": ["ü", None, 1.5]}
    assert json.loads(to_json(value)) == expected


@pytest.mark.parametrize("row", [*COMMANDS, *SESSION_COMMANDS, *DEAD_COMMANDS], ids=lambda row: row.name)
def test_every_command_explains_itself(row: Any) -> None:
    """Help has one line on the purpose and an example that names the command."""
    group = ["session"] if row in SESSION_COMMANDS else ["dead"] if row in DEAD_COMMANDS else []
    words = [*group, row.name]
    result = CliRunner().invoke(main, [*words, "-h"])
    assert result.exit_code == 0
    assert "Example: edgectl" in result.stdout
    assert " ".join(words) in row.example


def test_migrate_says_how_it_is_meant(broker: FakeBroker, run: Run) -> None:
    """--force and --stop travel as parameters, and nothing but the document is printed without a terminal."""
    broker.replies("session.migrate", SESSION)
    ended = run("-o", "json", "session", "migrate", "counter/a", "--to", "n2", "--force", "--stop")
    assert document(ended) == SESSION
    asked = broker.seen[0]
    assert isinstance(asked, m.Request)
    assert asked.params == {"function": "counter", "session": "a", "to": "n2", "force": True, "stop": True}
    assert len(broker.seen) == 1


@pytest.mark.parametrize(
    ("move", "shown"),
    [
        ({"bytes": 0, "left": 0, "rounds": 1}, f"[{'.' * 30}] 0.0 KiB sent, 0.0 KiB left, round 1"),
        ({"bytes": 3 << 20, "left": 1 << 20, "rounds": 2}, f"[{'#' * 22}{'.' * 8}] 3.0 MiB sent, 1.0 MiB left, round 2"),
        ({"bytes": 2048, "left": 0, "rounds": 3}, f"[{'#' * 30}] 2.0 KiB sent, 0.0 KiB left, round 3"),
    ],
)
def test_a_bar_is_as_long_as_what_has_moved(move: dict[str, int], shown: str) -> None:
    """Its full part is the share of the bytes that were sent."""
    assert bar(move) == shown
