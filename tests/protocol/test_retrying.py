"""What is repeated, how soon, how much of it, and which answers count."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged_protocol import retrying
from edged_protocol.errors import Code, call_error, outcome_of
from edged_protocol.retrying import (
    BURST,
    FENCED_SECONDS,
    RATE,
    Budget,
    Fence,
    Verdict,
    pause_after,
    verdict_on,
)

VERDICTS = {"not_run_retry": Verdict.AGAIN, "unknown": Verdict.IN_DOUBT}


@pytest.mark.parametrize("code", [*Code, 108, 299, 399, 405, 599, 777, 0])
def test_the_hundreds_decide_whether_to_repeat(code: int) -> None:
    """1xx again, 4xx as another attempt, all else never; only 404 is an exception."""
    expected = VERDICTS.get(outcome_of(code), Verdict.FINAL)
    if code == 404:
        expected = Verdict.FINAL
    assert verdict_on(call_error(code, "")) is expected


def test_what_the_mesh_adds_can_change_the_verdict() -> None:
    """A lost state is told to a person at once; a 401 that did not run is as good as a 1xx."""
    assert verdict_on(call_error(105, "", {"state_lost": True})) is Verdict.FINAL
    assert verdict_on(call_error(401, "", {"ran": False})) is Verdict.AGAIN
    assert verdict_on(call_error(401, "", {"ran": True})) is Verdict.IN_DOUBT


@given(st.integers(0, 10_000), st.integers(0, 40), st.integers())
def test_the_broker_s_wish_is_kept(hint: int, repeats: int, seed: int) -> None:
    """With retry_after_ms the pause is at least that and at most half as much more."""
    error = call_error(101, "", {"retry_after_ms": hint})
    assert hint / 1000 <= pause_after(error, repeats, Random(seed)) <= hint / 1000 * 1.5


@pytest.mark.parametrize("hint", [None, -1, True, 2.5, "20"])
def test_without_a_wish_the_pause_doubles(hint: object) -> None:
    """Full jitter under a ceiling that doubles from 50 ms to 5 s, also for a malformed wish."""
    error = call_error(402, "", {"retry_after_ms": hint})
    for repeats, ceiling in ((0, 0.05), (1, 0.1), (4, 0.8), (7, 5.0), (1000, 5.0)):
        drawn = [pause_after(error, repeats, Random(seed)) for seed in range(200)]
        assert 0 <= min(drawn) < ceiling / 4
        assert ceiling * 3 / 4 < max(drawn) <= ceiling


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 3), st.integers(0, 3)), max_size=200))
def test_repeats_are_a_bounded_share(steps: list[tuple[float, int, int]]) -> None:
    """However a client calls, repeats until any moment are at most the burst, a fifth of its calls and 10/s."""
    budget, now, calls, due = Budget(), 0.0, 0, [0.0] * 0
    for seconds, new, repeats in steps:
        now += seconds
        calls += new
        for _ in range(new):
            budget.earn()
        due += [now + budget.take(now) for _ in range(repeats)]
        assert sum(at <= now for at in due) <= BURST + retrying.SHARE * calls + RATE * now + 1e-6


def test_an_empty_budget_names_the_wait_and_takes_back() -> None:
    """After the burst each repeat waits its turn; one that is not made gives its place to the next."""
    budget = Budget()
    assert [budget.take(0.0) for _ in range(BURST)] == [0.0] * BURST
    assert budget.take(0.0) == pytest.approx(0.1)
    assert budget.take(0.0) == pytest.approx(0.2)
    budget.give_back()
    assert budget.take(0.0) == pytest.approx(0.2)
    assert budget.take(1.0) == 0.0


def test_the_fence_admits_no_lower_epoch_and_forgets_the_oldest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Per session the epoch never falls; what was not used for longest is forgotten first."""
    monkeypatch.setattr(retrying, "MAX_FENCED", 2)
    fence = Fence()
    assert fence.admits(("f", "a"), 3, 0.0)
    assert not fence.admits(("f", "a"), 2, 0.0)
    assert fence.admits(("f", "b"), 0, 0.0)
    assert fence.admits(("f", "a"), 3, 0.0)
    assert fence.admits(("f", "c"), 1, 0.0)
    assert len(fence) == 2
    assert (fence.highest(("f", "a")), fence.highest(("f", "b"))) == (3, -1)


def test_the_fence_forgets_what_may_have_begun_anew() -> None:
    """Six days after the last answer of a session: a day later the mesh has forgotten one that ended."""
    fence = Fence()
    assert fence.admits(("f", "a"), 3, 0.0)
    assert fence.admits(("f", "b"), 3, 10.0)
    assert not fence.admits(("f", "a"), 0, FENCED_SECONDS)
    assert fence.admits(("f", "a"), 0, FENCED_SECONDS + 1)
    assert not fence.admits(("f", "b"), 0, FENCED_SECONDS + 2)
