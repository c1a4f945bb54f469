"""Pointers: which of two holds, and what a rollout makes of them."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.core.catalogue import (
    Catalogue,
    Pointer,
    deployed,
    in_canary,
    promoted,
    rolled_back,
    with_canary,
)

POINTERS = st.lists(
    st.builds(
        Pointer,
        st.just("f"),
        st.integers(1, 3),
        st.sampled_from(["n1", "n2"]),
        st.sampled_from(["", "a", "b"]),
        st.sampled_from(["", "c"]),
        st.integers(0, 2),
        st.sampled_from(["", "z"]),
    ),
    max_size=4,
)


@given(POINTERS)
def test_all_nodes_agree_in_whatever_order_they_hear(pointers: list[Pointer]) -> None:
    """Any order of the same pointers leads to the same catalogue."""
    ends = {tuple(Catalogue(order).all()) for order in permutations(pointers)}
    assert len(ends) == 1


def test_a_rollout() -> None:
    """Deploy, canary, promote, back, and back again: each step is newer than the one before."""
    steps = [deployed(None, "f", "n1", "a")]
    steps.append(with_canary(steps[-1], "n2", "b", 10))
    assert (steps[-1].hash, steps[-1].canary, steps[-1].share) == ("a", "b", 10)
    steps.append(promoted(steps[-1], "n1"))
    assert steps[-1][3:] == ("b", "", 0, "a")
    steps.append(rolled_back(steps[-1], "n1"))
    assert steps[-1][3:] == ("a", "", 0, "b")
    steps.append(rolled_back(steps[-1], "n1"))
    assert steps[-1][3:] == ("b", "", 0, "a")
    steps.append(with_canary(steps[-1], "n1", "c", 50))
    steps.append(rolled_back(steps[-1], "n1"))
    assert steps[-1][3:] == ("b", "", 0, "a")
    steps.append(deployed(steps[-1], "f", "n1", ""))
    assert steps[-1][3:] == ("", "", 0, "b")
    assert [step.version for step in steps] == list(range(1, len(steps) + 1))


def test_what_cannot_be_rolled_out_is_refused() -> None:
    """No canary without a version beside it, none to promote, nothing to go back to."""
    first = deployed(None, "f", "n1", "a")
    removed = deployed(first, "f", "n1", "")
    for old, hash_, share in ((None, "a", 10), (removed, "b", 10), (first, "a", 10), (first, "b", 0)):
        with pytest.raises(ValueError, match="canary|deployed"):
            with_canary(old, "n1", hash_, share)
    with pytest.raises(ValueError, match="no canary"):
        promoted(first, "n1")
    for pointer in (first, removed):
        with pytest.raises(ValueError, match="no version before"):
            rolled_back(pointer, "n1")


def test_a_canary_gets_its_share_and_keeps_it() -> None:
    """About the share of many sessions, and a larger share only adds to them."""
    keys = [f"arm-{n}" for n in range(2000)]
    few = {key for key in keys if in_canary(key, 10)}
    more = {key for key in keys if in_canary(key, 30)}
    assert 140 < len(few) < 260
    assert few < more
    assert not any(in_canary(key, 0) for key in keys)
    assert all(in_canary(key, 100) for key in keys)
