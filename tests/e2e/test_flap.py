"""The connection between source and target ends in the middle of a migration: the copy goes on behind what has arrived."""

import json
import subprocess
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

from support.counting import counting
from support.keyed import keyed
from support.nodes import Nodes, deploy, edgectl, served_by, until
from support.wire_client import WireClient

KEY = {"function": "keyed", "session": "s"}
MIB = 2**20


def cut(nodes: Nodes, one: str, other: str) -> int:
    """Abort the TCP connections between two nodes; how many there were."""
    ends: dict[tuple[str, str], str] = {}
    lines = subprocess.run(["ss", "-Htnp"], capture_output=True, text=True, check=True).stdout.splitlines()
    for line in lines:
        _, _, _, here, there, *who = line.split()
        for name in (one, other):
            if f"pid={nodes.pid(name)}," in "".join(who):
                ends[here, there] = name
    between = [pair for pair, name in ends.items() if name == one and ends.get(pair[::-1]) == other]
    for here, there in between:
        port, peer = here.rpartition(":")[2], there.rpartition(":")[2]
        match = f"( sport = :{port} and dport = :{peer} )"
        subprocess.run(["ss", "-K", "state", "established", match], capture_output=True, check=True)
    return len(between)


def test_a_migration_goes_on_when_its_connection_comes_back(nodes: Nodes, tmp_path: Path) -> None:
    """64 MiB, cut off after an eighth: the move ends well, nothing that had arrived is sent again but for one piece, and
    each call counts once."""
    sections = {"state": 'max_bytes = "100MiB"', "limits": 'memory = "1GiB"', "durability": 'local = "none"'}
    bundle = keyed(tmp_path, **sections)
    for name in "abc":
        nodes.start(name)
    address = nodes.addresses["a"]
    deploy(address, bundle)
    for each in nodes.addresses.values():
        served_by(each, "keyed", 3)
    moved: list[dict[str, Any]] = []

    def migrate(to: str) -> None:
        with closing(WireClient(address, "operator")) as operator:
            moved.append(operator.request("session.migrate", {**KEY, "to": to}))

    def breaks() -> list[int]:
        """Of each move that has ended."""
        return [json.loads(line)["breaks"] for line in edgectl(address, "events") if "session.migrated" in line]

    with closing(WireClient(address, "operator")) as operator:
        operator.request("session.localize", {**KEY, "to": "b"})
        for first in range(0, 4096, 64):
            operator.call("keyed", "s", "fill", first, 64, 16 * 1024)
        with counting(address) as counter:
            source, target = "c", "b"
            while not sum(breaks()):  # a move that was too fast for this is made the other way
                source, target, ended = target, source, len(moved)
                moving = threading.Thread(target=migrate, args=(target,), daemon=True)
                moving.start()
                until(lambda: copied(operator) > 8 * MIB or not moving.is_alive())  # noqa: B023 - of this turn
                assert cut(nodes, "b", "c") > 0
                moving.join(60)
                assert len(moved) > ended, "the move ended with the connection"
                until(lambda: len(breaks()) == len(moved))
            before = counter.total
            until(lambda: counter.total > before + 3 or counter.ended)
            total = counter.end()
        assert operator.call("keyed", "s", "get", "n") == total
    assert moved[-1]["node"] == target
    assert 64 * MIB < moved[-1]["bytes"] < 66 * MIB
    assert breaks()[-1] == 1


def copied(operator: WireClient) -> int:
    """Bytes of the move under way."""
    return (operator.request("session.get", KEY)["move"] or {}).get("bytes", 0)
