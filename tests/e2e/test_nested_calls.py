"""Calls that handlers make, through real nodes: here, on another node, in a circle, and again after a crash."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support.nodes import COUNTER, Nodes, deploy, served_by, until
from support.wire_client import WireClient

from edged_protocol.errors import CallError, RanError, UnknownOutcome

CODE = """
import os, time
from edged.sdk import CallError, Function

fn = Function("nest")

@fn.handler
def ask(s, function, session, method, *arguments):
    return s.call(function, method, *arguments, session=session)

@fn.handler
def hand_on(s, sessions, *last):
    if not sessions:
        return s.call(*last)
    return s.call("nest", "hand_on", sessions[1:], *last, session=sessions[0])

@fn.handler
def once(s, marker, session):
    counted = s.call("counter", "incr", 1, session=session)
    if not os.path.exists(marker):
        open(marker, "w").close()
        os._exit(1)
    return counted

@fn.handler
def nap(s, seconds):
    time.sleep(seconds)
    return s.remaining

@fn.handler
def leave(s, marker):
    try:
        s.call("nest", "slow", marker, timeout=0.2)
    except CallError as error:
        return error.code

@fn.handler
def slow(s, marker):
    open(marker + ".begun", "w").close()
    while not os.path.exists(marker + ".go"):
        time.sleep(0.005)
    open(marker, "w").close()
"""

TRIO = """
import trio
from edged.sdk import Function

fn = Function("together")

@fn.handler
async def sum(s, sessions):
    found = []
    async def one(session):
        found.append(await s.call("counter", "incr", 2, session=session))
    async with trio.open_nursery() as nursery:
        for session in sessions:
            nursery.start_soon(one, session)
    s.state["sum"] = s.state.get("sum", 0) + len(found)
    return found + [s.state["sum"]]
"""


def function(directory: Path, name: str, code: str, more: str = "") -> Path:
    """A bundle's directory."""
    directory.mkdir()
    (directory / "function.toml").write_text(f'[function]\nname = "{name}"\nentry = "code:fn"\n{more}')
    (directory / "code.py").write_text(code)
    return directory


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Two nodes that run `nest` (at most two containers each), `together`, `single` (one container) and `counter`."""
    root = tmp_path_factory.mktemp("nested")
    nodes = Nodes(root)
    addresses = [nodes.start(name, labels=[name]) for name in ("a", "b")]
    pool = '[pool]\nmax = 2\n[calls]\ndeadline = "5s"\n'
    alone = '[pool]\nmax = 1\n[placement]\nrequire = ["a"]\n'
    deploy(addresses[0], function(root / "nest", "nest", CODE, pool))
    deploy(addresses[0], function(root / "single", "single", CODE.replace('"nest"', '"single"'), alone))
    deploy(addresses[0], function(root / "together", "together", TRIO))
    deploy(addresses[0], COUNTER)
    for name, count in (("nest", 2), ("together", 2), ("single", 1), ("counter", 2)):
        served_by(addresses[0], name, count)
        served_by(addresses[1], name, count)
    yield addresses
    nodes.close()


@pytest.fixture
def device(mesh: list[str]) -> Iterator[WireClient]:
    with closing(WireClient(mesh[0])) as client:
        yield client


def test_a_function_calls_another(device: WireClient) -> None:
    """The answer of a session another function was asked for comes back through the handler."""
    assert device.call("nest", "x", "ask", "counter", "asked", "incr", 5) == 5
    assert device.call("nest", None, "ask", "counter", "asked", "get") == 5


def test_a_session_that_is_local_elsewhere_is_called(mesh: list[str], device: WireClient) -> None:
    """A handler's call finds the session on the node where it lives, in both directions."""
    with closing(WireClient(mesh[1], "operator")) as operator:
        operator.request("session.localize", {"function": "counter", "session": "far", "to": "b"})
        operator.request("session.localize", {"function": "nest", "session": "near", "to": "a"})
        operator.request("session.localize", {"function": "counter", "session": "here", "to": "a"})
        operator.request("session.localize", {"function": "nest", "session": "there", "to": "b"})
        assert device.call("nest", "near", "ask", "counter", "far", "incr", 3) == 3
        assert operator.call("nest", "there", "ask", "counter", "here", "incr", 4) == 4


