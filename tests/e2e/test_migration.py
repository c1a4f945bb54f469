"""Live migrations of large states: calls go on, nothing is lost, and whatever is wrong leaves the session where it was."""

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from support.keyed import keyed
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


class Counting:
    """A client that counts without a break; `total` calls are acknowledged."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._stop = threading.Event()
        self.total = 0
        self.failure: Exception | None = None
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            with closing(WireClient(self._address)) as device:
                while not self._stop.is_set():
                    assert device.call("keyed", "s", "incr") == self.total + 1
                    self.total += 1
        except (AssertionError, CallError, OSError) as error:
            self.failure = error

    def end(self) -> int:
        """Stop; how many were acknowledged."""
        self._stop.set()
        self._thread.join(60)
        assert self.failure is None, self.failure
        return self.total

    @property
    def counts(self) -> bool:
        """Whether it goes on, or will never."""
        return self.failure is not None or not self._thread.is_alive()


@contextmanager
def counting(address: str) -> Iterator[Counting]:
    """One at work."""
    counter = Counting(address)
    counter._thread.start()
    try:
        until(lambda: counter.total > 0 or counter.failure is not None)
        yield counter
    finally:
        counter._stop.set()
        counter._thread.join(60)


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
        until(lambda: counter.total > before + 5 or counter.counts)
        total = counter.end()
        assert moved["node"] == "c"
        assert moved["bytes"] > 8192 * 1024
        assert (moved["rounds"] > 0) and (moved["copy_ms"] > 0) is not bool(how)
        assert operator.call("keyed", "s", "get", "n") == total
        assert operator.call("keyed", "s", "get", "k8191") == bytes(1024)
        assert operator.call("keyed", "s", "put", "last", 1) == 8192 + 2
        assert operator.request("session.get", KEY)["node"] == "c"
