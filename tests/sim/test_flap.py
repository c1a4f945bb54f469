"""Connections that end while a state is copied, in whole meshes, and come back: the copy goes on (reliability §2.5, step 3)."""

import pytest

from edged.core.transition import S

from .mesh import Aim
from .worlds import World, tell

pytestmark = pytest.mark.ahead

WORLDS = 80


def test_a_connection_that_comes_back_costs_no_migration() -> None:
    """The connection of source and target ends at every step of copying, for up to five seconds: what was promised holds,
    and nearly every copy comes to its end."""
    told = tell(World(seed, Aim(("link_cut@copying", "tell_twice"))) for seed in range(WORLDS))
    assert not told.failures, told.failures
    ended, given_up = told.steps[S.COPYING, S.DRAINING], told.steps[S.COPYING, S.LOCAL]
    assert ended > 5
    assert ended > 4 * given_up
