"""Rates and times as they are measured: right in the long run, calm in a burst, awake to a change."""

from math import isclose
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from edged.core.estimates import LONGEST, MANY, SHORTEST, Mean, Rate

SEED = st.integers(0, 2**32)
PER_SECOND = st.floats(0.02, 1000)


def poisson(rate: float, calls: int, seed: int, start: float = 0.0) -> tuple[Rate, float]:
    """An estimate after so many calls at random times, and when the last one came."""
    chance, now = Random(seed), start
    found = Rate(now)
    for _ in range(calls):
        now += chance.expovariate(rate)
        found.add(now)
    return found, now


@given(PER_SECOND, SEED)
def test_a_steady_stream_is_measured(rate: float, seed: int) -> None:
    """After many calls the rate is right, to what chance leaves of the calls it rests on."""
    found, now = poisson(rate, 400, seed)
    measured, calls = found.look(now)
    assert isclose(measured, rate, rel_tol=5 / calls**0.5)


def test_no_estimate_is_biased() -> None:
    """Over many sessions the mean is right from the third call on, though each alone is wrong."""
    for calls in (3, 10, 100):
        seconds, total = 0.0, 0.0
        for seed in range(3000):
            found, now = poisson(0.2, calls, seed)
            rate, count = found.look(now)
            total += count
            seconds += count / rate
        assert isclose(total / seconds, 0.2, rel_tol=0.05)


@given(st.floats(0.05, 1), st.integers(2, 100), SEED)
def test_a_burst_is_no_rate(rate: float, burst: int, seed: int) -> None:
    """Calls within a moment raise it by what they are of its memory, not to what the moment looks like."""
    found, now = poisson(rate, 200, seed)
    before, _ = found.look(now)
    for _ in range(burst):
        now += 0.001
        found.add(now)
    after, _ = found.look(now)
    memory = min(LONGEST, max(SHORTEST, MANY / before))
    assert after <= (before + burst / memory) * 1.6


@given(PER_SECOND, SEED)
def test_who_is_silent_is_forgotten(rate: float, seed: int) -> None:
    """After a hundred usual gaps without a call at most a twentieth of the rate is left."""
    found, now = poisson(rate, 200, seed)
    before, _ = found.look(now)
    assert found.look(now + 100 / before)[0] <= before / 20


@given(st.floats(0.1, 100), st.floats(4, 20), SEED)
def test_a_change_is_seen(rate: float, factor: float, seed: int) -> None:
    """After as many calls at the new pace as an estimate rests on in all, it has gone most of the way: what is four times as
    much is told from chance by any fifty calls."""
    found, now = poisson(rate, 300, seed)
    chance, began = Random(seed), now
    while now - began < 4 * max(SHORTEST, min(LONGEST, MANY / rate)):
        now += chance.expovariate(rate * factor)
        found.add(now)
    assert found.look(now)[0] > rate * (1 + (factor - 1) * 0.5)


@given(st.lists(st.floats(0, 1e5), max_size=200), st.floats(0, 1e6))
def test_any_times_give_a_rate(gaps: list[float], silence: float) -> None:
    """Never negative, never infinite, whatever the gaps; the calls it rests on are at most those that came."""
    now = 0.0
    found = Rate(now)
    for gap in gaps:
        now += gap
        found.add(now)
    rate, calls = found.look(now + silence)
    assert 0 <= rate < float("inf")
    assert 0 <= calls <= len(gaps)


@given(st.floats(1e-6, 100), SEED)
def test_a_time_is_averaged(mean: float, seed: int) -> None:
    """Exponential times come out to what chance leaves of some hundred."""
    chance, found = Random(seed), Mean()
    for _ in range(2000):
        found.add(chance.expovariate(1 / mean))
    assert isclose(found.value, mean, rel_tol=0.25)


@given(st.floats(1e-6, 1))
def test_one_wild_time_changes_little(usual: float) -> None:
    """A call that hung for an hour counts as one that was long."""
    found = Mean()
    for _ in range(500):
        found.add(usual)
    found.add(3600.0)
    assert found.value <= usual * 1.02


@given(st.floats(1e-6, 1), st.floats(0.01, 1000))
def test_a_time_that_changed_is_followed(usual: float, factor: float) -> None:
    """Up or down, after some thousand calls the new time is known."""
    found = Mean()
    for _ in range(500):
        found.add(usual)
    for _ in range(4000):
        found.add(usual * factor)
    assert isclose(found.value, usual * factor, rel_tol=0.05)
