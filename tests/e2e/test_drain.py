"""A node that is drained while it works: its sessions leave, its calls go on, and it can serve again."""

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

from support.nodes import COUNTER, Nodes, deploy, edgectl, served_by, until
from support.wire_client import WireClient

from edged_protocol.blocking import connect

SESSIONS = [f"s{n}" for n in range(16)]


def test_a_drained_node_has_nothing_and_no_call_suffers(nodes: Nodes) -> None:
    """While sixteen local sessions are called through all nodes, one node is drained by name from another:
    its sessions go on, local, on other nodes, each call counts once; undrained it takes sessions again."""
    first, second, third = (nodes.start(name) for name in ("n1", "n2", "n3"))
    deploy(first, COUNTER)
    served_by(first, "counter", 3)
    each, counted = 80, dict.fromkeys(SESSIONS, 0)

    def work(address: str, names: list[str]) -> None:
        with connect([address, first], name="load") as mesh:
            for _ in range(each):
                flying = [(n, mesh.session("counter", n).start("incr", timeout=60)) for n in names]
                for name, pending in flying:
                    counted[name] = pending.result()

    with closing(WireClient(first, "operator")) as operator:
        for name in SESSIONS:
            operator.request("session.localize", {"function": "counter", "session": name, "to": "n2"})
        parts = [SESSIONS[:5], SESSIONS[5:10], SESSIONS[10:]]
        threads = [
            threading.Thread(target=work, args=pair)
            for pair in zip((first, second, third), parts, strict=True)
        ]
        for thread in threads:
            thread.start()
        until(lambda: min(counted.values()) > 3)
        said = edgectl(third, "drain", "n2")
        assert (said["node"], said["state"], said["left"]) == ("n2", "drained", 0)
        for thread in threads:
            thread.join(60)
        assert counted == dict.fromkeys(SESSIONS, each)
        rows = operator.request("session.list", {"function": "counter"})
        assert {row["node"] for row in rows} <= {"n1", "n3"}
        assert {row["mode"] for row in rows} == {"local"}
        states = {"n1": "alive", "n2": "drained", "n3": "alive"}
        until(lambda: {row["name"]: row["state"] for row in edgectl(third, "nodes")} == states)
        slots = [row["containers"] for row in edgectl(third, "nodes")]
        assert all(row["used"] <= row["total"] == 32 for row in slots), "drained too it has its slots"
        with closing(WireClient(second)) as device:
            assert device.once("counter", "fresh", "get")[1]["node"] != "n2"
        assert edgectl(third, "undrain", "n2")["state"] == "alive"
        served_by(first, "counter", 3)
        moved = {"function": "counter", "session": "s0", "to": "n2"}
        assert operator.request("session.migrate", moved)["node"] == "n2"


def test_events_of_all_nodes(nodes: Nodes) -> None:
    """What happened on either node is told in order, once, and what happens then is told to who watches."""
    first, _ = nodes.start("n1"), nodes.start("n2")
    deploy(first, COUNTER)
    served_by(first, "counter", 2)
    key = {"function": "counter", "session": "s"}
    with closing(WireClient(first, "operator")) as operator:
        operator.request("session.localize", {**key, "to": "n2"})
        operator.request("session.migrate", {**key, "to": "n1"})
        operator.request("session.externalize", key)
    command = [sys.executable, "-m", "edgectl.cli", "--node", first, "-o", "json", "events"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    items = json.loads(told)
    moves = [(item["node"], item["event"]) for item in items if item.get("session") == "s"]
    assert moves == [
        ("n2", "session.localized"),
        ("n2", "session.migrated"),
        ("n1", "session.externalized"),
    ]
    assert ("n1", "function.deployed") in [(item["node"], item["event"]) for item in items]
    with subprocess.Popen([*command, "--watch"], stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        for _ in items:
            watching.stdout.readline()
        edgectl(first, "drain", "n2")
        assert [json.loads(watching.stdout.readline())["event"] for _ in range(2)] == [
            "node.draining",
            "node.drained",
        ]
        os.kill(watching.pid, signal.SIGINT)
        assert watching.wait(60) == 0


def test_a_node_that_is_not_there_is_told_from_one_that_is_away(nodes: Nodes) -> None:
    """Nobody has heard of it: not found, and the nodes there are; it is down: refused, as nothing was done."""
    first, _ = nodes.start("n1"), nodes.start("n2")
    until(lambda: len(edgectl(first, "nodes")) == 2)
    command = [sys.executable, "-m", "edgectl.cli", "--node", first]

    def tried(*words: str) -> tuple[int, str]:
        ended = subprocess.run([*command, *words], capture_output=True, text=True, timeout=60, check=False)
        return ended.returncode, ended.stderr.strip()

    assert tried("drain", "n7") == (3, "201 bad_request: no node named n7; there are n1, n2")
    assert tried("undrain", "n7")[0] == 3
    assert tried("node", "forget", "n7") == (3, "201 bad_request: no node named n7; there are n1, n2")
    assert tried("session", "discard", "copy")[0] == 3 and "NODE:NUMBER" in tried("session", "discard", "copy")[1]
    deploy(first, COUNTER)
    assert tried("session", "localize", "counter/s", "--to", "n7")[0] == 3
    nodes.signal("n2", signal.SIGKILL)
    nodes.ended("n2")
    until(lambda: tried("drain", "n2")[0] == 4)
    assert "n2 is not reachable" in tried("drain", "n2")[1]


def test_a_session_that_cannot_leave_is_named(nodes: Nodes, tmp_path: Path) -> None:
    """Of a function that knows no remote-state, on the only node: it stays, is served, and the reason is told."""
    function = tmp_path / "counter"
    function.mkdir()
    (function / "counter.py").write_bytes((COUNTER / "counter.py").read_bytes())
    (function / "function.toml").write_text(
        '[function]\nname = "counter"\nentry = "counter:fn"\n[modes]\nallow = ["local"]\nstart = "local"\n'
    )
    address = nodes.start("n1")
    deploy(address, function)
    with closing(WireClient(address, "operator")) as operator:
        operator.request("session.localize", {"function": "counter", "session": "s"})
        assert operator.call("counter", "s", "incr") == 1
        until(lambda: edgectl(address, "drain", "--no-wait")["first"][0]["reason"])
        said = edgectl(address, "drain", "--no-wait")
        assert (said["state"], said["left"]) == ("draining", 1)
        assert "remote-state" in said["first"][0]["reason"]
        assert operator.call("counter", "s", "incr") == 2
        edgectl(address, "undrain")
        assert operator.call("counter", "s", "incr") == 3
