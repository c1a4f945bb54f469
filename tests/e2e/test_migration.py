"""Live migrations of large states: calls go on, nothing is lost, and whatever is wrong leaves the session where it was."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.counting import counting
from support.keyed import CODE, keyed
from support.nodes import Nodes, deploy, served_by, until
from support.wire_client import WireClient

from edged_protocol.errors import CallError

KEY = {"function": "keyed", "session": "s"}
LARGE = {"state": 'max_bytes = "64MiB"', "limits": 'memory = "1GiB"', "durability": 'local = "none"'}
CHECKPOINT = {**LARGE, "durability": 'local = "checkpoint"'}


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    """None yet."""
    nodes = Nodes(tmp_path)
    try:
        yield nodes
    finally:
        nodes.close()


def started(nodes: Nodes, bundle: Path, stop_at: dict[str, str] | None = None) -> list[str]:
    """Three nodes that run the function; addresses. `stop_at`: the steps some of them stop at."""
    addresses = [nodes.start(name, stop_at=(stop_at or {}).get(name, "")) for name in "abc"]
    deploy(addresses[0], bundle)
    for address in addresses:
        served_by(address, "keyed", 3)
    return addresses


def filled(address: str, count: int, size: int) -> None:
    """The session on node b, with a state of `count` keys."""
    with closing(WireClient(address, "operator")) as operator:
        operator.request("session.localize", {**KEY, "to": "b"})
        for first in range(0, count, 1000):
            operator.call("keyed", "s", "fill", first, min(1000, count - first), size)


@pytest.mark.parametrize("how", [{}, {"stop": True}])
@pytest.mark.parametrize("sections", [LARGE, CHECKPOINT], ids=["none", "checkpoint"])
def test_a_large_state_moves_while_calls_go_on(
    nodes: Nodes, tmp_path: Path, how: dict[str, bool], sections: dict[str, str]
) -> None:
    """8 MiB in pieces of 256 KiB: every call counts once, before, during and after; all keys are there."""
    addresses = started(nodes, keyed(tmp_path, **sections))
    filled(addresses[0], 8192, 1024)
    with closing(WireClient(addresses[0], "operator")) as operator, counting(addresses[0]) as counter:
        moved = operator.request("session.migrate", {**KEY, "to": "c", **how})
        before = counter.total
        until(lambda: counter.total > before + 5 or counter.ended)
        total = counter.end()
        assert moved["node"] == "c"
        assert moved["bytes"] > 8192 * 1024
        assert 0 < moved["wire_bytes"] < moved["bytes"] / 10, "zeros that were not compressed"
        assert (moved["rounds"] > 0) and (moved["copy_ms"] > 0) is not bool(how)
        assert operator.call("keyed", "s", "get", "n") == total
        assert operator.call("keyed", "s", "get", "k8191") == bytes(1024)
        assert operator.call("keyed", "s", "put", "last", 1) == 8192 + 2
        assert operator.request("session.get", KEY)["node"] == "c"


def go_to(operator: WireClient, node: str) -> None:
    """The session local-state on `node`, however long that takes after a crash."""

    def there() -> bool:
        try:
            found = operator.request("session.get", KEY)
            if found["mode"] == "local" and found["node"] == node:
                return bool(found["serving"])
            operator.request("session.migrate" if found["mode"] == "local" else "session.localize", {**KEY, "to": node})
        except CallError:
            pass  # its owner is not there yet, or something is under way
        return False

    until(there)


@contextmanager
def migrating(address: str) -> Iterator[None]:
    """The session is asked to move to c until what is waited for has happened: a node that has just come back may not
    be known everywhere yet, and then the move is refused."""
    happened = threading.Event()

    def ask() -> None:
        with closing(WireClient(address, "operator")) as operator:
            while not happened.is_set():
                with contextlib.suppress(CallError):
                    operator.request("session.migrate", {**KEY, "to": "c"})

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    yield
    happened.set()


SYNC = {"durability": 'local = "sync"', "state": 'max_bytes = "4MiB"', "modes": 'min_dwell = "0s"'}


@pytest.mark.parametrize(
    ("victim", "steps"),
    [("b", ["copying", "offering", "releasing+"]), ("c", ["invited", "sealing", "sealed+"])],
    ids=["source", "target"],
)
def test_whoever_dies_no_call_is_lost(
    nodes: Nodes, tmp_path: Path, victim: str, steps: list[str]
) -> None:
    """SIGKILL of the source or the target at the steps of a migration: with `sync` every acknowledged call counts
    once, and the session is served again."""
    addresses = started(nodes, keyed(tmp_path, **SYNC))
    filled(addresses[0], 500, 1024)
    with closing(WireClient(addresses[0], "operator")) as operator, counting(addresses[0]) as counter:
        for step in steps:
            nodes.signal(victim, signal.SIGTERM)
            nodes.ended(victim)
            served_by(nodes.start(victim, stop_at=step), "keyed", 3)
            go_to(operator, "b")
            with migrating(addresses[0]):
                until(lambda: nodes.stopped(victim))
            nodes.signal(victim, signal.SIGKILL)
            nodes.ended(victim)
            served_by(nodes.start(victim), "keyed", 3)
            before = counter.total
            until(lambda at=before: counter.total > at + 3 or counter.ended)  # type: ignore[misc]
            assert counter.failure is None, (step, counter.failure)
        total = counter.end()
        assert operator.call("keyed", "s", "get", "n") == total


def refused(operator: WireClient, move: str, code: int, word: str, **params: Any) -> None:
    """The move is refused with the code and the reason."""
    with pytest.raises(CallError, match=word) as caught:
        operator.request(f"session.{move}", {**KEY, **params})
    assert caught.value.code == code


def test_a_target_with_another_version_is_refused(nodes: Nodes, tmp_path: Path) -> None:
    """A busy session stays with the version it began with; a node that runs another one does not take it."""
    addresses = started(nodes, keyed(tmp_path))
    filled(addresses[0], 1, 10)
    with closing(WireClient(addresses[0], "operator")) as operator, counting(addresses[0]) as counter:
        deploy(addresses[0], keyed(tmp_path, CODE + "\n# another version\n"))
        refused(operator, "migrate", 204, "another version", to="c")
        before = counter.total
        until(lambda: counter.total > before + 3 or counter.ended)
        total = counter.end()
        assert operator.call("keyed", "s", "get", "n") == total


OPAQUE = """
import os
from edged.sdk import Function, Session

