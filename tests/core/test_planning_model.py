"""The paper's evaluation as formulas: the reference's values, and what must hold for any parameters."""

from math import exp, inf, isclose, isfinite

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.core.planning.latency import Setting, best, curve, last_stable, point
from edged.core.planning.mix import CLOSED, Stream, own_container, predict
from edged.core.planning.provision import cap, provision, violation
from edged.core.planning.queues import NO_WAIT, Response, Wait, blocked, quantile, wait

FIG_3 = {0: 3.0000, 10: 2.7259, 20: 2.4549, 24: 2.3679, 25: 2.3586, 26: 2.3626, 28: 2.4732, 30: 3.3240, 31: 8.9503}
"""N = 70 and 40 containers: the mean by number of local clients."""


def erlang_c(servers: int, offered: float) -> float:
    """The textbook's sum, term by term."""
    terms, term = [1.0], 1.0
    for i in range(1, servers):
        term *= offered / i
        terms.append(term)
    last = term * offered / servers * servers / (servers - offered)
    return last / (sum(terms) + last)


def exact_mean(n: int, k: int) -> float:
    """The reference's formula as it stands there."""
    c, rate = 40 - k, 0.075 * (n - k)
    remote = 3 + (erlang_c(c, 3 * rate) / (c / 3 - rate) if n > k else 0.0)
    return (k / 0.925 + (n - k) * remote) / n


@pytest.mark.parametrize(("k", "mean"), FIG_3.items())
def test_the_curve_has_the_values_of_the_reference(k: int, mean: float) -> None:
    """To the four digits that are printed, and to 1e-6 the formula."""
    found = point(Setting(70), k)
    assert f"{found.mean:.4f}" == f"{mean:.4f}"
    assert isclose(found.mean, exact_mean(70, k), rel_tol=1e-9)


def test_the_minimum_and_the_cliff() -> None:
    """N = 70: 25 local containers are best, 31 the last that hold."""
    points = list(curve(Setting(70)))
    lowest, edge = best(points), last_stable(points)
    assert lowest is not None
    assert edge is not None
    assert (lowest.k, edge.k) == (25, 31)
    assert not points[32].stable
    assert points[32].mean == points[32].p95 == inf


@pytest.mark.parametrize("n", range(10, 177, 5))
def test_stable_is_what_the_reference_says(n: int) -> None:
    """Stable exactly where 31 k < 1600 - 9 N, and then each value is that of the textbook's sum."""
    for found in curve(Setting(n)):
        assert found.stable == (31 * found.k < 1600 - 9 * n or found.k == n), found.k
        if found.stable and found.k < min(n, 40):
            assert isclose(found.mean, exact_mean(n, found.k), rel_tol=1e-6)


def test_nothing_is_best_where_nothing_lasts() -> None:
    """Too many clients, or containers too slow for one: no answer, and no invented one."""
    assert best(list(curve(Setting(1000)))) is None
    assert last_stable(list(curve(Setting(5, rate=2.0, remote=30.0)))) is None


@pytest.mark.parametrize(
    ("n", "share", "expected"),
    [(10, 0.2, 7), (50, 0.2, 26), (50, 0.3, 30), (50, 0.4, 34), (98, 0.2, 46), (98, 0.3, 54), (98, 0.4, 63)],
)
def test_the_containers_to_provision(n: int, share: float, expected: int) -> None:
    """The values that the paper prints."""
    found = provision(Setting(n), share)
    assert found is not None
    assert found.containers == expected
    assert found.cap == (40 * expected - 9 * n) // 31
    assert found.violation <= 0.01


def test_how_often_the_cap_is_hit() -> None:
    """N = 10 and 20 %: six containers are not enough, seven are; the figures of the reference."""
    assert cap(Setting(10, 6)) == 4
    assert f"{violation(10, 0.2, 4):.3f}" == "0.135"
    assert cap(Setting(10, 7)) == 6
    assert f"{violation(10, 0.2, 6):.4f}" == "0.0071"


def test_some_questions_have_no_answer() -> None:
    """Five clients at 40 % are more than five containers can promise; so are clients that are always local."""
    assert provision(Setting(5), 0.4) is None
    assert provision(Setting(50), 1.0) is None
    assert provision(Setting(50, rate=0.5), 0.2) is None
    assert provision(Setting(50, rate=0.3, local=4.0), 0.2) is None


