"""Sessions in a mesh where everything goes wrong: what they promise holds in every world.

`python -m sim.mesh SEED`, in tests/, tells the story of one world; `make soak` runs a million others.
"""

from collections import Counter
from collections.abc import Iterator

import pytest

from edged.core.transition import HOLDING, NEXT, OWNING, S

from .mesh import Aim
from .worlds import Told, World, chunks, tell

SEEDS = 10_000

AIMED: tuple[tuple[int, Aim], ...] = (
    # The target of a migration dies, and its source over taking the session back: its container, itself for a while.
    (80, Aim(("node_killed@sealed", "own_killed@regaining"), S.KEEPING, "fence", "none")),
    (80, Aim(("node_killed@sealed", "node_paused@regaining"), S.REGAINING, "fence", "none")),
    (500, Aim(("node_killed@sealed", "store_refused", "store_lost"), S.REGAINING, "fence", "none")),
    # A claim was won without an answer, and its container is dead when the record tells.
    (200, Aim(("store_applied", "own_killed"), S.FETCHING)),
    # An owner that serves on without a lease is superseded, and one that fences.
    (300, Aim(("node_paused", "store_slow"), S.LOCAL, "keep")),
    (300, Aim(("node_cut",), S.LOCAL, "fence")),
    # It loses its container while its copy is set aside, or has a container that does nothing any more.
    (200, Aim(("node_cut", "own_killed@aside"), S.LOCAL, "fence")),
    (200, Aim(("node_cut", "verb_swallowed"), S.LOCAL, "fence")),
)
"""Steps that hardly happen by chance: how many worlds of what."""

WAITING = frozenset(S) - {S.FREE, S.LOCAL}
ON_STORE = frozenset({S.KEEPING, S.REGAINING, S.READING, S.COMMITTING, S.FETCHING, S.CLAIMING, S.RESTORING, S.RELEASING})
WITH_CONTAINER = HOLDING | {S.KEEPING, S.REGAINING, S.FETCHING, S.CLAIMING, S.RESTORING, S.INVITED, S.SEALED}

MUST_MEET: dict[str, frozenset[S]] = {
    "arrived": frozenset(S),
    "want": frozenset(S) - {S.ASIDE, S.ASKING, S.REGAINING},
    "store_None": ON_STORE | {S.DOUBT, S.FENCED, S.SEALED, S.LOCAL},
    "store_False": ON_STORE | {S.DOUBT, S.FENCED, S.SEALED, S.LOCAL},
    "container_lost": WITH_CONTAINER,
    "timer": frozenset({S.STARTING, S.RESTORING, S.ASIDE, S.DOUBT, S.KEEPING, S.YIELDING, S.FENCED, S.INVITED, S.SEALED})
    | OWNING,
    "lapsed": OWNING | {S.FENCED, S.CLAIMING, S.RESTORING, S.RELEASING, S.DOUBT, S.SEALED},
    "renewed": frozenset({S.LOCAL, S.COPYING, S.FENCED, S.RELEASING, S.DOUBT, S.SEALED}),
}
"""The states in which each thing that can happen to a session must have happened to one."""


WORLDS = [World(seed) for seed in range(SEEDS)] + [World(seed, aim) for count, aim in AIMED for seed in range(count)]

pytestmark = pytest.mark.ahead_of(tell, chunks(WORLDS))


@pytest.fixture(scope="module")
def told(results: Iterator[Told]) -> Told:
    """All worlds, once."""
    result = Told(0, [], Counter(), Counter(), Counter())
    for part in results:
        result.failures.extend(part.failures)
        result.steps.update(part.steps)
        result.seen.update(part.seen)
        result.counts.update(part.counts)
    return result


def test_what_is_promised_holds_in_every_world(told: Told) -> None:
    """One owner an epoch, each call at most once, nothing acknowledged lost, everything answered."""
    assert not told.failures, "\n".join(told.failures)


def test_every_step_of_the_table_is_taken(told: Told) -> None:
    """The table allows no step that never happens; what is not in it would have failed a world."""
    assert told.counts["takeovers"] > 100
    assert told.counts["set aside"] > 50
    taken = {step for step in told.steps if step[0] is not step[1]}
    allowed = {(state, following) for state, all_ in NEXT.items() for following in all_}
    assert allowed == taken


@pytest.mark.parametrize("event", MUST_MEET)
def test_every_state_meets_what_can_happen(told: Told, event: str) -> None:
    """Calls, wishes, failing stores, dying containers and deadlines come in every state that they can."""
    met = {state for state, what in told.seen if what == event}
    assert MUST_MEET[event] <= met, f"never met by {MUST_MEET[event] - met}"
