"""Versions of a function in a real mesh: canaries, nodes that were away, removals."""

import itertools
import json
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

from support.nodes import Nodes, deploy, served_by, until
from support.wire_client import WireClient

from edged.core.catalogue import in_canary

SESSIONS = [f"s{n}" for n in range(60)]

PROGRAM = """
from edged.sdk import Function, Session

fn = Function("tell", state=dict)

@fn.handler
def count(s: Session) -> list:
    s.state["n"] = s.state.get("n", 0) + 1
    return [VERSION, s.state["n"]]
"""


def version(root: Path, name: str) -> Path:
    """A function that says which version it is, and counts."""
    directory = root / f"tell-{name}"
    directory.mkdir()
    (directory / "tell.py").write_text(f"VERSION = {name!r}\n" + PROGRAM)
    (directory / "function.toml").write_text(
        f'[function]\nname = "tell"\nentry = "tell:fn"\nversion = "{name}"\n'
    )
    return directory


def edgectl(address: str, *words: str) -> Any:
    """One command; its JSON document."""
    command = [sys.executable, "-m", "edgectl.cli", "--node", address, "-o", "json", *words]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def asked(address: str) -> dict[str, list[Any]]:
    """What every session says."""
    with closing(WireClient(address)) as device:
        return {name: device.call("tell", name, "count") for name in SESSIONS}


def test_a_canary_then_all_then_back(nodes: Nodes, tmp_path: Path) -> None:
    """With 30 per cent the same sessions get the new version through either node, promoted all do, rolled
    back none; no count is lost on the way, and a local session stays on its version until it leaves."""
    first, second = nodes.start("n1"), nodes.start("n2")
    deploy(first, version(tmp_path, "1"))
    served_by(first, "tell", 2)
    assert set(map(tuple, asked(first).values())) == {("1", 1)}
    key = {"function": "tell", "session": "s0"}
    with closing(WireClient(first, "operator")) as operator:
        operator.request("session.localize", {**key, "to": "n2"})
        row = edgectl(first, "deploy", str(version(tmp_path, "2")), "--canary", "30")
        assert (row["version"], row["canary"]["version"], row["canary"]["percent"]) == ("1", "2", 30)
        chosen = {name: ["2" if in_canary(name, 30) else "1", 2] for name in SESSIONS}
        chosen["s0"] = ["1", 2]
        assert asked(second) == chosen
        assert {said for said, _ in chosen.values()} == {"1", "2"}
        assert edgectl(second, "promote", "tell")["version"] == "2"
        until(lambda: edgectl(first, "functions")[0]["version"] == "2")
        promoted = asked(first)
        assert promoted == {name: ["1" if name == "s0" else "2", 3] for name in SESSIONS}
        operator.request("session.externalize", key)
        assert operator.call("tell", "s0", "count") == ["2", 4]
    edgectl(first, "rollback", "tell")
    until(lambda: edgectl(second, "functions")[0]["version"] == "1")
    back = asked(second)
    assert back == {name: ["1", 5 if name == "s0" else 4] for name in SESSIONS}


def test_a_node_that_was_away_catches_up(nodes: Nodes, tmp_path: Path) -> None:
    """What was deployed and removed without it holds: its old word does not bring anything back."""
    first, second = nodes.start("n1"), nodes.start("n2")
    deploy(first, version(tmp_path, "1"))
    gone = tmp_path / "gone"
    gone.mkdir()
    (gone / "tell.py").write_bytes((tmp_path / "tell-1" / "tell.py").read_bytes())
    (gone / "function.toml").write_text('[function]\nname = "gone"\nentry = "tell:fn"\n')
    deploy(first, gone)
    served_by(first, "tell", 2)
    served_by(first, "gone", 2)
    nodes.signal("n2", signal.SIGKILL)
    nodes.ended("n2")
    deploy(first, version(tmp_path, "2"))
    edgectl(first, "remove", "gone")
    second = nodes.start("n2")
    until(lambda: [row["version"] for row in edgectl(second, "functions")] == ["2"])
    served_by(first, "tell", 2)
    assert [row["name"] for row in edgectl(first, "functions")] == ["tell"]
    fresh = (f"tell/fresh-{number}" for number in itertools.count())  # it serves what it has until the new one is imported
    until(lambda: edgectl(second, "call", next(fresh), "count")["result"] == ["2", 1])