def test_an_async_handler_calls_many_at_once(device: WireClient) -> None:
    """Calls made side by side all come back, and the handler's own change counts."""
    sessions = [f"many-{number}" for number in range(20)]
    assert device.call("together", "sum", "sum", sessions) == [2] * 20 + [20]
    assert device.call("together", "sum", "sum", sessions[:3]) == [4] * 3 + [23]


def test_a_circle_is_refused_at_once(mesh: list[str], device: WireClient) -> None:
    """A call back into a session of its own chain is answered with the chain, also from another node."""
    with closing(WireClient(mesh[1], "operator")) as operator:
        operator.request("session.localize", {"function": "nest", "session": "two", "to": "b"})
    with pytest.raises(RanError) as refused:
        device.once("nest", "one", "hand_on", ["two"], "nest", "ask", "nest", "one", "nap")
    assert "nest/one -> nest/two -> nest -> nest/one" in refused.value.message
    with pytest.raises(RanError) as refused:
        device.once("nest", "one", "ask", "nest", "one", "nap", 0)
    assert "nest/one -> nest/one" in refused.value.message


def test_a_call_that_is_repeated_counts_once_where_it_goes(mesh: list[str], tmp_path: Path) -> None:
    """A container dies behind a call it made; the call it ran is repeated, what it had called is not counted again."""
    with closing(WireClient(mesh[0])) as device:
        call_id = bytes(range(16))
        with pytest.raises(UnknownOutcome):
            device.once("nest", "crash", "once", str(tmp_path / "marker"), "counted", call_id=call_id)
        value, _ = device.once("nest", "crash", "once", str(tmp_path / "marker"), "counted", call_id=call_id, attempt=1)
        assert value == 1
        assert device.call("counter", "counted", "get") == 1


def test_what_is_called_has_the_time_that_is_left(device: WireClient) -> None:
    """The deadline travels: what a handler calls has less time than the handler had, and its end is told in time."""
    left = device.once("nest", "time", "ask", "nest", None, "nap", 0.1, timeout_ms=60_000)[0]
    assert 0 < left < 59.9
    with pytest.raises(CallError) as over:
        device.once("nest", "time", "ask", "nest", None, "nap", 1.5, timeout_ms=300)
    assert over.value.code == 401 or "401" in over.value.message, "the handler may be told a moment before its caller"


def test_a_call_that_has_begun_runs_on_when_nobody_waits(device: WireClient, tmp_path: Path) -> None:
    """The handler is told 401 at its own limit, what it called ends all the same."""
    while not (tmp_path / "ended.begun").exists():  # one that has not begun by then is not run
        assert device.once("nest", "leave", "leave", str(tmp_path / "ended"), timeout_ms=60_000)[0] == 401
    assert not (tmp_path / "ended").exists()
    (tmp_path / "ended.go").touch()
    until((tmp_path / "ended").exists)


def test_a_pool_that_waits_for_itself_says_so(device: WireClient) -> None:
    """The only container of a function calls that function: no time would help, so it is refused at once."""
    with pytest.raises(RanError) as refused:
        device.once("single", None, "ask", "single", None, "nap", 0, timeout_ms=60_000)
    assert "wait for calls that wait for a container" in refused.value.message
    with pytest.raises(RanError):
        device.once("single", "x", "ask", "single", "y", "nap", 0, timeout_ms=60_000)
    assert device.call("single", "x", "nap", 0) > 0


def test_a_pool_finds_another_container_for_what_it_calls(device: WireClient) -> None:
    """Short calls are given to a container ahead: not to the one that waits for them."""
    for _ in range(50):
        assert device.call("nest", None, "nap", 0) > 0
    for _ in range(5):
        assert device.call("nest", None, "ask", "nest", None, "nap", 0) > 0


def test_errors_say_what_is_known(device: WireClient) -> None:
    """An error of what was called reaches the caller with its code; its own call has failed."""
    for arguments, code in ((("nowhere", None, "x"), "204"), (("counter", "k", "nope"), "206")):
        with pytest.raises(CallError) as failed:
            device.once("nest", None, "ask", *arguments)
        assert failed.value.code == 301
        assert code in failed.value.message

