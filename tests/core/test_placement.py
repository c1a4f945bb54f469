"""Placement: which rule removes which node."""

import pytest

from edged.core.placement import Place, too_large, why_not

FINE = Place("a", "alive", "alive", ("gpu", "zone=hall-3"), 4)


@pytest.mark.parametrize(
    ("place", "require", "rule"),
    [
        (FINE, ("gpu",), ""),
        (FINE, (), ""),
        (FINE, ("gpu", "arm64", "cold"), 'the node lacks the label "arm64", the label "cold"'),
        (FINE._replace(slots=0), (), "the node has no container slots ([capacity] containers)"),
        (FINE._replace(memory=100), (), "one container of the function is to have more memory than the node has for all ([capacity] memory)"),
        (FINE._replace(memory=101), (), ""),
        (FINE._replace(state="drained"), (), "the node is drained"),
        (FINE._replace(status="suspect"), (), "the node is suspect"),
        (FINE._replace(state=""), (), "no connection to the node"),
    ],
)
def test_the_first_rule_that_removes_a_node_is_named(place: Place, require: tuple[str, ...], rule: str) -> None:
    """Down before drained before capacity before labels; nothing for a node that may run it."""
    assert why_not(require, place, 101) == rule


def test_no_bound_keeps_nothing_off() -> None:
    """0 bytes for all containers means any number; else one that is larger than all is too large."""
    assert not too_large(1 << 60, 0)
    assert [too_large(limit, 10) for limit in (9, 10, 11)] == [False, False, True]
