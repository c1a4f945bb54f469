"""Sessions in a mesh where everything goes wrong: what they promise holds in every world.

`python -m sim.mesh SEED`, in tests/, tells the story of one world; `make soak` runs a million others.
"""

from collections import Counter
from typing import NamedTuple

import pytest

from edged.core.transition import HOLDING, NEXT, OWNING, S

from .mesh import failure

SEEDS = 2500

RARE = (("store_applied", "own_killed"), S.FETCHING)
"""A claim was won without an answer, and its container is dead when the record tells: a tenth of these worlds
has that step, of all worlds one in a thousand."""

RARE_SEEDS = 200

WAITING = frozenset(S) - {S.FREE, S.LOCAL}
ON_STORE = frozenset({S.READING, S.COMMITTING, S.FETCHING, S.CLAIMING, S.RESTORING, S.RELEASING})
WITH_CONTAINER = HOLDING | {S.FETCHING, S.CLAIMING, S.RESTORING, S.INVITED, S.SEALED}

MUST_MEET: dict[str, frozenset[S]] = {
    "arrived": frozenset(S),
    "want": frozenset(S),
    "store_None": ON_STORE | {S.DOUBT, S.SEALED, S.LOCAL},
    "store_False": ON_STORE | {S.DOUBT, S.SEALED, S.LOCAL},
    "container_lost": WITH_CONTAINER,
    "timer": frozenset({S.STARTING, S.RESTORING, S.DOUBT, S.INVITED, S.SEALED}) | OWNING,
}
"""The states in which each thing that can happen to a session must have happened to one."""


class Told(NamedTuple):
    """What became of many worlds."""

    failures: list[str]
    steps: Counter[tuple[S, S]]
    seen: Counter[tuple[S, str]]


@pytest.fixture(scope="module")
def told() -> Told:
    """All worlds, once."""
    result = Told([], Counter(), Counter())
    worlds = [(seed, None, None) for seed in range(SEEDS)]
    for world in worlds + [(seed, *RARE) for seed in range(RARE_SEEDS)]:
        why, mesh = failure(*world)
        if why:
            result.failures.append(f"python -m sim.mesh {mesh.seed}: {why}, aimed: {world[1:]}")
        result.steps.update(mesh.steps)
        result.seen.update(mesh.seen)
    return result


def test_what_is_promised_holds_in_every_world(told: Told) -> None:
    """One owner an epoch, each call at most once, nothing acknowledged lost, everything answered."""
    assert not told.failures, "\n".join(told.failures)


def test_every_step_of_the_table_is_taken(told: Told) -> None:
    """The table allows no step that never happens; what is not in it would have failed a world."""
    taken = {step for step in told.steps if step[0] is not step[1]}
    allowed = {(state, following) for state, all_ in NEXT.items() for following in all_}
    assert allowed == taken


@pytest.mark.parametrize("event", MUST_MEET)
def test_every_state_meets_what_can_happen(told: Told, event: str) -> None:
    """Calls, wishes, failing stores, dying containers and deadlines come in every state that they can."""
    met = {state for state, what in told.seen if what == event}
    assert MUST_MEET[event] <= met, f"never met by {MUST_MEET[event] - met}"
