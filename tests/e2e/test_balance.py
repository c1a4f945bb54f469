"""Real daemons share calls: by load, by policy, by placement, and past a node that dies."""

import shutil
import signal
import threading
from collections import Counter, deque
from contextlib import closing
from pathlib import Path

import pytest
from support.nodes import Nodes, deploy, edgectl, served_by, until
from support.wire_client import WireClient

from edged_protocol.blocking import connect
from edged_protocol.errors import CallError

SLEEPER = Path(__file__).parents[1] / "support" / "functions" / "sleeper"


def variant(root: Path, more: str, version: str = "2.0.0") -> Path:
    """The function with something else in its manifest."""
    directory = root / f"sleeper-{version}"
    shutil.copytree(SLEEPER, directory)
    manifest = directory / "function.toml"
    manifest.write_text(manifest.read_text().replace("1.0.0", version) + more)
    return directory


def ran_on(address: str, calls: int, seconds: float) -> Counter[str]:
    """Where calls that enter at one node at the same time were run."""
    with connect([address], name="load") as mesh:
        flying = [mesh.function("sleeper").start("sleep", seconds, timeout=60) for _ in range(calls)]
        return Counter(pending.result() for pending in flying)


def test_what_is_too_much_for_one_node_runs_on_the_others(nodes: Nodes) -> None:
    """Twelve calls at once enter at one of three nodes with two containers each: all three run some, and the
    caller sees nothing of the figures that nodes tell each other."""
    for name in ("n1", "n2", "n3"):
        nodes.start(name, containers=2)
    deploy(nodes.addresses["n1"], SLEEPER)
    served_by(nodes.addresses["n1"], "sleeper", 3)
    counted = ran_on(nodes.addresses["n1"], 12, 0.3)
    assert sum(counted.values()) == 12
    assert set(counted) == {"n1", "n2", "n3"}
    assert max(counted.values()) <= 8
    with connect([nodes.addresses["n1"]], name="load") as mesh:
        flying = [mesh.function("sleeper").start("sleep", 0.2, timeout=60) for _ in range(6)]
        assert not any("load" in (pending.answer().meta or {}) for pending in flying)


@pytest.mark.parametrize("policy", ["power-of-d", "least-impedance", "random-proportional", "round-robin"])
def test_every_policy_serves(nodes: Nodes, tmp_path: Path, policy: str) -> None:
    """Forty calls, through a node that runs the function and one that has no containers at all."""
    nodes.start("n1", containers=2)
    nodes.start("n2", containers=2)
    nodes.start("broker", containers=0)
    deploy(nodes.addresses["n1"], variant(tmp_path, f'[balance]\npolicy = "{policy}"\n'))
    for name in ("n1", "broker"):
        served_by(nodes.addresses[name], "sleeper", 2)
        counted = ran_on(nodes.addresses[name], 20, 0.01)
        assert sum(counted.values()) == 20
        assert set(counted) <= {"n1", "n2"}


def test_a_refusal_names_the_rule_for_each_node(nodes: Nodes, tmp_path: Path) -> None:
    """A function that no node may run is refused with 104, and for each node why; a node with the label
    that comes later runs it."""
    nodes.start("n1", labels=["zone=hall-3"])
    nodes.start("n2", containers=0)
    served = variant(tmp_path, '[placement]\nrequire = ["gpu"]\n')
    deploy(nodes.addresses["n1"], served)
    with connect([nodes.addresses["n1"]], name="asks") as mesh:

        refusals: list[CallError] = []

        def refused() -> CallError:
            with pytest.raises(CallError) as caught:
                mesh.function("sleeper").call("sleep", 0, timeout=0.5)
            refusals.append(caught.value)
            return caught.value

        until(lambda: len(refused().meta.get("placement", ())) == 2)
        error = refusals[-1]
        assert error.code == 104
        assert {row["node"]: row["rule"] for row in error.meta["placement"]} == {
            "n1": 'the node lacks the label "gpu"',
            "n2": "the node has no container slots ([capacity] containers)",
        }
        assert 'the label "gpu"' in error.message
        nodes.start("n3", labels=["gpu"])
        served_by(nodes.addresses["n1"], "sleeper", 1)
        assert mesh.function("sleeper").call("sleep", 0, timeout=30) == "n3"


