"""The end of a session on real nodes: by an operator and by its function, in both modes, with what belongs to it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from support.nodes import Nodes, deploy, edgectl, served_by, until
from support.wire_client import WireClient

CODE = """
from edged.sdk import Function

fn = Function("visit")

@fn.handler
def step(s):
    s.state["n"] = s.state.get("n", 0) + 1
    return s.state["n"]

@fn.handler
def last(s):
    s.state["n"] = s.state.get("n", 0) + 1
    s.end()
    return s.state["n"]

@fn.handler
def alarmed(s):
    s.alarm("later", after=3600, method="step")
"""


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Two nodes that run `visit`."""
    root = tmp_path_factory.mktemp("ends")
    nodes = Nodes(root)
    a, b = (nodes.start(name) for name in ("a", "b"))
    bundle = root / "visit"
    bundle.mkdir()
    (bundle / "function.toml").write_text('[function]\nname = "visit"\nentry = "visit:fn"\n')
    (bundle / "visit.py").write_text(CODE)
    deploy(a, bundle)
    for address in (a, b):
        served_by(address, "visit", 2)
    yield a, b
    nodes.close()


def call(address: str, session: str, method: str, call_id: bytes | None = None, attempt: int = 0) -> tuple[Any, Any]:
    """Result and meta."""
    with closing(WireClient(address)) as client:
        return client.once("visit", session, method, call_id=call_id, attempt=attempt)


@pytest.mark.parametrize("mode", ["remote", "local"])
def test_a_session_ended_by_an_operator_begins_anew(mesh: tuple[str, str], mode: str) -> None:
    """Asked through the other node: its state, version and alarms are gone, its epoch is higher, its call ids are known."""
    a, b = mesh
    name = f"visit/{mode}"
    call(a, mode, "step")
    call(a, mode, "alarmed")
    if mode == "local":
        edgectl(a, "session", "localize", name, "--to", "b")
    known = os.urandom(16)
    _, before = call(a, mode, "step", known)
    ended = edgectl(a, "session", "end", name)
    assert ended == {"function": "visit", "session": mode, "epoch": before["epoch"] + 1}
    assert [row["session"] for row in edgectl(b, "sessions", "visit") if row["session"] == mode] == []
    again, meta = call(a, mode, "step", known, attempt=1)
    assert (again, meta["remembered"]) == (2, True)
    value, meta = call(b, mode, "step")
    assert (value, meta["epoch"] > before["epoch"], meta["version"]) == (1, True, 1)
    with closing(WireClient(a, "operator")) as operator:
        assert operator.request("session.dead", {"function": "visit"})["dead"] == []
        assert operator.request("session.get", {"function": "visit", "session": mode})["version"] == 1


@pytest.mark.parametrize("mode", ["remote", "local"])
def test_a_function_ends_its_own_session(mesh: tuple[str, str], mode: str) -> None:
    """The call that says so counts; the one behind it, sent at once, begins the session anew."""
    a, b = mesh
    session = f"own-{mode}"
    call(a, session, "step")
    if mode == "local":
        edgectl(a, "session", "localize", f"visit/{session}", "--to", "b")
    value, before = call(a, session, "last")
    assert value == 2
    value, meta = call(b, session, "step")
    assert (value, meta["version"]) == (1, 1)
    assert meta["epoch"] > before["epoch"]
    until(lambda: "session.ended" in "".join(edgectl(a, "events")))


def test_a_session_that_is_not_there_cannot_end(mesh: tuple[str, str]) -> None:
    """Never called, or ended already: not found, exit code 3."""
    a, b = mesh
    call(a, "twice", "step")
    edgectl(a, "session", "end", "visit/twice")
    for address, name in ((b, "visit/twice"), (a, "visit/never")):
        command = [sys.executable, "-m", "edgectl.cli", "--node", address, "-o", "json", "session", "end", name]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == 3, ended.stderr
