"""Balancing: figures, the four policies, refusals and the retry budget; whole brokers in virtual time."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sim.brokers import Site, World, central, mean_after_warm_up, poisson

from edged.core.balancing import POLICIES, Balancer, Budget, Load, figures, loads
from edged.core.balancing.load import FRESH, Destination
from edged.core.calls import Call

MS = 1000


def a_balancer(policy: str = "power-of-d", own: Load | None = None, seed: int = 1) -> Balancer:
    balancer = Balancer("me", Random(seed), lambda _: own)
    balancer.policy("f", policy)
    return balancer


def a_load(busy: int, queued: int = 0, room: int = 4, service_us: int = 10 * MS) -> Load:
    return Load(room, busy, queued, service_us, 0)


def test_the_call_goes_where_it_is_predicted_to_end_first() -> None:
    """Of two other nodes the one with containers free gets it; a queue is worth its length."""
    balancer = a_balancer()
    balancer.heard("f", "full", a_load(4, 20), 0.0)
    balancer.heard("f", "free", a_load(3), 0.0)
    assert {balancer.choose("f", ["full", "free"], 0.0) for _ in range(20)} == {"free"}


def test_what_was_sent_since_the_report_counts() -> None:
    """Between two reports a node is not taken for as empty as it was: calls spread."""
    balancer = a_balancer()
    chosen = []
    for node in ("a", "b"):
        balancer.heard("f", node, a_load(3), 0.0)
    for _ in range(20):
        to = balancer.choose("f", ["a", "b"], 0.0)
        assert to is not None
        balancer.sent("f", to)
        chosen.append(to)
    assert abs(chosen.count("a") - chosen.count("b")) <= 2


def test_a_slow_node_does_not_keep_what_enters_there() -> None:
    """A container free here is no reason to run a call here when others take much less time."""
    balancer = a_balancer(own=a_load(0, service_us=40 * MS))
    assert balancer.stays("f")
    balancer.heard("f", "fast", a_load(0), 0.0)
    assert not balancer.stays("f")
    assert balancer.choose("f", ["fast"], 0.0) == "fast"
    balancer.heard("f", "fast", a_load(0, service_us=35 * MS), 0.0)
    assert balancer.stays("f")


def test_a_node_full_of_local_sessions_gets_no_remote_calls() -> None:
    """Where no container is and none could start a call would wait for a session to leave; unless it is so everywhere."""
    balancer = a_balancer(own=a_load(0, room=0))
    balancer.heard("f", "a", a_load(0, room=0), 0.0)
    balancer.heard("f", "b", a_load(3, queued=5), 0.0)
    assert {balancer.choose("f", ["a", "b"], 0.0) for _ in range(20)} == {"b"}
    assert balancer.choose("f", ["a"], 0.0) is not None


def test_figures_fade() -> None:
    """After some seconds without a report a node is not held to be busy any more."""
    one = Destination("a")
    one.report(a_load(4, 40), 0.0)
    assert one.predicted(0.001, 0.0) > 0.1
    assert one.predicted(0.001, FRESH) == pytest.approx(0.01)


def test_a_node_that_comes_and_goes_gets_less() -> None:
    """Of two that are equal the other one is taken, until the time is over; it is not forgotten with its connection."""
    balancer = a_balancer()
    for node in ("a", "b"):
        balancer.heard("f", node, a_load(0), 0.0)
    balancer.be_wary("a", 10.0, 0.0)
    assert {balancer.choose("f", ["a", "b"], 1.0) for _ in range(20)} == {"b"}
    balancer.forget("a")
    balancer.heard("f", "b", a_load(5), 2.0)
    assert balancer.choose("f", ["a", "b"], 2.0) == "a", "twice its time is less than that queue"
    balancer.heard("f", "a", a_load(0), 11.0)
    balancer.heard("f", "b", a_load(4), 11.0)
    assert balancer.choose("f", ["a", "b"], 11.0) == "a"


def test_a_refusal_is_respected_for_its_time() -> None:
    """Who said 101 gets nothing until its time is over; when all did, nobody is chosen."""
    balancer = a_balancer()
    assert balancer.refused("f", "a", 0.5, 1.0)
    assert balancer.choose("f", ["a", "b"], 1.2) == "b"
    balancer.refused("f", "b", 0.5, 1.0)
    assert balancer.choose("f", ["a", "b"], 1.2) is None
    assert balancer.choose("f", ["a", "b"], 1.6) is not None


def test_second_tries_are_a_bounded_share() -> None:
    """After a burst, second tries are at most a tenth of the successes."""
    budget = Budget()
    granted = sum(budget.take() for _ in range(100))
    assert granted == 5
    for _ in range(1000):
        budget.succeeded()
        granted += budget.take()
    assert granted <= 5 + 100


def learn(balancer: Balancer, seconds: dict[str, float], now: float) -> None:
    for node, took in seconds.items():
        balancer.answered("f", node, took, took, now)


def count(balancer: Balancer, nodes: list[str], calls: int, now: float) -> dict[str, int]:
    chosen = [balancer.choose("f", nodes, now) for _ in range(calls)]
    return {node: chosen.count(node) for node in nodes}


def test_least_impedance_always_takes_the_best() -> None:
    """The paper's rule, herding and all; one never used is tried first."""
    balancer = a_balancer("least-impedance")
    learn(balancer, {"a": 0.01, "b": 0.02}, 0.0)
    assert count(balancer, ["a", "b"], 50, 0.0) == {"a": 50, "b": 0}
    assert balancer.choose("f", ["a", "b", "new"], 0.0) == "new"


