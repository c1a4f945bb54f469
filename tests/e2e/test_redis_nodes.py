"""Real nodes whose sessions lie in a real Redis, which is killed, paused and comes back."""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from support.nodes import COUNTER, Nodes, deploy, edgectl, served_by, until
from support.redis_server import RedisServer
from support.wire_client import WireClient

from edged_protocol.errors import CallError, NotRunRetry


class Site:
    """Two nodes and their Redis; a device at each node."""

    def __init__(self, nodes: Nodes, server: RedisServer, devices: list[WireClient]) -> None:
        self.nodes = nodes
        self.server = server
        self.devices = devices

    def move(self, move: str, session: str, **params: Any) -> None:
        with closing(WireClient(self.nodes.addresses["n1"], "operator")) as operator:
            operator.request(f"session.{move}", {"function": "counter", "session": session, **params})

    def store(self, node: str = "n1") -> dict[str, Any]:
        """What a node says of its store."""
        said: dict[str, Any] = edgectl(self.nodes.addresses[node], "status")["store"]
        return said


@pytest.fixture
def site(nodes: Nodes, tmp_path: Path) -> Iterator[Site]:
    server = RedisServer(tmp_path / "redis").start()
    with ExitStack() as stack:
        stack.callback(server.kill)
        for name in ("n1", "n2"):
            nodes.start(name, store=server.url)
        deploy(nodes.addresses["n1"], COUNTER)
        served_by(nodes.addresses["n1"], "counter", 2)
        devices = [stack.enter_context(closing(WireClient(nodes.addresses[name]))) for name in ("n1", "n2")]
        yield Site(nodes, server, devices)


def outcome(device: WireClient, session: str, timeout_ms: int = 5000) -> int:
    """The code of one try; 0 is an answer."""
    try:
        device.once("counter", session, "incr", call_id=os.urandom(16), timeout_ms=timeout_ms)
    except CallError as error:
        return error.code
    return 0


def test_sessions_of_both_modes_live_in_redis(site: Site) -> None:
    """Calls through any node, each kind of move, and a node that is killed and comes back: every call counts once."""
    here, there = site.devices
    for session in ("far", "near"):
        here.call("counter", session, "incr")
    site.move("localize", "near", to="n1")
    for number in range(2, 6):
        assert here.call("counter", "far", "incr") == there.call("counter", "near", "incr") == number
    site.move("migrate", "near", to="n2")
    assert here.call("counter", "near", "incr") == 6
    site.move("externalize", "near")
    site.nodes.signal("n2", signal.SIGKILL)
    site.nodes.ended("n2")
    site.nodes.start("n2", store=site.server.url)
    assert [here.call("counter", session, "incr") for session in ("far", "near")] == [6, 7]
    said = site.store()
    assert (said["url"], said["driver"], said["state"]) == (site.server.url, "redis", "ok")
    assert said["durability"] == "every acknowledged write is on its disk"


def test_without_its_store_a_node_serves_what_it_has(site: Site) -> None:
    """Redis killed: local-state calls go on, and their node says how many are not stored; remote-state calls are
    certainly not run; back again, all goes on."""
    here, there = site.devices
    for session in ("far", "near"):
        here.call("counter", session, "incr")
    site.move("localize", "near", to="n1")
    assert there.call("counter", "near", "incr") == 2  # and it knows where the session is
    site.server.kill()
    until(lambda: site.store()["state"].startswith("failing: "))
    assert [outcome(device, "far") for device in site.devices * 3] == [106] * 6
    assert [there.once("counter", "near", "incr", call_id=os.urandom(16))[0] for _ in range(5)] == [3, 4, 5, 6, 7]
    said = edgectl(site.nodes.addresses["n1"], "session", "get", "counter/near")
    assert (said["version"], said["serving"], said["state_bytes"]) == (7, True, None)
    assert said["unsaved_calls"] == 7 - said["stored_version"] >= 5
    with pytest.raises(NotRunRetry) as caught:
        site.move("localize", "far", to="n1")
    assert caught.value.code == 106
    site.server.start()
    until(lambda: site.store()["state"] == site.store("n2")["state"] == "ok")
    assert there.call("counter", "far", "incr") == 2
    site.move("externalize", "near")
    assert there.call("counter", "near", "incr") == 8


def test_a_store_that_hangs_keeps_no_call_beyond_its_deadline(site: Site) -> None:
    """Redis paused: every call is answered while it still is; awake, no acknowledged call is missing or doubled."""
    here, there = site.devices
    acknowledged = [here.call("counter", session, "incr") for session in ("far", "near")]
    site.move("localize", "near", to="n1")
    site.server.pause()
    codes = [outcome(device, "far", timeout_ms=700) for device in (here, there)]
    assert {*codes} <= {106, 401}
    near = here.once("counter", "near", "incr", call_id=os.urandom(16))[0]
    assert [*acknowledged, near] == [1, 1, 2]
    until(lambda: site.store()["state"].startswith("failing: "))
    assert [outcome(device, "far") for device in site.devices] == [106, 106]
    site.server.resume()
    until(lambda: outcome(here, "far") == 0)
    assert here.call("counter", "far", "incr") >= 3
    assert there.call("counter", "near", "incr") == 3


