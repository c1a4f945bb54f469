"""The mesh moves sessions by itself, says why, and keeps still when it is told to: two real nodes under load."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.nodes import Nodes, edgectl, served_by, until
from support.wire_client import WireClient

from edged_protocol.blocking import Mesh, connect

SOURCE = Path(__file__).parents[1] / "support" / "functions" / "policy"


class Clients:
    """Threads that call a session each, one call after another, until the `with` ends; every answer is kept."""

    def __init__(self, address: str, function: str, sessions: list[str]) -> None:
        self._end = threading.Event()
        self.counts: dict[str, list[int]] = {name: [] for name in sessions}
        self.modes: dict[str, str] = {}
        self._threads = [threading.Thread(target=self._call, args=(address, function, name)) for name in sessions]

    def _call(self, address: str, function: str, name: str) -> None:
        with connect([address], name=name) as mesh:
            while not self._end.is_set():
                count, self.modes[name] = mesh.session(function, name).call("work", timeout=30)
                self.counts[name].append(count)

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def all_are(self, mode: str) -> Callable[[], bool]:
        return lambda: len(self.modes) == len(self.counts) and set(self.modes.values()) == {mode}

    def each_counted_once(self) -> bool:
        """Every call of every session took effect, in order, whatever moved meanwhile."""
        return all(counts == list(range(1, len(counts) + 1)) for counts in self.counts.values())


def deploy(address: str, root: Path, name: str, policy: str, nodes: int = 2, more: str = "", modes: str = "") -> None:
    """The function under a name and with a policy of its own."""
    directory = root / f"bundle-{name}"
    directory.mkdir()
    for file in SOURCE.glob("*.*"):
        text = file.read_text().replace('name = "policy"', f'name = "{name}"').replace('Function("policy"', f'Function("{name}"')
        (directory / file.name).write_text(text.replace('policy = "auto"', f'policy = "{policy}"\n{modes}'))
    with (directory / "function.toml").open("a") as manifest:
        manifest.write(more)
    with closing(WireClient(address, "operator")) as operator:
        operator.deploy(directory)
    served_by(address, name, nodes)


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Nodes, Path]]:
    """n1, which serves the store, and n2, with eight containers each."""
    root = tmp_path_factory.mktemp("policy")
    nodes = Nodes(root)
    try:
        for name in ("n1", "n2"):
            nodes.start(name, containers=8)
        yield nodes, root
    finally:
        nodes.close()


def test_wishes_are_granted_by_containers(nodes: Nodes, tmp_path: Path) -> None:
    """Of three slots one is kept for the pool; with four sessions in a container the mesh grants local-state to all eight that
    want it."""
    address = nodes.start("n1", containers=3)
    deploy(address, tmp_path, "shared", "auto", nodes=1, modes="sessions_per_container = 4")
    with closing(WireClient(address)) as client:

        def all_local() -> bool:
            said = [client.once("shared", f"s{n}", "work", "local", timeout_ms=30_000)[0] for n in range(8)]
            return [mode for _, mode in said] == ["local"] * 8

        until(all_local)


def moves_of(address: str, function: str) -> list[dict[str, Any]]:
    """What the policy has moved of a function."""
    return [row for row in edgectl(address, "policy", "explain", function)["moves"] if not row["failed"]]


def test_busy_sessions_become_local_by_themselves(mesh: tuple[Nodes, Path]) -> None:
    """With room for all, each session gets a container; each move has its reason and its event; no call is lost."""
    nodes, root = mesh
    address = nodes.addresses["n1"]
    deploy(address, root, "auto", "auto")
    with Clients(address, "auto", ["a", "b", "c"]) as clients:
        until(clients.all_are("local"))
        told = edgectl(address, "session", "explain", "auto/a")
        outlook = edgectl(address, "policy", "what-if", "auto")
    assert clients.each_counted_once()
    moves = moves_of(address, "auto")
    assert {row["session"] for row in moves} == {"a", "b", "c"}
    assert all(row["reason"] and row["to"] in ("n1", "n2") for row in moves)
    events = [json.loads(line) for line in edgectl(address, "events")]
    caused = [e for e in events if e.get("event") == "policy.moved" and e.get("function") == "auto"]
    assert {e["session"] for e in caused if e["cause"] == "network"} == {"a", "b", "c"}
    assert (told["mode"], told["policy"]) == ("local", "auto")
    assert told["rate"] > 1
    assert told["local_ms"] < told["remote_ms"]
    assert any("local sessions in the mesh" in line for line in told["why"])
    assert told["why"][-1].startswith("local are to be those that call from about")
    assert (outlook["sessions"], outlook["times"]["auto"]["measured"]) == (3, True)
    assert outlook["best"] >= 2


def test_frozen_it_moves_nothing(mesh: tuple[Nodes, Path]) -> None:
    """Freeze reaches all nodes; what an application wants is done all the same; thawed, the mesh goes on."""
    nodes, root = mesh
    address = nodes.addresses["n2"]
    deploy(address, root, "still", "auto")
    frozen = edgectl(address, "policy", "freeze")
    assert frozen == {"frozen": True, "nodes": ["n1", "n2"], "silent": []}
    assert edgectl(nodes.addresses["n1"], "policy", "get")["frozen"] is True
    with Clients(address, "still", ["a", "b"]) as clients:
        reasons = edgectl(address, "policy", "explain", "still")
        until(lambda: all(len(counts) > 60 for counts in clients.counts.values()))
        assert set(clients.modes.values()) == {"remote"}
        until(lambda: any("frozen" in row["reason"] for row in edgectl(address, "policy", "explain", "still")["functions"]))
        assert edgectl(nodes.addresses["n1"], "policy", "thaw")["frozen"] is False
        until(clients.all_are("local"))
    assert not reasons["moves"]
    assert clients.each_counted_once()


def test_what_an_operator_moved_stays(mesh: tuple[Nodes, Path]) -> None:
    """The undo of a move: back to remote-state, where the mesh leaves it, and says so on whichever node it is asked."""
    nodes, root = mesh
    address, other = nodes.addresses["n1"], nodes.addresses["n2"]
    deploy(address, root, "undo", "auto")
    with Clients(address, "undo", ["a", "b"]) as clients:
        until(clients.all_are("local"))
        edgectl(other, "session", "externalize", "undo/a")
        seen = len(clients.counts["a"])
        until(lambda: len(clients.counts["a"]) > seen + 100)  # some four seconds, and as many plans
        assert clients.modes["a"] == "remote"
        told = edgectl(other, "session", "explain", "undo/a")
    assert told["mode"] == "remote"
    assert told["why"][0].startswith("an operator moved it; the mesh leaves it there for 59")


def test_a_function_may_leave_it_to_its_application(mesh: tuple[Nodes, Path]) -> None:
    """`application`, which is the default: only the wish moves a session, at once; the mesh never does."""
    nodes, root = mesh
    address = nodes.addresses["n1"]
    deploy(address, root, "own", "application")
    with connect([address], name="own") as client:
        _calls(client, "own", "asks", 60)
        assert client.session("own", "asks").call("work", "local")[1] == "remote"
        until(lambda: client.session("own", "asks").call("work")[1] == "local")
        quiet = _calls(client, "own", "quiet", 60)
    assert quiet[-1] == [60, "remote"]
    assert moves_of(address, "own") == []
    told = edgectl(address, "session", "explain", "own/quiet")
    assert told["why"] == ["its function leaves the mode to applications and operators, and none asked for another"]


def _calls(client: Mesh, function: str, session: str, count: int) -> list[Any]:
    return [client.session(function, session).call("work") for _ in range(count)]


@pytest.mark.parametrize(("policy", "mode", "wish"), [("pinned-local", "local", "remote"), ("pinned-remote", "remote", "local")])
def test_a_function_may_have_one_mode(mesh: tuple[Nodes, Path], policy: str, mode: str, wish: str) -> None:
    """Pinned: its sessions come to that mode by themselves, and no application gets them out of it."""
    nodes, root = mesh
    address = nodes.addresses["n1"]
    deploy(address, root, policy, policy)
    with connect([address], name="pinned") as client:
        until(lambda: client.session(policy, "a").call("work")[1] == mode)
        assert {client.session(policy, "a").call("work", wish)[1] for _ in range(100)} == {mode}
    told = edgectl(address, "session", "explain", f"{policy}/a")
    assert told["why"] == [f"its function's policy is {policy}"]


def test_unknown_names_are_told(mesh: tuple[Nodes, Path]) -> None:
    """A session nobody has called lately is explained by its record; one that is not there is not found."""
    nodes, _ = mesh
    with closing(WireClient(nodes.addresses["n1"], "operator")) as operator:
        with pytest.raises(Exception, match="no session auto/nobody"):
            operator.request("session.explain", {"function": "auto", "session": "nobody"})
        with pytest.raises(Exception, match="does not run nothing"):
            operator.request("policy.what_if", {"function": "nothing"})


def test_where_memory_is_short_sessions_go_to_the_store(tmp_path: Path) -> None:
    """Whoever wanted them local: those least called leave, with the reason; their calls count on. What processes share is
    taken and not limited: so they can take more than was promised."""
    nodes = Nodes(tmp_path)
    try:
        address = nodes.start("small", memory="96MiB")
        deploy(address, tmp_path, "heavy", "application", nodes=1, more='\n[limits]\nmemory = "24MiB"\n')
        with connect([address], name="heavy") as client:
            for session in "abcd":
                client.session("heavy", session).call("work", "local")
            moved = False
            while not moved:
                for session in "abcd":
                    client.session("heavy", session).call("take", 32 << 20)
                moved = any(row["reason"] == "memory is short" for row in moves_of(address, "heavy"))
            assert [client.session("heavy", session).call("work")[0] for session in "abcd"] == [2, 2, 2, 2]
    finally:
        nodes.close()
