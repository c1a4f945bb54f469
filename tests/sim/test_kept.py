"""Targets that are killed with the session in hand, in whole meshes: the source's copy makes that no loss (reliability §2.5, step 7)."""

import pytest

from edged.core.effects import Effect
from edged.core.sessions import endings, leaving
from edged.core.sessions.actor import Actor
from edged.core.transition import S

from .mesh import Aim
from .worlds import Told, World, tell

pytestmark = pytest.mark.ahead

WORLDS = 60
KILLED = ("node_killed@sealed",)
"""A target, each time: before the record names it, or when it does and nobody has told it."""


def killed(durability: str) -> Told:
    """Worlds in which nothing else goes wrong."""
    return tell(World(seed, Aim(KILLED, S.SEALED, None, durability)) for seed in range(WORLDS))


@pytest.mark.parametrize("durability", ["none", "checkpoint", "sync"])
def test_no_acknowledged_call_is_lost_with_a_target_that_the_record_names(durability: str) -> None:
    """Whatever the function's class: from the source's copy, or from the record where that has everything."""
    told = killed(durability)
    assert not told.failures, told.failures
    assert told.counts["handed over"] > 10, "hardly ever did the record name a target that was dead"
    assert told.counts["overtaken"] == 0
    # Of the other classes the record has nearly always everything; `tests/e2e/test_target_lost.py` has one where it has not.
    assert told.counts["regained"] > 0 or durability != "none"


def test_a_copy_that_is_not_kept_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worlds are such that a source which forgets at once costs somebody acknowledged calls."""

    made = leaving.keep

    def keep(actor: Actor, now: float) -> list[Effect]:
        return [*made(actor, now), *endings.let_go(actor)]

    monkeypatch.setattr(leaving, "keep", keep)
    assert killed("none").counts["overtaken"] > 0
