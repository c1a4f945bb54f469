"""Alarms on real nodes: in both modes, over moves, crashes and restarts, and what becomes of those that fail."""

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.nodes import Nodes, deploy, edgectl, served_by, until
from support.wire_client import WireClient

from edged_protocol.errors import NotRunRetry, RanError, UnknownOutcome

CODE = """
import os
from edged.sdk import Function

fn = Function("clock")

@fn.handler
def set(s, name, after, *arguments):
    s.alarm(name, *arguments, after=after, method="rang")
    return s.node

@fn.handler
def both(s, after):
    s.alarm("one", 1, after=after, method="rang")
    s.alarm("two", 2, after=after, method="rang")

@fn.handler
def rang(s, *arguments):
    s.state.setdefault("rang", []).append([*arguments, s.mode, s.node])

@fn.handler
def clear(s, name):
    s.cancel_alarm(name)

@fn.handler
def again(s, times):
    s.state.setdefault("rang", []).append(times)
    if times > 1:
        s.alarm("again", times - 1, after=0.01, method="again")

@fn.handler
def sets_and_fails(s):
    s.alarm("never", after=0, method="rang")
    raise ValueError("no")

@fn.handler
def set_bad(s, marker):
    s.alarm("bad", marker, after=0.01, method="bad")

@fn.handler
def bad(s, marker):
    s.state["half"] = True
    if not os.path.exists(marker):
        open(marker, "w").close()
        raise ValueError("not yet")
    s.state["rang"] = [s.state.get("half")]

@fn.handler
def set_crash(s, marker):
    s.alarm("crash", marker, after=0.5, method="crash")

@fn.handler
def crash(s, marker):
    if not os.path.exists(marker):
        open(marker, "w").close()
        os._exit(3)
    s.state["rang"] = ["lives"]

@fn.handler
def set_wrong(s):
    s.alarm("wrong", "one", "too", "many", after=0.01, method="bad")

@fn.handler
def unknown(s):
    s.alarm("x", after=0, method="nope")

@fn.shared
def seen(s):
    return s.state.get("rang", [])

@fn.shared
def reader(s):
    s.alarm("x", after=0, method="rang")
"""


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Nodes, list[str]]]:
    """Three nodes that run `clock`; the first serves the store."""
    root = tmp_path_factory.mktemp("alarms")
    nodes = Nodes(root)
    addresses = [nodes.start(name, lease="3s") for name in ("a", "b", "c")]
    bundle = root / "clock"
    bundle.mkdir()
    (bundle / "function.toml").write_text(
        '[function]\nname = "clock"\nentry = "clock:fn"\n[durability]\nseconds = 0.1\n'
    )
    (bundle / "clock.py").write_text(CODE)
    deploy(addresses[0], bundle)
    for address in addresses:
        served_by(address, "clock", 3)
    yield nodes, addresses
    nodes.close()


def rang(address: str, session: str) -> list[Any]:
    """What the session has seen of its alarms."""
    with closing(WireClient(address)) as client:
        seen: list[Any] = client.call("clock", session, "seen")
        return seen


def call(address: str, session: str, method: str, *arguments: Any) -> Any:
    with closing(WireClient(address)) as client:
        return client.call("clock", session, method, *arguments)


def test_an_alarm_rings_in_both_modes(mesh: tuple[Nodes, list[str]]) -> None:
    """A session's alarm calls its method with its arguments, remote-state and local-state, once."""
    _, (a, b, _) = mesh
    call(b, "remote", "set", "tea", 0.05, "milk", 2)
    with closing(WireClient(a, "operator")) as operator:
        operator.request("session.localize", {"function": "clock", "session": "local", "to": "b"})
    call(a, "local", "set", "tea", 0.05, "sugar")
    until(lambda: rang(a, "remote") and rang(a, "local"))
    assert [row[:3] for row in rang(a, "remote")] == [["milk", 2, "remote"]]
    assert rang(b, "local") == [["sugar", "local", "b"]]