def test_an_idle_local_session_moves_to_the_new_version(nodes: Nodes, tmp_path: Path) -> None:
    """Deployed while it is local-state: its calls go on, and soon the new code answers, with the same state, still
    local-state."""
    address = nodes.start("n1")
    first, second = tmp_path / "first", tmp_path / "second"
    for directory, step in ((first, 1), (second, 100)):
        directory.mkdir()
        (directory / "function.toml").write_text(f'[function]\nname = "step"\nentry = "step:fn"\nversion = "{step}.0.0"\n')
        (directory / "step.py").write_text(
            'from edged.sdk import Function\nfn = Function("step", state=dict)\n'
            f'@fn.handler\ndef go(s):\n    s.state["n"] = s.state.get("n", 0) + {step}\n    return [s.state["n"], s.mode]\n'
            f'@fn.shared\ndef code(s):\n    return {step}\n'
        )
    deploy(address, first)
    with closing(WireClient(address, "operator")) as operator:
        assert operator.call("step", "a", "go") == [1, "remote"]
        operator.request("session.localize", {"function": "step", "session": "a"})
        assert operator.call("step", "a", "go") == [2, "local"]
        deploy(address, second)
        assert operator.call("step", "a", "go") == [3, "local"], "it finishes on its version"
        epoch = operator.request("session.get", {"function": "step", "session": "a"})["epoch"]

        def now() -> dict[str, object]:
            row: dict[str, object] = operator.request("session.get", {"function": "step", "session": "a"})
            return row

        until(lambda: now()["epoch"] == epoch + 2 and now()["mode"] == "local")
        assert operator.call("step", "a", "go") == [103, "local"]


SLOW = """
import time
from pathlib import Path

from edged.sdk import Function

root = Path(ROOT)
try:
    (root / "first").touch(exist_ok=False)
except FileExistsError:
    (root / "second").touch()
    while not (root / "go").exists():
        time.sleep(0.01)

fn = Function("slow", state=dict)

@fn.handler
def count(s) -> list:
    s.state["n"] = s.state.get("n", 0) + 1
    return [s.node, s.state["n"]]

@fn.handler
def where(s) -> str:
    return s.node
"""


def test_a_node_that_is_slow_to_import_a_function_lets_nobody_down(nodes: Nodes, tmp_path: Path) -> None:
    """While one of two nodes still imports what was deployed, calls that enter there are answered by the other, and
    moves to it wait for it."""
    first, second = nodes.start("n1"), nodes.start("n2")
    function = tmp_path / "slow"
    function.mkdir()
    (function / "slow.py").write_text(f"ROOT = {str(tmp_path)!r}\n" + SLOW)
    (function / "function.toml").write_text('[function]\nname = "slow"\nentry = "slow:fn"\n')
    with ThreadPoolExecutor() as pool:
        deployed = pool.submit(edgectl, first, "deploy", str(function))
        until((tmp_path / "second").exists)
        assert edgectl(second, "call", "slow/a", "count")["result"] == ["n1", 1]
        assert edgectl(second, "call", "slow", "where")["result"] == "n1"
        assert edgectl(first, "session", "localize", "slow/b")["node"] == "n1"
        localized = pool.submit(edgectl, first, "session", "localize", "slow/a", "--to", "n2")
        migrated = pool.submit(edgectl, first, "session", "migrate", "slow/b", "--to", "n2")
        assert edgectl(second, "call", "slow/b", "count")["result"] == ["n1", 1]
        assert not localized.done() and not migrated.done()
        (tmp_path / "go").touch()
        assert localized.result()["node"] == migrated.result()["node"] == "n2"
        assert edgectl(first, "call", "slow/b", "count")["result"] == ["n2", 2]
        assert deployed.result()["name"] == "slow"