@pytest.mark.parametrize("share", [0.2, 0.3, 0.4])
def test_many_clients_need_the_limit(share: float) -> None:
    """A client more costs 0.225 + 0.775 q containers, approached from above."""
    needs = [found.containers / n for n in (100, 1000, 10_000) if (found := provision(Setting(n), share))]
    limit = 0.225 + 0.775 * share
    assert len(needs) == 3
    assert needs == sorted(needs, reverse=True)
    assert 0 < needs[-1] - limit < 0.02


@given(st.integers(1, 100), st.floats(0.01, 0.99))
def test_provisioning_finds_the_least(n: int, share: float) -> None:
    """The one before it is not enough, looked at one by one."""
    found = provision(Setting(n), share)
    enough = [c for c in range(1, n + 1) if (m := cap(Setting(n, c))) >= 1 and violation(n, share, m) <= 0.01]
    assert (found.containers if found else None) == (enough[0] if enough else None)


@given(st.integers(1, 60), st.floats(0.01, 0.99), st.integers(2, 60))
def test_the_binomial_tail(n: int, share: float, most: int) -> None:
    """Summed up from the first client by its recurrence, the same chance comes out."""
    chances = [1.0]
    for _ in range(n):
        chances = [
            (chances[i] if i < len(chances) else 0) * (1 - share) + (chances[i - 1] * share if i else 0)
            for i in range(len(chances) + 1)
        ]
    assert isclose(violation(n, share, most), sum(chances[most:]) / (1 - chances[0]), abs_tol=1e-12)


@given(st.integers(1, 400), st.floats(0.001, 0.999))
def test_erlang_b_obeys_its_recurrence(servers: int, share: float) -> None:
    """B(c) = a B(c-1) / (c + a B(c-1)), on both sides of full load."""
    offered = share * 1.5 * servers
    before = blocked(servers - 1, offered)
    assert isclose(blocked(servers, offered), offered * before / (servers + offered * before), rel_tol=1e-9, abs_tol=1e-280)


@given(st.integers(1, 100), st.floats(0.01, 0.99))
def test_waiting_is_erlang_c(servers: int, share: float) -> None:
    """The chance to wait is the textbook's sum."""
    found = wait(servers, share * servers / 3.0, 3.0)
    assert found is not None
    assert isclose(found.chance, erlang_c(servers, share * servers), rel_tol=1e-9)


@pytest.mark.parametrize("servers", [1000, 10_000, 1_000_000])
def test_thousands_of_containers(servers: int) -> None:
    """No overflow and no nonsense: with a load of c - sqrt(c), waiting has the chance that Halfin and Whitt found."""
    found = wait(servers, servers - servers**0.5, 1.0)
    assert found is not None
    limit = 0.2237  # 1 / (1 + sqrt(2 pi) Phi(1) exp(1/2)), for infinitely many
    assert isclose(found.chance, limit, rel_tol=2 / servers**0.5)


@given(st.floats(0.01, 0.99), st.floats(0.01, 100.0), st.floats(0.0, 20.0))
def test_one_server_answers_exponentially(share: float, service: float, times: float) -> None:
    """M/M/1: the answer's time is exponential with mean 1/(mu - lam), tail included."""
    rate = share / service
    waits = wait(1, rate, service)
    assert waits is not None
    one = Response(waits, service)
    mean = service / (1 - share)
    assert isclose(one.mean, mean, rel_tol=1e-9)
    assert isclose(one.tail(times * mean), exp(-times), rel_tol=1e-6, abs_tol=1e-12)
    assert isclose(one.square, 2 * mean**2, rel_tol=1e-9)


@given(st.floats(0, 1), st.floats(0.001, 1000), st.floats(0.001, 1000), st.floats(0, 10))
def test_the_tail_adds_up_to_the_mean(chance: float, pace: float, service: float, fixed: float) -> None:
    """The area under the tail is the mean, whatever the wait and wherever the two speeds meet."""
    one = Response(Wait(chance, pace), service, fixed)
    far = fixed + 40 * (service + 1 / pace)
    cuts = [fixed * i / 10 for i in range(10)]
    scale = min(service, 1 / pace)
    grid, at = [], 0.0
    while at < far - fixed:
        grid.append(fixed + at)
        at += scale / 50 + at / 200
    points = [*cuts, *grid, far]
    area = sum((b - a) * (one.tail(a) + one.tail(b)) / 2 for a, b in zip(points, points[1:], strict=False))
    assert isclose(area, one.mean, rel_tol=2e-3)