def test_what_redis_lost_is_frozen_before_anybody_calls(site: Site, tmp_path: Path) -> None:
    """Redis comes back with older files: the sessions that lost calls are frozen, and only those, until somebody accepts it."""
    here, there = site.devices
    for session in ("kept", "lost"):
        assert [device.call("counter", session, "incr") for device in (here, there)] == [1, 2]
    site.server.kill()
    files = tmp_path / "redis" / "appendonlydir"
    older = {file: file.read_bytes() for file in files.iterdir()}
    site.server.start()
    until(lambda: outcome(here, "lost") == outcome(there, "lost") == outcome(there, "new") == 0)
    site.server.kill()
    for file, content in older.items():
        file.write_bytes(content)
    site.server.start()
    address = site.nodes.addresses["n1"]

    def frozen() -> dict[str, set[int]]:
        rows = edgectl(address, "session", "frozen", "counter")
        assert all(row["seen_version"] > row["version"] for row in rows)
        return {name: {row["version"] for row in rows if row["session"] == name} for name in [r["session"] for r in rows]}

    until(lambda: frozen_on(address) == {(node, session) for node in ("n1", "n2") for session in ("lost", "new")})
    assert frozen() == {"lost": {2}, "new": {0}}
    assert any('"session.frozen"' in line and '"session": "lost"' in line for line in edgectl(address, "events"))
    assert [outcome(device, "lost") for device in site.devices] == [106, 106]
    assert here.call("counter", "kept", "incr") == 3
    edgectl(address, "session", "accept", "counter/lost")
    assert [device.call("counter", "lost", "incr") for device in site.devices] == [3, 4]
    assert frozen() == {"new": {0}}


def frozen_on(address: str) -> set[tuple[str, str]]:
    """Nodes, and the sessions that they answer no calls of: whoever had seen more tells the others."""
    return {(row["node"], row["session"]) for row in edgectl(address, "session", "frozen", "counter")}


def on_disk(replica: RedisServer) -> bool:
    """Whether what came with the first synchronization is in its append-only file, which it writes anew behind that."""
    said = replica.say("INFO", "persistence")
    return "aof_rewrite_in_progress:0" in said and "aof_rewrite_scheduled:0" in said


def test_a_failover_that_loses_writes_is_noticed(site: Site, tmp_path: Path) -> None:
    """A replica is promoted that lacks the last writes, and gets the master's address: the session that lost acknowledged calls
    is frozen and listed, no call of it runs twice, the other one goes on; accepted, it goes on from what is left."""
    here, there = site.devices
    master = site.server
    master.say("CONFIG", "SET", "repl-diskless-sync-delay", "0")
    for session in ("kept", "lost"):
        assert [device.call("counter", session, "incr") for device in (here, there)] == [1, 2]
    replica = RedisServer(tmp_path / "replica").start("--replicaof", "127.0.0.1", str(master.port))
    try:
        until(lambda: "state=online" in master.say("INFO", "replication"))
        until(lambda: "master_link_status:up" in replica.say("INFO", "replication"))
        until(lambda: on_disk(replica))
        assert replica.say("REPLICAOF", "NO", "ONE") == "+OK\r\n"
        call_id = os.urandom(16)
        assert here.once("counter", "lost", "incr", call_id=call_id)[0] == 3
        master.kill()
        replica.kill()
        replica.port = master.port
        replica.start()
        address = site.nodes.addresses["n1"]
        until(lambda: frozen_on(address) == {("n1", "lost"), ("n2", "lost")})
        assert here.call("counter", "kept", "incr") == 3
        for device in site.devices:
            with pytest.raises(CallError, match="went back") as caught:
                device.once("counter", "lost", "incr", call_id=call_id, attempt=1)
            assert caught.value.code == 106
        edgectl(address, "session", "accept", "counter/lost")
        assert [device.call("counter", "lost", "incr") for device in site.devices] == [3, 4]
    finally:
        replica.kill()


def test_nodes_start_without_their_store(nodes: Nodes, tmp_path: Path) -> None:
    """A node whose Redis is not there yet serves, says what is wrong, and has it when it comes."""
    server = RedisServer(tmp_path / "redis")
    address = nodes.start("n1", store=server.url)
    deploy(address, COUNTER)
    with closing(WireClient(address)) as device:
        assert outcome(device, "s") == 106
        assert "Connection refused" in nodes.said("n1")
        server.start()
        try:
            until(lambda: outcome(device, "s") == 0)
        finally:
            server.kill()