def test_names_coalesce_and_can_be_taken_out(mesh: tuple[Nodes, list[str]]) -> None:
    """One of the same name takes the other's place, one that was taken out does not ring, many ring beside each other."""
    _, (a, b, c) = mesh

    def begun(session: str, seconds: float) -> None:
        call(a, session, "set", "tea", 2 * seconds, 1)
        call(b, session, "set", "tea", seconds, 2)
        call(c, session, "set", "gone", seconds)
        call(a, session, "clear", "gone")

    session, seconds = _before_it_rings(begun)
    call(a, session, "both", 3 * seconds)
    until(lambda: len(rang(b, session)) == 3)
    assert sorted(row[0] for row in rang(b, session)) == [1, 2, 2]


def test_an_alarm_may_set_itself_again(mesh: tuple[Nodes, list[str]]) -> None:
    """A clock is an alarm whose call sets it anew; each tick counts once."""
    _, (a, _, _) = mesh
    call(a, "ticks", "again", 10)
    until(lambda: len(rang(a, "ticks")) >= 10)
    assert rang(a, "ticks") == list(range(10, 0, -1))


def test_what_a_failed_call_asked_for_is_not_set(mesh: tuple[Nodes, list[str]]) -> None:
    """An alarm is an effect like any other: no call that raised, named no method, or only reads, leaves one."""
    _, (a, _, _) = mesh
    for method, said in (("sets_and_fails", "no"), ("unknown", "nope"), ("reader", "shared")):
        with closing(WireClient(a)) as client, pytest.raises(RanError, match=said):
            client.once("clock", "failed", method)
    call(a, "failed", "set", "last", 0.05, "only")
    until(lambda: rang(a, "failed"))
    assert [row[0] for row in rang(a, "failed")] == ["only"]


@pytest.mark.parametrize("local", [False, True])
def test_a_call_that_fails_or_dies_is_tried_again(mesh: tuple[Nodes, list[str]], tmp_path: Path, local: bool) -> None:
    """After a raise, and after the end of its container, an alarm's call comes again and finds nothing of the first."""
    _, (a, _, _) = mesh
    for method, seen in (("set_bad", [True]), ("set_crash", ["lives"])):
        session = f"{method}-{local}"
        if local:
            with closing(WireClient(a, "operator")) as operator:
                operator.request("session.localize", {"function": "clock", "session": session, "to": "a"})
        call(a, session, method, str(tmp_path / method))
        until(lambda session=session: rang(a, session))  # type: ignore[misc]
        assert rang(a, session) == seen


def test_alarms_move_with_their_session(mesh: tuple[Nodes, list[str]]) -> None:
    """Set in one mode on one node they ring in the other on another, once, whatever moved in between."""
    _, (a, b, c) = mesh
    with closing(WireClient(b, "operator")) as operator:

        def moved(session: str, seconds: float) -> None:
            call(a, session, "set", "first", seconds, 1)
            operator.request("session.localize", {"function": "clock", "session": session, "to": "b"})
            call(c, session, "set", "second", seconds, 2)
            operator.request("session.migrate", {"function": "clock", "session": session, "to": "c"})

        def back(session: str, seconds: float) -> None:
            operator.request("session.localize", {"function": "clock", "session": session, "to": "c"})
            call(a, session, "set", "third", seconds, 3)
            operator.request("session.externalize", {"function": "clock", "session": session})

        there, _ = _before_it_rings(moved)
        until(lambda: len(rang(a, there)) == 2)
        assert rang(a, there) == [[1, "local", "c"], [2, "local", "c"]]
        here, _ = _before_it_rings(back)
    until(lambda: rang(b, here))
    assert [row[:2] for row in rang(b, here)] == [[3, "remote"]]