def test_a_session_keeps_its_order_wherever_it_runs(nodes: Nodes) -> None:
    """Sessions with many calls in flight, on nodes that are busy: each counts by ones."""
    for name in ("n1", "n2", "n3"):
        nodes.start(name, containers=2)
    deploy(nodes.addresses["n1"], SLEEPER)
    served_by(nodes.addresses["n1"], "sleeper", 3)
    with connect([nodes.addresses["n1"]], name="load") as mesh:
        busy = [mesh.function("sleeper").start("sleep", 0.05, timeout=60) for _ in range(40)]
        names = [f"s{n}" for n in range(8)]
        flying = {
            name: [mesh.session("sleeper", name).start("incr", timeout=60) for _ in range(20)] for name in names
        }
        for name in names:
            assert [pending.result() for pending in flying[name]] == list(range(1, 21))
        assert sum(Counter(pending.result() for pending in busy).values()) == 40


def test_a_node_killed_under_load_costs_no_call(nodes: Nodes) -> None:
    """kill -9 of one of three while calls are in flight: those on it are tried again under their call id, and
    every session ends at exactly its count."""
    for name in ("n1", "n2", "n3"):
        nodes.start(name, containers=4)
    deploy(nodes.addresses["n1"], SLEEPER)
    served_by(nodes.addresses["n1"], "sleeper", 3)
    names, rounds = [f"s{n}" for n in range(12)], 25
    with connect([nodes.addresses["n1"]], name="load") as mesh:
        for turn in range(rounds):
            load = [mesh.function("sleeper").start("sleep", 0.02, timeout=60) for _ in range(24)]
            flying = [mesh.session("sleeper", name).start("incr", timeout=60) for name in names]
            if turn == rounds // 2:
                nodes.signal("n3", signal.SIGKILL)
            assert [pending.result() for pending in flying] == [turn + 1] * len(names)
            assert len([pending.result() for pending in load]) == 24


HOLD = """
import time
from pathlib import Path

from edged.sdk import Function

fn = Function("hold", state=dict)

@fn.handler
def hold(s, root: str, name: str) -> str:
    with Path(root, f"{name}.{s.node}").open("a") as runs:
        runs.write("x")
    while not Path(root, "go").exists():
        time.sleep(0.01)
    return s.node
"""


def test_only_calls_in_flight_on_a_killed_node_fail(nodes: Nodes, tmp_path: Path) -> None:
    """Every call says where it runs, then one of the two nodes dies: exactly the calls that ran there fail, with
    4xx; each succeeds when it is repeated with its call id, which the library does by itself."""
    most = 20  # of each kind: where one runs is a matter of chance, and both nodes are to have some
    nodes.start("n1", containers=0)
    for name in ("n2", "n3"):
        nodes.start(name, containers=2 * most)
    function, root = tmp_path / "hold", tmp_path / "running"
    function.mkdir()
    root.mkdir()
    (function / "hold.py").write_text(HOLD)
    (function / "function.toml").write_text(f'[function]\nname = "hold"\nentry = "hold:fn"\n[pool]\nmax = {2 * most}\n')
    deploy(nodes.addresses["n1"], function)
    served_by(nodes.addresses["n1"], "hold", 2)
    until(lambda: sum("hold" in row["functions"] for row in edgectl(nodes.addresses["n1"], "top")["load"]) == 2)

    def running_on(node: str) -> set[str]:
        return {file.stem for file in root.glob(f"*.{node}")}

    with connect([nodes.addresses["n1"]], name="load") as mesh:
        hold = mesh.function("hold")
        ids = {f"once-{n}": bytes([n]) * 16 for n in range(most)}
        bare, kept = {}, {}
        for name, id_ in ids.items():
            bare[name] = hold.start("hold", str(root), name, timeout=60, call_id=id_, once=True)
            kept[f"kept-{name}"] = hold.start("hold", str(root), f"kept-{name}", timeout=60)
            until(lambda: len(running_on("n2") | running_on("n3")) == len(bare) + len(kept))
            lost = running_on("n3")
            if lost & bare.keys() and lost & kept.keys() and running_on("n2"):
                break
        else:
            pytest.fail(f"{2 * most} calls, of which one node runs {len(lost)}")
        nodes.signal("n3", signal.SIGKILL)
        nodes.ended("n3")
        (root / "go").touch()
        failed = {}
        for name, pending in bare.items():
            try:
                assert pending.result() == "n2"
            except CallError as error:
                failed[name] = error.code
        assert failed == dict.fromkeys(sorted(lost & bare.keys()), 403)
        for name in failed:
            assert hold.call("hold", str(root), name, call_id=ids[name], attempt=1, timeout=60) == "n2"
        assert {pending.result() for pending in kept.values()} == {"n2"}
    runs = {file.stem: file.read_text() for file in root.glob("*.n2")}
    assert runs == dict.fromkeys([*bare, *kept], "x"), "what ran on the dead node ran here once, and so did the rest"


