"""A refused call goes once more or not: the whole grid."""

from itertools import product

import pytest

from edged.core.calls import Call
from edged.core.rerouting import MAX_REROUTES, WRONG_PLACE, offered_again, routed_again

GRID = list(product((False, True), (0, 1, 2), range(MAX_REROUTES + 1)))
"""Answered already, hops, second thoughts so far."""


def a_call(answered: bool, hops: int, reroutes: int) -> Call:
    call = Call("client", 1, "f", "s", "m", bytes(16), 0.0, 1.0, b"", None)
    call.answered, call.hops, call.reroutes = answered, hops, reroutes
    return call


@pytest.mark.parametrize(("answered", "hops", "reroutes"), GRID)
def test_only_its_broker_offers_it_again(answered: bool, hops: int, reroutes: int) -> None:
    """While somebody waits for it, and twice at most; what goes again is counted, what does not is not."""
    call = a_call(answered, hops, reroutes)
    goes = offered_again(call)
    assert goes == (not answered and hops == 0 and reroutes < MAX_REROUTES)
    assert call.reroutes == reroutes + goes


@pytest.mark.parametrize("code", WRONG_PLACE)
@pytest.mark.parametrize(("answered", "hops", "reroutes"), GRID)
def test_every_node_on_its_way_may_correct_a_hint(answered: bool, hops: int, reroutes: int, code: int) -> None:
    """As above, but after a hop too; a function that nobody knows is not looked for again."""
    call = a_call(answered, hops, reroutes)
    goes = routed_again(call, code)
    assert goes == (not answered and reroutes < MAX_REROUTES and code != 204)
    assert call.reroutes == reroutes + goes
