"""Sessions that share their containers with others, in whole meshes: what is promised to each holds all the same (DESIGN §8)."""

from collections.abc import Iterable

import pytest

from edged.core.calls import Call
from edged.core.transition import S
from edged.core.turns import Turns

from .mesh import Aim
from .worlds import Told, World, tell

pytestmark = pytest.mark.ahead

WORLDS = 60

KINDS: tuple[tuple[str, ...] | None, ...] = (
    None,
    ("neighbour_stuck", "own_killed"),
    ("node_killed", "neighbour_stuck", "store_slow"),
    ("verb_swallowed", "neighbour_stuck", "link_cut"),
)


def shared(*kinds: tuple[str, ...] | None) -> Told:
    """Worlds in which calls of others come before and behind the session's, and some of them never end."""
    return tell(World(seed, Aim(kinds=each, shared=True)) for each in kinds for seed in range(WORLDS))


def test_what_is_promised_holds_beside_others() -> None:
    """Each call counts at most once and nothing acknowledged is lost, with whosever call a container dies."""
    told = shared(*KINDS)
    assert not told.failures, told.failures
    assert told.seen[S.LOCAL, "container_lost"] > 20, "hardly any container died"


def test_a_call_that_is_taken_back_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worlds are such that calls which were given ahead and are given once more take effect twice."""
    made = Turns.finished

    def finished(turns: Turns, done: Iterable[tuple[Call, float | None]], now: float) -> None:
        made(turns, done, now)
        while len(turns._held) > 1:
            turns.add(turns._held.pop())

    monkeypatch.setattr(Turns, "finished", finished)
    assert any("took effect twice" in why for why in shared(None).failures)