@given(st.lists(st.tuples(st.floats(0.01, 1), st.floats(0.001, 100)), min_size=1, max_size=4), st.sampled_from([0.5, 0.95, 0.99]))
def test_a_quantile_is_one(parts: list[tuple[float, float]], share: float) -> None:
    """As many calls take longer than it as it leaves over."""
    mixed = [(weight, Response(NO_WAIT, service)) for weight, service in parts]
    found = quantile(mixed, share)
    late = sum(weight * one.tail(found) for weight, one in mixed) / sum(weight for weight, _ in mixed)
    assert isclose(late, 1 - share, rel_tol=1e-6)


RATES = st.lists(st.floats(0.001, 0.3), min_size=1, max_size=20)


@given(RATES, st.integers(1, 30))
def test_rates_add_up(rates: list[float], containers: int) -> None:
    """Clients that differ in nothing are the same as one group of them; the pool cares for the sum of rates only."""
    apart = predict([], [Stream(rate, 1.0, 3.0) for rate in rates], containers)
    mean = sum(rates) / len(rates)
    together = predict([], [Stream(mean, 1.0, 3.0, len(rates))], containers)
    assert apart.stable == together.stable or isclose(apart.utilisation, 1.0)
    if apart.stable and together.stable:
        assert isclose(apart.mean, together.mean, rel_tol=1e-6)


def test_functions_that_share_containers() -> None:
    """One server: the mean wait of both is that of Pollaczek and Khinchine, and each has its own service on top."""
    fast, slow = Stream(0.2, 0.1, 0.5), Stream(0.1, 1.0, 4.0)
    seen = predict([], [fast, slow], 1)
    busy = 0.2 * 0.5 + 0.1 * 4
    waiting = (0.2 * 2 * 0.5**2 + 0.1 * 2 * 4**2) / 2 / (1 - busy)
    assert [isclose(one.mean, waiting + own) for (_, one), own in zip(seen.remote, (0.5, 4.0), strict=True)] == [True, True]
    assert isclose(seen.utilisation, busy)


def test_calls_of_a_session_in_turn() -> None:
    """With containers for everybody a session is M/M/1 on its own; without serving in turn it never waits."""
    free = Setting(20, 1000, 0.1, 1.0, 3.0)
    assert isclose(point(free, 0).mean, 3.0)
    assert isclose(point(free._replace(serial=True), 0).mean, 1 / (1 / 3 - 0.1), rel_tol=1e-9)
    assert not point(free._replace(serial=True, rate=0.34), 0).stable
    assert isclose(point(free._replace(serial=True, remote=1.0, store=2.0), 0).mean, 3 + 0.1 * (9 + 1) / 2 / (1 - 0.3))


@given(st.floats(1, 50), st.integers(1, 8))
def test_clients_that_wait_for_their_answers(rate: float, clients: int) -> None:
    """Measured rates that no session could bear leave a prediction, and local is still the better place."""
    streams = [Stream(rate, 0.01, 0.03, store=0.01)] * clients
    strict = predict([], streams, 16, serial=True)
    assert not (strict.stable and rate * 0.04 > 1)
    remote, local = (predict(own, rest, 16, serial=True, busiest=CLOSED) for own, rest in (([], streams), (streams, [])))
    assert remote.stable
    assert local.mean < remote.mean


@settings(max_examples=50)
@given(st.integers(1, 200), st.integers(1, 60), st.floats(0.001, 2), st.floats(0.01, 5), st.floats(0.01, 10), st.booleans())
def test_any_setting_has_a_curve(n: int, c: int, rate: float, local: float, remote: float, serial: bool) -> None:
    """Numbers or infinity, never an error; tails are in order; more work in the pool is never faster there."""
    for found in curve(Setting(n, c, rate, local, remote, serial=serial)):
        assert found.stable == isfinite(found.mean)
        if found.stable:
            assert found.mean > 0
            assert found.p95 <= found.p99 < inf
            assert found.prediction.utilisation < 1


@pytest.mark.parametrize("sharing", [1, 2, 4])
def test_sessions_that_share_a_container_wait_for_each_other(sharing: int) -> None:
    """Each of them waits as one session that calls as often as all together; more than a container can run is not stable."""
    each = Stream(0.2, 1.0, 3.0, sharing=sharing)
    together = Stream(0.2 * sharing, 1.0, 3.0)
    assert own_container(each) == own_container(together)
    assert own_container(Stream(0.2, 1.0, 3.0, sharing=5)) is None