fn = Function("keyed", state=set)


@fn.load
def load(value):
    if os.path.exists(FLAG):
        raise RuntimeError("cannot be loaded here")
    return set(value)


@fn.dump
def dump(state):
    return sorted(state) if "bad" not in state else state


@fn.handler
def add(s: Session, item: str) -> int:
    s.state.add(item)
    return len(s.state)
"""


def test_a_state_that_cannot_be_carried_or_loaded_leaves_the_session_where_it_was(nodes: Nodes, tmp_path: Path) -> None:
    """A call that makes the state unpackable fails alone; a `load` that raises at the target refuses the move; both
    say why, and calls go on."""
    flag = tmp_path / "flag"
    addresses = started(nodes, keyed(tmp_path, f"FLAG = {str(flag)!r}\n{OPAQUE}"))
    with closing(WireClient(addresses[0], "operator")) as operator:
        operator.request("session.localize", {**KEY, "to": "b"})
        assert operator.call("keyed", "s", "add", "one") == 1
        with pytest.raises(CallError, match="msgpack cannot carry") as caught:
            operator.call("keyed", "s", "add", "bad")
        assert caught.value.code == 301
        flag.touch()
        refused(operator, "migrate", 301, "cannot be loaded here", to="c")
        found = operator.request("session.get", KEY)
        assert (found["node"], found["serving"]) == ("b", True)
        assert operator.call("keyed", "s", "add", "two") == 2
        flag.unlink()
        assert operator.request("session.migrate", {**KEY, "to": "c"})["node"] == "c"
        assert operator.call("keyed", "s", "add", "three") == 3


def test_a_state_beyond_what_the_version_allows_is_not_made_local(nodes: Nodes, tmp_path: Path) -> None:
    """A record that grew under another version's `max_bytes` is refused with both sizes, and is served from the store."""
    addresses = started(nodes, keyed(tmp_path))
    with closing(WireClient(addresses[0], "operator")) as operator:
        operator.call("keyed", "s", "fill", 0, 200, 1024)
        deploy(addresses[0], keyed(tmp_path, state='max_bytes = "100KiB"'))
        refused(operator, "localize", 205, "102400 are allowed", to="b")
        assert operator.call("keyed", "s", "get", "k7") == bytes(1024)
        with pytest.raises(CallError, match="102400 are allowed"):
            operator.call("keyed", "s", "incr")


def test_a_state_too_large_for_the_store_stays_local_and_says_so(nodes: Nodes, tmp_path: Path) -> None:
    """Of what may exceed what a store takes the deploy warns; such a session cannot be externalized, goes on, and moves."""
    addresses = started(nodes, keyed(tmp_path, **CHECKPOINT))
    with closing(WireClient(addresses[0], "operator")) as operator:
        said = operator.deploy(keyed(tmp_path, CODE + "\n", **CHECKPOINT))
        assert any(warning.startswith("[state] max_bytes") for warning in said["warnings"])
        operator.request("session.localize", {**KEY, "to": "b"})
        for first in range(0, 20 * 16, 16):
            operator.call("keyed", "s", "fill", first, 16, 64 * 1024)
        refused(operator, "externalize", 205, "the state takes")
        found = operator.request("session.get", KEY)
        assert (found["mode"], found["node"], found["serving"]) == ("local", "b", True)
        assert operator.request("session.migrate", {**KEY, "to": "c"})["node"] == "c"
        assert operator.call("keyed", "s", "get", "k319") == bytes(64 * 1024)


def test_a_session_that_changes_as_fast_as_it_is_copied_is_not_moved_unless_forced(nodes: Nodes, tmp_path: Path) -> None:
    """With no pause allowed the move ends as not converging and the session goes on; forced, it moves."""
    sections = {**LARGE, "modes": 'max_pause = "1ms"'}
    addresses = started(nodes, keyed(tmp_path, **sections))
    filled(addresses[0], 1000, 1024)
    with closing(WireClient(addresses[0], "operator")) as operator, counting(addresses[0]) as counter:
        refused(operator, "migrate", 107, "not_converging", to="c")
        assert operator.request("session.get", KEY)["node"] == "b"
        assert operator.request("session.migrate", {**KEY, "to": "c", "force": True})["node"] == "c"
        total = counter.end()
        assert operator.call("keyed", "s", "get", "n") == total