def test_random_proportional_shares_by_one_over_weight() -> None:
    """A node that takes three times as long gets a quarter."""
    balancer = a_balancer("random-proportional")
    learn(balancer, {"a": 0.01, "b": 0.03}, 0.0)
    assert count(balancer, ["a", "b"], 4000, 0.0)["b"] == pytest.approx(1000, abs=120)


def test_round_robin_is_proportional_and_shuts_out() -> None:
    """Rates as 1/weight up to twice the best; beyond that nothing until a probe is due, then one call."""
    balancer = a_balancer("round-robin")
    learn(balancer, {"a": 0.010, "b": 0.015, "c": 0.030}, 0.0)
    counted = count(balancer, ["a", "b", "c"], 500, 0.5)
    assert counted["c"] == 0
    assert counted["a"] / counted["b"] == pytest.approx(1.5, rel=0.05)
    assert count(balancer, ["a", "b", "c"], 10, 1.1)["c"] >= 1, "a second has passed: it is probed"


def test_a_probe_that_stays_slow_comes_later_and_later() -> None:
    """Probes of a slow node: after 1, 2, 4 seconds; one that went well brings it back."""
    balancer = a_balancer("round-robin")
    learn(balancer, {"a": 0.01, "slow": 0.04}, 0.0)
    now, pauses = 0.0, []
    for _ in range(4):
        since = now
        while balancer.choose("f", ["a", "slow"], now) != "slow":
            learn(balancer, {"a": 0.01}, now)
            now += 0.05
        pauses.append(now - since)
        learn(balancer, {"slow": 0.04}, now)
    assert pauses == pytest.approx([1, 2, 4, 8], rel=0.1)
    now += 20
    while balancer.choose("f", ["a", "slow"], now) != "slow":
        pass
    learn(balancer, {"slow": 0.01}, now)
    assert count(balancer, ["a", "slow"], 100, now)["slow"] == pytest.approx(50, abs=5)


@given(st.sampled_from(sorted(POLICIES)), st.lists(st.integers(0, 5), max_size=60), st.integers(0, 99))
def test_every_policy_chooses_one_it_was_given(policy: str, steps: list[int], seed: int) -> None:
    """Whatever was sent, answered, refused, heard or lost before."""
    balancer = a_balancer(policy, own=a_load(1), seed=seed)
    now = 0.0
    for step in steps:
        now += 0.3
        nodes = ["a", "b", "c"][: step % 4]
        chosen = balancer.choose("f", nodes, now)
        assert chosen in [*nodes, "me", None]
        if chosen is None:
            continue
        balancer.sent("f", chosen)
        balancer.ended("f", chosen)
        if step == 1:
            balancer.refused("f", chosen, 0.5, now)
        elif step == 2:
            balancer.answered("f", chosen, 0.01 * (seed + 1), 0.01, now)
        elif step == 3:
            balancer.heard("f", chosen, a_load(seed % 5), now)
        elif step == 5:
            balancer.forget(chosen)


@given(st.recursive(st.none() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)))
def test_any_report_is_figures_or_nothing(value: object) -> None:
    """What a peer sends may be anything; counts come out, or None."""
    assert figures(value) is None or all(type(count) is int for count in figures(value) or ())
    assert all(isinstance(load, Load) for load in loads(value, 16).values())


def ratio(policy: str, seed: int, calls: int = 6000, containers: int = 4) -> float:
    """Mean latency over that of one central queue on the same trace: 70 % load, one of four nodes 4x slower."""
    site = Site(containers)
    trace = poisson(site, 0.7, 0.05, calls, Random(seed))
    base = mean_after_warm_up(central(site, trace))
    return mean_after_warm_up(World(site, policy, Random(seed + 100)).run(trace)) / base


@pytest.mark.parametrize("containers", [1, 2, 4])
def test_power_of_d_comes_close_to_a_central_queue(containers: int) -> None:
    """At most 1.25 times its mean latency, whatever a node holds (model.md): with one container a call that would
    wait goes on once more."""
    assert ratio("power-of-d", 1, containers=containers) <= 1.25


def hops(load: float, calls: int = 3000) -> Counter[int]:
    """How often calls were looked at after so many hops, on one container a node."""
    site, looked_at = Site(1), Counter[int]()

    class Watched(World):
        def _route(self, at: int, call: Call, now: float) -> None:
            looked_at[call.hops] += 1
            super()._route(at, call, now)

    Watched(site, "power-of-d", Random(1)).run(poisson(site, load, 0.05, calls, Random(1)))
    return looked_at


def test_calls_do_not_wander_when_all_are_overloaded() -> None:
    """A second hop is for a queue that others do not have: at half more than the capacity next to no call makes one."""
    assert hops(0.7)[2] > 300
    assert hops(1.5)[2] < 150


def test_blind_dispatch_ruins_the_result() -> None:
    """It fills the slow node, whose queue grows without end."""
    for blind in ("blind random", "blind round-robin"):
        assert ratio(blind, 1) > 5


@pytest.mark.parametrize("policy", ["random-proportional", "round-robin"])
def test_the_weighted_policies_are_between(policy: str) -> None:
    """Better than blind, worse than choosing by what is known now."""
    assert ratio("power-of-d", 2) < ratio(policy, 2) < 5
