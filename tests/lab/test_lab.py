"""The laboratory: what it plays is repeatable, and where the truth is known it tells the truth."""

from dataclasses import replace
from pathlib import Path

import pytest

from edged.core.planning.latency import Setting, point
from edged.core.planning.provision import provision
from edged.daemon.session_verbs import STEPS
from edged.lab.account import Growth, interval, latency
from edged.lab.clients import Client
from edged.lab.compare import compare
from edged.lab.mesh import APPLICATIONS, DYNAMIC, Choice, Mesh, play
from edged.lab.moves import TAKE
from edged.lab.scenario import Scenario, load_scenario, parse_scenario

SCENARIOS = Path(__file__).parents[2] / "configs" / "scenarios"
PAPER = """
[scenario]
duration = "2000s"
warmup = "200s"
[mesh]
nodes = 4
containers = 10
[policy]
period = "5s"
[function.f]
local = 1
remote = 3
start = "50ms"
overlapping = true
[clients.c]
function = "f"
count = 70
rate = 0.075
"""


def paper(**more: object) -> Scenario:
    return replace(parse_scenario(PAPER, "paper", Path()), **more)  # type: ignore[arg-type]


def test_the_same_seed_gives_the_same_run() -> None:
    """To the last figure, with the policy at work; another seed gives other figures."""
    scenario = paper(duration=300.0)
    first, again = play(scenario, DYNAMIC), play(scenario, DYNAMIC)
    assert first == again
    assert play(replace(scenario, seed=2), DYNAMIC).latency != first.latency


@pytest.mark.parametrize("k", [0, 16, 25])
def test_one_queue_agrees_with_the_formula(k: int) -> None:
    """One node with all forty containers is the paper's model: the formula's mean is within the run's 95 % interval."""
    scenario = paper(containers=(40,), duration=8000.0, warmup=500.0)
    seen = play(scenario, Choice("static", k)).latency["all"]
    assert abs(seen.mean - point(Setting(70), k).mean) <= seen.interval


@pytest.mark.parametrize("start", [0, 30])
def test_the_policy_comes_near_the_best_number(start: int) -> None:
    """From no local sessions and from the edge of the cliff, four nodes by themselves: near 25, where they then stay."""
    result = play(paper(duration=1200.0), DYNAMIC, at_first=start)
    assert all(21 <= local <= 28 for local, _, _ in result.timeline[5:])
    assert result.stable
    assert result.rounds <= 1
    assert result.refused == 0


def test_a_steady_load_comes_to_rest() -> None:
    """Once the number is found hardly a session moves any more, though clients seem to call more or less often by chance:
    less than one move in twenty hours of a session."""
    result = play(paper(duration=5400.0, warmup=0.0), DYNAMIC)
    assert result.moves_by_quarter[0] > 0.5
    assert max(result.moves_by_quarter[1:]) <= 0.05
    assert result.rounds == 1


def test_different_meshes_get_the_same_calls() -> None:
    """As many calls come whatever the mesh does with them: choices are compared on the same ones."""
    runs = [play(paper(containers=(40,), duration=500.0, warmup=0.0), Choice("static", k)) for k in (0, 25)]
    assert len({run.latency["all"].calls + run.queued for run in runs}) == 1
    assert runs[0].latency["all"].mean != runs[1].latency["all"].mean


@pytest.mark.parametrize("arrivals", ["poisson", "bursty", "diurnal"])
def test_clients_call_as_often_as_they_should(arrivals: str) -> None:
    """Whatever the pattern, the long-run mean is the rate."""
    group = replace(paper().clients[0], arrivals=arrivals, period=600.0, rate=1.0, burst=5.0, calm=20.0)
    client = Client(paper(), group, 0)
    at, calls = 0.0, 0
    while at < 20_000:
        at = client.next(at)
        calls += 1
    assert abs(calls / 20_000 - 1.0) < 0.06


def test_phases_have_their_share() -> None:
    """A client with local phases is in one for its share of the time, and says so with each call."""
    group = replace(paper().clients[0], local_share=0.3, local_phase=60.0, rate=1.0)
    wishes = []
    client, at = Client(paper(), group, 0), 0.0
    while at < 50_000:
        at = client.next(at)
        wishes.append(client.prefer)
    assert set(wishes) == {"local", "remote"}
    assert abs(wishes.count("local") / len(wishes) - 0.3) < 0.04


def test_applications_get_what_they_ask_for() -> None:
    """With enough containers a call of a local phase is served remote only while its session is on its way."""
    group = replace(paper().clients[0], count=20, local_share=0.3, local_phase=1500.0)
    function = replace(paper().functions["f"], policy="application")
    scenario = paper(clients=(group,), functions={"f": function}, duration=4000.0, containers=(20,))
    result = play(scenario, DYNAMIC)
    assert 0 < result.missed < 0.03
    assert play(scenario, APPLICATIONS).missed < 0.03
    assert play(scenario, Choice("all remote")).missed == 1.0


