"""The target of a migration dies when the record names it and nobody has told it: its source serves the session again."""

import signal
import threading
from contextlib import closing
from pathlib import Path

import pytest
from support.counting import counting
from support.keyed import keyed
from support.nodes import Nodes, deploy, edgectl, served_by, until
from support.wire_client import WireClient

from edged_protocol.errors import CallError

KEY = {"function": "keyed", "session": "s"}
LEASE = "3s"


@pytest.mark.parametrize(
    ("durability", "kib", "back"),
    [
        pytest.param('local = "none"', 1, True, id="none, is back at once"),
        # More than a store takes: whatever was acknowledged since the session became local is in memory only.
        pytest.param('local = "checkpoint"', 24 * 1024, False, id="checkpoint, stays away"),
    ],
)
def test_a_target_killed_between_the_write_and_its_word_costs_nothing(
    nodes: Nodes, tmp_path: Path, durability: str, kib: int, back: bool
) -> None:
    """Not one acknowledged call is lost, though the store has none of them: the client counts on where it was."""
    sections = {"state": 'max_bytes = "64MiB"', "limits": 'memory = "1GiB"', "modes": 'min_dwell = "0s"'}
    bundle = keyed(tmp_path, **sections, durability=durability)
    for name in "abc":
        nodes.start(name, lease=LEASE, stop_at="sealed+" if name == "c" else "")
    address = nodes.addresses["a"]
    deploy(address, bundle)
    for each in nodes.addresses.values():
        served_by(each, "keyed", 3)
    with closing(WireClient(address, "operator")) as operator:
        operator.request("session.localize", {**KEY, "to": "b"})
        for first in range(0, kib, 512):
            operator.call("keyed", "s", "fill", first, min(512, kib - first), 1024)
        with counting(address) as counter:
            moving = threading.Thread(target=migrate, args=(address,), daemon=True)
            moving.start()
            until(lambda: nodes.stopped("c"))
            # The source's write needs c no more; its end is seen where the session is served, or not any more.
            until(lambda: edgectl(address, "sessions", "keyed")[0]["node"] == "c")
            nodes.signal("c", signal.SIGKILL)
            nodes.ended("c")
            if back:
                nodes.start("c", lease=LEASE)
            before = counter.total
            until(lambda: counter.total > before + 3 or counter.ended)
            assert counter.failure is None, counter.failure
            total = counter.end()
        assert operator.call("keyed", "s", "get", "n") == total
        found = operator.request("session.get", KEY)
        assert (found["mode"], found["node"]) == ("local", "b")
        moving.join(60)
        assert not moving.is_alive()


def migrate(address: str) -> None:
    """It may be told that it was done, or that nobody knows."""
    with closing(WireClient(address, "operator")) as operator:
        try:
            operator.request("session.migrate", {**KEY, "to": "c", "force": True})
        except CallError as error:
            assert error.code >= 400, error