def test_dead_letters_are_listed_replayed_and_dropped(mesh: tuple[Nodes, list[str]]) -> None:
    """An alarm that cannot be called is found by the operator, who may try it again or forget it."""
    _, (a, b, c) = mesh
    call(b, "dead", "set_wrong")
    until(lambda: edgectl(a, "dead", "ls", "clock"))
    [row] = edgectl(a, "dead", "ls")
    assert {**row, "due": 0, "message": ""} == {
        "function": "clock", "session": "dead", "alarm": "wrong", "method": "bad", "tries": 1, "code": 201,
        "message": "", "due": 0,
    }  # fmt: skip
    assert "do not fit" in row["message"]
    assert edgectl(c, "dead", "replay", "clock/dead", "wrong")["alarms"] == ["wrong"]
    until(lambda: [row["tries"] for row in edgectl(a, "dead", "ls")] == [1])
    assert edgectl(b, "dead", "drop", "clock/dead") == {"function": "clock", "session": "dead", "alarms": ["wrong"]}
    assert edgectl(a, "dead", "ls", "clock") == []
    told = [json.loads(line) for line in edgectl(a, "events")]
    dead = [(item["session"], item["alarm"], item["code"]) for item in told if item["event"] == "session.alarm_dead"]
    assert dead == [("dead", "wrong", 201)] * 2, "once when it was set, once when it was replayed"
    assert rang(a, "dead") == []


def test_a_node_that_dies_leaves_its_alarms_to_others(mesh: tuple[Nodes, list[str]]) -> None:
    """The node that looks after an alarm of a remote-state session is killed: another one finds it in the store."""
    nodes, (a, _, _) = mesh
    orphan = "orphan"
    key = {"function": "clock", "session": orphan}
    with closing(WireClient(a, "operator")) as operator:
        operator.request("session.localize", {**key, "to": "c"})
        assert call(a, orphan, "set", "late", 1.0, "found") == "c"
        operator.request("session.externalize", key)
    nodes.signal("c", signal.SIGKILL)
    nodes.ended("c")
    until(lambda: _rang_somewhere(a, orphan))
    assert [row[0] for row in rang(a, orphan)] == ["found"]
    nodes.start("c", lease="3s")
    served_by(nodes.addresses["c"], "clock", 3)
    assert [row[0] for row in rang(nodes.addresses["c"], orphan)] == ["found"]


def test_the_alarms_of_a_lost_owner_ring_with_the_one_that_takes_over(mesh: tuple[Nodes, list[str]]) -> None:
    """A local session's node is killed for good before its alarm is due: it rings elsewhere, once, on the state it had."""
    nodes, (a, b, _) = mesh
    key = {"function": "clock", "session": "widow"}
    with closing(WireClient(a, "operator")) as operator:
        operator.request("session.localize", {**key, "to": "c"})
        assert call(a, "widow", "set", "late", 1.0, "found") == "c"
        until(lambda: operator.request("session.get", key)["unsaved_calls"] == 0)
    nodes.signal("c", signal.SIGKILL)
    nodes.ended("c")
    until(lambda: _rang_somewhere(b, "widow"))
    assert [row[0] for row in rang(b, "widow")] == ["found"]


def _before_it_rings(begun: Callable[[str, float], None]) -> tuple[str, float]:
    """Begin something with a session before its alarm is due, with another one and more time where that was too little; the
    session, and the seconds."""
    for seconds in (0.5, 2.0, 8.0, 32.0):
        session, began = f"{begun.__name__}-{seconds}", time.monotonic()
        begun(session, seconds)
        if time.monotonic() - began < seconds:
            return session, seconds
    raise AssertionError("nothing is done in half a minute")


def _rang_somewhere(address: str, session: str) -> bool:
    """While nobody has noticed that the node is gone, or the session has no owner, its calls are refused."""
    try:
        return bool(rang(address, session))
    except (NotRunRetry, UnknownOutcome):
        return False
