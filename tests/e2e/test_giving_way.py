"""Slots that are all taken: what gives way to a function that has none, and who is told that nothing does."""

from contextlib import closing
from pathlib import Path

import pytest
from support.nodes import Nodes, deploy, edgectl, until
from support.wire_client import WireClient

from edged_protocol.errors import CallError

PROGRAM = """
from edged.sdk import Function

fn = Function("many", state=dict)

@fn.handler
def incr(s) -> int:
    s.state["n"] = s.state.get("n", 0) + 1
    return s.state["n"]

@fn.handler
def stay(s) -> int:
    s.prefer("local")
    return incr(s)

@fn.handler
def where(s) -> str:
    return s.node
"""
LONG_MS = 30_000
"""The deadline of calls that must not wait for it."""


def function(root: Path, name: str, more: str = "") -> Path:
    """The program under that name, with more in its manifest."""
    directory = root / name
    directory.mkdir()
    (directory / "many.py").write_text(PROGRAM)
    (directory / "function.toml").write_text(f'[function]\nname = "{name}"\nentry = "many:fn"\n{more}')
    return directory


@pytest.fixture
def address(nodes: Nodes, tmp_path: Path) -> str:
    """A node of two slots, with a function that has neither session nor container."""
    address = nodes.start("n1", containers=2)
    deploy(address, function(tmp_path, "other"))
    return address


def modes(address: str, name: str) -> dict[str, str]:
    return {row["session"]: row["mode"] for row in edgectl(address, "sessions", name)}


def all_local(address: str, name: str) -> None:
    until(lambda: set(modes(address, name).values()) == {"local"})


@pytest.mark.parametrize(("policy", "start"), [("application", "remote"), ("auto", "local")])
def test_the_session_called_longest_ago_gives_way(address: str, tmp_path: Path, policy: str, start: str) -> None:
    """A call of a function without a container gets the slot of the session that has been quiet for longer, and no
    count is lost."""
    deploy(address, function(tmp_path, "many", f'[modes]\npolicy = "{policy}"\nstart = "{start}"\nmin_dwell = "10m"\n'))
    edgectl(address, "policy", "freeze")
    with closing(WireClient(address)) as device:
        for session in ("a", "b"):
            assert device.once("many", session, "stay" if start == "remote" else "incr")[0] == 1
            all_local(address, "many")
        assert device.once("many", "a", "incr")[0] == 2
        assert device.once("other", None, "where", timeout_ms=LONG_MS)[0] == "n1"
        assert modes(address, "many") == {"a": "local", "b": "remote"}
        assert device.once("many", "b", "incr", timeout_ms=LONG_MS)[0] == 2
        assert device.once("many", "a", "incr")[0] == 3
    [event] = [line for line in edgectl(address, "events") if "session.gave_way" in line]
    assert '"session": "b"' in event and '"to": "other"' in event


@pytest.mark.parametrize("policy", ["pinned-local", "application"])
def test_where_nobody_gives_way_calls_are_told_at_once(address: str, tmp_path: Path, policy: str) -> None:
    """Sessions that their manifest pins, or that an operator has moved, stay: the call is answered 104 with the reason,
    long before its deadline."""
    start = "local" if policy == "pinned-local" else "remote"
    deploy(address, function(tmp_path, "many", f'[modes]\npolicy = "{policy}"\nstart = "{start}"\n'))
    with closing(WireClient(address)) as device:
        for session in ("a", "b"):
            device.once("many", session, "incr")
            if start == "remote":
                edgectl(address, "session", "localize", f"many/{session}")
        all_local(address, "many")
        with pytest.raises(CallError, match="all 2 container slots are held by local sessions") as caught:
            device.once("other", None, "where", timeout_ms=LONG_MS)
        assert caught.value.code == 104
        all_local(address, "many")


def test_a_minimum_of_idle_containers_keeps_nobody_out(address: str, tmp_path: Path) -> None:
    """`[pool] min` has taken both slots: another function's call gets one, and both functions are served from
    then on."""
    deploy(address, function(tmp_path, "warm", "[pool]\nmin = 2\nmax = 2\n"))
    until(lambda: edgectl(address, "status")["containers"]["used"] == 2)
    with closing(WireClient(address)) as device:
        assert device.once("other", None, "where", timeout_ms=LONG_MS)[0] == "n1"
        for name in ("warm", "other"):
            assert device.once(name, None, "where", timeout_ms=LONG_MS)[0] == "n1"
