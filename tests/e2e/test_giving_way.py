"""Slots that are all taken: what gives way to a function that has none, and who is told that nothing does."""

from contextlib import closing
from pathlib import Path

import pytest
from support.nodes import Nodes, deploy, edgectl, until
from support.wire_client import WireClient

from edged_protocol.errors import CallError

PROGRAM = """
import time

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

@fn.handler
def pause(s) -> str:
    time.sleep(0.1)
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
            assert device.once("many", session, "where")[0] == "n1"  # the record says local before its container serves
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
        with pytest.raises(CallError, match="all 2 container slots are taken; the local sessions here do not give way") as caught:
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


@pytest.fixture
def small(nodes: Nodes, tmp_path: Path) -> str:
    """A node of many slots and memory for two containers of 40 MiB, or one of 80; `large` takes that."""
    address = nodes.start("n1", containers=32, memory="80MiB")
    deploy(address, function(tmp_path, "large", '[limits]\nmemory = "80MiB"\n'))
    return address


LIMITED = '[limits]\nmemory = "40MiB"\n'


@pytest.mark.parametrize("policy", ["pinned-local", "application"])
def test_memory_is_promised_once(small: str, tmp_path: Path, policy: str) -> None:
    """Two sessions have all of it: both give way to a function that needs all, or that is told why it gets none; a third
    one stays in the store. What is promised is shown."""
    start = "local" if policy == "pinned-local" else "remote"
    deploy(small, function(tmp_path, "many", f'{LIMITED}[modes]\npolicy = "{policy}"\nstart = "{start}"\nmin_dwell = "10m"\n'))
    edgectl(small, "policy", "freeze")
    with closing(WireClient(small)) as device:
        for session in ("a", "b"):
            assert device.once("many", session, "stay")[0] == 1
            until(lambda session=session: modes(small, "many").get(session) == "local")  # type: ignore[misc]
        until(lambda: edgectl(small, "nodes")[0]["memory"] == {"used": 80 << 20, "total": 80 << 20})
        if policy == "pinned-local":
            with pytest.raises(CallError, match=r"80 of 80 MiB are promised .* to have 80 .* do not give way") as caught:
                device.once("large", None, "where", timeout_ms=LONG_MS)
            assert caught.value.code == 104
            all_local(small, "many")
        else:
            assert device.once("large", None, "where", timeout_ms=LONG_MS)[0] == "n1"
            assert modes(small, "many") == {"a": "remote", "b": "remote"}
        assert edgectl(small, "status")["memory"] == {"used": 80 << 20, "total": 80 << 20}


def test_a_pool_gives_way_with_as_many_containers_as_it_takes(small: str, tmp_path: Path) -> None:
    """Both containers of a busy pool end for one of another function that needs their memory; then it has its turn again."""
    deploy(small, function(tmp_path, "many", LIMITED))
    with closing(WireClient(small)) as device, closing(WireClient(small)) as other:
        ids = [device.send("many", None, "pause", timeout_ms=LONG_MS) for _ in range(40)]
        until(lambda: edgectl(small, "status")["memory"]["used"] == 80 << 20)
        assert other.once("large", None, "where", timeout_ms=LONG_MS)[0] == "n1"
        assert [device.outcome(id_)[0] for id_ in ids] == ["n1"] * 40


def test_what_a_node_could_never_hold_does_not_run_there(small: str, tmp_path: Path) -> None:
    """A container with more memory than the node has for all: the deploy warns, a call is told the rule."""
    directory = function(tmp_path, "vast", '[limits]\nmemory = "81MiB"\n')
    with closing(WireClient(small, "operator")) as operator:
        said = operator.deploy(directory)
        assert said["warnings"] == ["[limits] memory is more than this node has for all containers: it does not run here"]
        with pytest.raises(CallError, match="one container of the function is to have more memory than the node has for all"):
            operator.once("vast", None, "where")
