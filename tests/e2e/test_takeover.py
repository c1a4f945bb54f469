"""Local sessions of nodes that are lost, paused or cut off, on real processes: who serves them, and what is told."""

import os
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.nodes import COUNTER, Nodes, deploy, edgectl, served_by, until
from support.wire_client import WireClient

from edged_protocol.errors import CallError, NotRunRetry, UnknownOutcome

LEASE = "3s"


def a_counter(root: Path, name: str, durability: str) -> Path:
    """The counter under another name, with `durability`."""
    directory = root / name
    directory.mkdir()
    (directory / "counter.py").write_bytes((COUNTER / "counter.py").read_bytes())
    (directory / "function.toml").write_text(
        f'[function]\nname = "{name}"\nentry = "counter:fn"\n[modes]\nmin_dwell = "0s"\n[durability]\n{durability}\n'
    )
    return directory


FUNCTIONS = {
    "saved": "calls = 5\nseconds = 3600.0",
    "synced": 'local = "sync"',
    "unsaved": 'local = "none"',
    "held": 'on_partition = "hold"\nlocal = "sync"',
    "forked": 'on_partition = "keep"\ncalls = 1000\nseconds = 3600.0',
    "memory": "calls = 1000\nseconds = 3600.0",
}


@pytest.fixture
def three(nodes: Nodes, tmp_path: Path) -> Iterator[Nodes]:
    """n1 has the store and runs nothing, n2 and n3 run everything."""
    nodes.start("n1", lease=LEASE, containers=0)
    nodes.start("n2", lease=LEASE)
    nodes.start("n3", lease=LEASE)
    for name, durability in FUNCTIONS.items():
        deploy(nodes.addresses["n1"], a_counter(tmp_path, name, durability))
        served_by(nodes.addresses["n1"], name, 2)
    return nodes


class Device:
    """One that repeats each call by the book, and keeps what its answers said."""

    def __init__(self, address: str, function: str) -> None:
        self._client = WireClient(address)
        self._function = function
        self.epochs: list[int] = []
        self.codes: set[int] = set()
        self.meta: dict[str, Any] = {}

    def incr(self) -> int:
        """The new value. Raises CallError for what is not to be repeated."""
        call_id, attempt = os.urandom(16), 0
        answered: list[int] = []

        def done() -> bool:
            nonlocal attempt
            try:
                value, self.meta = self._client.once(
                    self._function, "s", "incr", call_id=call_id, attempt=attempt, timeout_ms=1000
                )
            except (NotRunRetry, UnknownOutcome) as error:
                self.codes.add(error.code)
                if error.meta.get("state_lost"):
                    raise
                attempt += isinstance(error, UnknownOutcome)
                return False
            self.epochs.append(self.meta["epoch"])
            answered.append(value)
            return True

        until(done)
        return answered[0]

    def close(self) -> None:
        self._client.close()


def localized(nodes: Nodes, function: str, at: str) -> None:
    edgectl(nodes.addresses[at], "session", "localize", f"{function}/s", "--to", at)


def stored(nodes: Nodes, function: str) -> int:
    return int(edgectl(nodes.addresses["n1"], "session", "get", f"{function}/s")["stored_version"])


def test_a_killed_nodes_sessions_are_taken_over(three: Nodes) -> None:
    """kill -9 of their owner: each class of durability gives what it promised, `hold` waits for the operator."""
    address = three.addresses["n3"]
    devices = {name: Device(address, name) for name in ("saved", "synced", "unsaved", "held")}
    for name, device in devices.items():
        localized(three, name, "n2")
        assert [device.incr() for _ in range(13)] == list(range(1, 14))
        assert device.meta["node"] == "n2"
    until(lambda: stored(three, "saved") >= 10)
    kept = stored(three, "saved")
    three.signal("n2", signal.SIGKILL)
    three.ended("n2")

    assert devices["saved"].incr() == kept + 1
    assert devices["saved"].meta["recovered"] == {"version": kept}
    assert devices["saved"].incr() == kept + 2
    assert "recovered" not in devices["saved"].meta
    assert devices["synced"].incr() == 14
    with pytest.raises(CallError, match="state was lost") as caught:
        devices["unsaved"].incr()
    assert caught.value.code == 105
    assert devices["unsaved"].incr() == 1

    def is_local_here() -> bool:
        return bool(devices["synced"].incr() and devices["synced"].meta["mode"] == "local")

    until(is_local_here)
    assert devices["synced"].meta["node"] == "n3"
    with closing(WireClient(address)) as client, pytest.raises(CallError) as refused:
        client.once("held", "s", "incr", timeout_ms=1000)
    assert refused.value.code == 105
    assert edgectl(address, "node", "forget", "n2")["node"] == "n2"
    assert devices["held"].incr() == 14
    for name, device in devices.items():
        assert device.epochs == sorted(device.epochs), name
        device.close()


def test_a_paused_owner_does_not_answer_beside_its_successor(three: Nodes) -> None:
    """SIGSTOP for longer than a lease: what it is told then is not answered from its memory, which is set aside and can
    be exported, and restored."""
    own, other = Device(three.addresses["n2"], "memory"), Device(three.addresses["n3"], "memory")
    localized(three, "memory", "n2")
    assert [own.incr() for _ in range(7)] == list(range(1, 8))
    assert stored(three, "memory") == 0
    three.signal("n2", signal.SIGSTOP)
    assert other.incr() == 1
    assert other.meta["recovered"] == {"version": 0}
    three.signal("n2", signal.SIGCONT)
    assert own.incr() == 2
    assert own.epochs == sorted(own.epochs)

    def listed() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = edgectl(three.addresses["n3"], "session", "conflicts", "memory")
        return found

    until(lambda: len(listed()) == 1)
    [row] = listed()
    assert (row["session"], row["version"], row["stored"]) == ("s", 7, 0)
    assert row["id"].startswith("n2:")
    edgectl(three.addresses["n3"], "session", "externalize", "memory/s")
    assert edgectl(three.addresses["n3"], "session", "restore", row["id"])["version"] == 7
    assert other.incr() == 8
    own.close()
    other.close()
