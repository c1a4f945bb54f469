"""The tables of a session: whatever may happen has a row, or a reason, in every state."""

from typing import Any

import pytest

from edged.core.sessions import seat
from edged.core.transition import HELD_BACK, NEXT, OWNING, S

TABLES: dict[str, dict[S, Any]] = {
    "store": seat.STORE,
    "timer": seat.TIMER,
    "container_lost": seat.CONTAINER_LOST,
    "peer": seat.PEER,
    "lapsed": seat.LAPSED,
    "renewed": seat.RENEWED,
    "epoch_seen": seat.HIGHER_EPOCH,
}


@pytest.mark.parametrize("event", TABLES)
def test_every_state_has_a_row_or_a_reason(event: str) -> None:
    """No state is forgotten, and none has both."""
    rows = set(TABLES[event])
    assert rows | seat.NOTHING[event] == set(S)
    assert not rows & seat.NOTHING[event]


def test_every_event_has_a_table() -> None:
    """The reasons belong to tables that are there."""
    assert set(TABLES) == set(seat.NOTHING)


@pytest.mark.parametrize("state", sorted(OWNING))
def test_every_owner_can_be_fenced(state: S) -> None:
    """A lease may lapse at any step: the state is kept, and nobody is served."""
    assert S.FENCED in NEXT[state]


def test_nothing_leaves_from_behind_the_fence() -> None:
    """From there a session is served again, dropped, or set aside; no move begins."""
    assert NEXT[S.FENCED] == {S.LOCAL, S.ASIDE, S.FREE}
    assert not HELD_BACK & OWNING