def test_overload_makes_no_storm_of_second_tries(nodes: Nodes, tmp_path: Path) -> None:
    """A broker gets ten times what two nodes can hold: each call is answered, by its result or 101, and the nodes were
    asked at most a fifth more often than there were calls."""
    nodes.start("n1", containers=0)
    for name in ("n2", "n3"):
        nodes.start(name, containers=1)
    deploy(nodes.addresses["n1"], variant(tmp_path, "[calls]\nqueue = 8\n"))
    served_by(nodes.addresses["n1"], "sleeper", 2)

    def served(name: str) -> int:
        with closing(WireClient(nodes.addresses[name], "operator")) as operator:
            count: int = operator.request("node.status", {})["calls"]
            return count

    before, calls = served("n2") + served("n3"), 200
    with closing(WireClient(nodes.addresses["n1"])) as device:
        answers = device.burst("sleeper", "sleep", 0.03, count=calls)
    ran = sum(code == 0 for code in answers)
    assert set(answers) <= {0, 101}
    assert 0 < ran < calls
    asked = served("n2") + served("n3") - before
    print(f"{ran} of {calls} ran, nodes were asked {asked} times")
    assert asked <= 1.2 * calls


def test_a_cold_function_is_started_for_its_first_call(nodes: Nodes) -> None:
    """No container anywhere: the call waits for one, on a node that does not run the function too."""
    nodes.start("n1")
    nodes.start("broker", containers=0)
    deploy(nodes.addresses["n1"], SLEEPER)
    served_by(nodes.addresses["broker"], "sleeper", 1)
    with closing(WireClient(nodes.addresses["broker"])) as device:
        assert device.call("sleeper", None, "sleep", 0) == "n1"


def test_pools_go_to_zero_and_come_back(nodes: Nodes, tmp_path: Path) -> None:
    """Idle for its time no container is left anywhere; then twenty calls at once are served, none is refused. A call of
    a function without a container waits for the only slot, and gets it though another function's calls never end."""
    first = nodes.start("n1", containers=1)
    deploy(first, variant(tmp_path, 'idle = "200ms"\n'))
    other = tmp_path / "other"
    shutil.copytree(tmp_path / "sleeper-2.0.0", other)
    manifest = (other / "function.toml").read_text()
    (other / "function.toml").write_text(manifest.replace('name = "sleeper"', 'name = "other"'))
    deploy(first, other)
    for _ in range(2):
        assert sum(ran_on(first, 20, 0.01).values()) == 20
        until(lambda: edgectl(first, "status")["containers"]["used"] == 0)
    running, over = threading.Event(), threading.Event()

    def without_end() -> None:
        with connect([first], name="load") as mesh:
            flying = deque(mesh.function("sleeper").start("sleep", 0.05, timeout=60) for _ in range(8))
            while not over.is_set():
                assert flying.popleft().result() == "n1"
                running.set()
                flying.append(mesh.function("sleeper").start("sleep", 0.05, timeout=60))

    load = threading.Thread(target=without_end)
    load.start()
    assert running.wait(60)
    try:
        with connect([first], name="other") as mesh:
            assert mesh.function("other").call("sleep", 0.0, timeout=30) == "n1"
            assert load.is_alive()
    finally:
        over.set()
        load.join()


def test_every_node_knows_how_busy_the_others_are(nodes: Nodes) -> None:
    """`edgectl top` asks one node and shows the queue of another; figures go away with the work."""
    for name in ("n1", "n2"):
        nodes.start(name, containers=1)
    deploy(nodes.addresses["n1"], SLEEPER)
    served_by(nodes.addresses["n1"], "sleeper", 2)

    def pool(at: str, of: str) -> dict[str, int]:
        rows = edgectl(nodes.addresses[at], "top")["load"]
        return next((row["functions"].get("sleeper", {}) for row in rows if row["node"] == of), {})

    with connect([nodes.addresses["n2"]], name="load") as mesh:
        flying = [mesh.function("sleeper").start("sleep", 0.5, timeout=60) for _ in range(24)]
        until(lambda: pool("n1", "n2").get("queued", 0) > 0)
        assert pool("n1", "n2")["room"] == 1
        assert {pending.result() for pending in flying} == {"n1", "n2"}
    until(lambda: pool("n1", "n2").get("queued") == 0)
    assert pool("n1", "n2")["service_us"] > 400_000