@pytest.mark.parametrize(("clients", "phase", "seed"), [(50, 60.0, 1), (50, 60.0, 2), (50, 600.0, 2), (100, 600.0, 1)])
def test_no_session_moves_twice_within_its_dwell_time(clients: int, phase: float, seed: int) -> None:
    """Clients that change their minds on four nodes with the provisioned containers: a node without a slot asks others,
    which do not know what the session has been through. Each of these runs once had a session that moved twice."""
    found = load_scenario(SCENARIOS / "paper-provision.toml")
    answer = provision(Setting(clients), 0.4)
    assert answer is not None
    slots = tuple(answer.containers // 4 + (number < answer.containers % 4) for number in range(4))
    group = replace(found.clients[0], count=clients, local_share=0.4, local_phase=phase)
    seconds = 100_000 / clients
    scenario = replace(found, clients=(group,), containers=slots, duration=seconds, warmup=0.0, seed=seed)
    result = play(scenario, DYNAMIC)
    assert result.moves > 100
    assert result.rounds == 1


FACTORY = """
[scenario]
duration = "120s"
[mesh]
nodes = 3
containers = 6
[store]
delay = "10ms"
[function.f]
local = "50ms"
remote = "60ms"
state = "8KiB"
[clients.c]
function = "f"
count = 20
rate = 1.0
"""


def factory(more: str) -> Scenario:
    return parse_scenario(FACTORY + more, "factory", Path())


def test_a_lost_node_costs_no_call_of_others() -> None:
    """Calls of a killed node's clients are tried again elsewhere; what was local on it waits for it, and is served."""
    scenario = factory('[failure.x]\nnode = "n2"\nat = "40s"\nlasts = "10s"\n')
    mesh = Mesh(scenario, Choice("static", 9))
    result = mesh.run()
    assert (result.refused, result.stable) == (0, True)
    assert result.latency["all"].calls > 2000
    assert 8.0 < max(mesh.account.order) < 20.0


def test_a_call_that_expires_at_another_node_is_not_under_way_for_ever() -> None:
    """A minute of more calls than containers can serve; when it is over no session is bound to the node that was late."""
    crowded = factory("").clients[0]
    function = replace(factory("").functions["f"], deadline=1.0)
    group = replace(crowded, count=60, until=60.0)
    mesh = Mesh(replace(factory(""), clients=(group,), functions={"f": function}, containers=(1, 1, 1)), Choice("static"))
    assert mesh.run().refused > 0
    away = [node.spread._under_way.node_of("f", client.session) for node in mesh.nodes.values() for client in mesh.clients]
    assert not any(away)


def test_sessions_follow_clients_that_move() -> None:
    """Sessions are migrated to where their clients call, by the real state machine, and no call is lost."""
    scenario = factory("")
    mesh = Mesh(replace(scenario, clients=(replace(scenario.clients[0], roams=30.0, count=12),)), DYNAMIC)
    result = mesh.run()
    assert mesh.account.kinds["migrated"] > 0
    assert (result.refused, result.stable) == (0, True)


def test_nodes_ask_of_each_other_what_daemons_do() -> None:
    """A step of a move that the daemon takes from others the laboratory's nodes take as well."""
    assert TAKE.keys() == STEPS.keys()


def test_what_the_store_takes_counts() -> None:
    """Nodes measure what remote-state calls wait for the store; without that a session whose calls are short
    would have nothing to win."""
    mesh = Mesh(factory(""), DYNAMIC)
    result = mesh.run()
    # One read is enough for calls that follow each other.
    assert all(0.01 < node.agent.ledger.times("f").store < 0.0201 for node in mesh.nodes.values())
    assert result.share_local > 0.3


def test_a_trace_is_played_as_it_is(tmp_path: Path) -> None:
    """Calls come at the times of the file, of the clients of the file."""
    (tmp_path / "calls.csv").write_text("1.0,0\n1.5,1\n2.0,0\n")
    text = FACTORY.replace("count = 20", 'count = 2\narrivals = "trace"\ntrace = "calls.csv"')
    result = play(parse_scenario(text, "trace", tmp_path), Choice("static"))
    assert result.latency["all"].calls == 3


def test_less_goes_to_the_store_with_local_sessions() -> None:
    """Bytes are counted: a remote-state call reads and writes its state, a local one is saved now and then."""
    remote, local = (play(factory(""), Choice("static", k)) for k in (0, 15))
    assert remote.store_bytes_per_call > 1.9 * 8192
    assert local.store_bytes_per_call < 0.8 * remote.store_bytes_per_call


def test_the_oracle_is_the_best_static_run() -> None:
    """Of the static runs that last the one with the least mean."""
    outcome = compare(paper(duration=300.0, warmup=50.0, static=(20, 39)))
    assert outcome.oracle == 20
    assert [name for name, _ in outcome.rows] == ["all remote", "20 local (oracle)", "39 local", "dynamic"]
    assert not outcome.static[39].stable


def test_figures_of_latencies() -> None:
    """Mean and quantiles of known numbers; the interval is that of batch means."""
    seen = latency([float(n) for n in range(100)])
    assert (seen.mean, seen.p50, seen.p95, seen.p99) == (49.5, 50.0, 95.0, 99.0)
    assert interval([1.0] * 100) == 0.0
    assert latency([]).calls == 0


def test_a_queue_grows_until_its_highest_point() -> None:
    """The time from when it was last empty to its height counts, not the time it takes to empty again."""
    growth = Growth()
    for at, queued in enumerate([0, 1, 2, 1, 3, 2, 1, 0, 1, 0]):
        growth.look(queued, float(at))
    assert growth.longest == 4.0


def test_no_queue_grows_for_long_when_a_crowd_comes() -> None:
    """50 clients become 110 and then 70: with the local sessions of the 50 the rest could not be served, so the nodes
    give containers back before a queue has grown for a minute."""
    group = paper().clients[0]
    groups = (
        replace(group, count=50),
        replace(group, name="stayers", count=20, since=600.0),
        replace(group, name="visitors", count=40, since=600.0, until=1200.0),
    )
    result = play(paper(clients=groups, duration=1500.0, warmup=0.0), DYNAMIC)
    assert max(row[0] for row in result.timeline[:10]) >= 28
    assert result.growth <= 60.0
    assert (result.refused, result.rounds) == (0, 1)
