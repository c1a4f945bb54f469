"""Deltas: pieces read off a living state at any pace add up to exactly that state."""

import copy
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.states import ROOMY, STATES, STEPS, Step

from edged.sdk import changes
from edged.sdk.changes import FROM_NOTHING, ChangeLog, Stale
from edged.sdk.staging import Staged
from edged.sdk.state import Kind, State
from edged.sdk.tracked import StateError, pack, unpack

CALLS = st.lists(st.tuples(st.lists(STEPS, max_size=5), st.booleans()), max_size=3)
LIMITS = st.integers(1, 40)


class Reader:
    """One that follows a state, from nothing or on top of what it was loaded from."""

    def __init__(self, kind: Kind, since: int, base: bytes | None) -> None:
        self.since = since
        self.digest = since == FROM_NOTHING
        self.copy = Staged(kind)
        self.copy.base(base)

    def read(self, state: State, limit: int) -> int:
        """Take one piece; about how much is left."""
        delta = state.delta(self.since, limit, self.digest)
        self.copy.put(delta.data)
        self.since = delta.serial
        if self.digest and not delta.left:
            assert delta.digest == self.copy.digest
        return delta.left

    def catch_up(self, state: State) -> Any:
        """Read to the end; the state as this reader has it."""
        while self.read(state, 1):
            pass
        self.read(state, ROOMY)
        return unpack(copy.deepcopy(self.copy).made().packed())


def call(state: State, steps: list[Step], fails: bool) -> None:
    """One call, kept or undone."""
    state.begin()
    for step in steps:
        step(state.value)
    if fails:
        state.undo()
    else:
        state.pause()
        state.commit(ROOMY)


@given(STATES, st.lists(st.tuples(CALLS, st.integers(0, 1), LIMITS), max_size=8), st.booleans())
def test_pieces_add_up_to_the_state_whatever_happens_between(
    values: Any, rounds: list[tuple[Any, int, int]], short: bool
) -> None:
    """Two readers, one from nothing and one from the loaded state, take pieces of any size between calls that
    change, delete, share and raise; in the end each has exactly the state, and both ends the same digest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(changes, "SLACK", 2 if short else 1024)
        kind, blob = Kind(dict), pack(values)
        state = kind.make(blob)
        state.follow()
        readers = [Reader(kind, FROM_NOTHING, None), Reader(kind, 0, blob)]
        for calls, which, limit in rounds:
            for steps, fails in calls:
                call(state, steps, fails)
            try:
                readers[which].read(state, limit)
            except Stale:
                assert short
                readers[which] = Reader(kind, FROM_NOTHING, None)
        for reader in readers:
            try:
                assert reader.catch_up(state) == unpack(state.packed())
            except Stale:
                assert short


@given(st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=300), st.integers(0, 300))
def test_a_log_stays_as_long_as_its_state_and_says_when_it_was_cut(
    steps: list[tuple[int, bool]], at: int
) -> None:
    """However often keys come and go, the log is bounded; a reader it no longer reaches is told so."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(changes, "SLACK", 8)
        log, alive, seen, since = ChangeLog(), dict[str, int](), dict[str, int](), 0
        for number, (key, there) in enumerate(steps):
            if there:
                alive[str(key)] = number
            else:
                alive.pop(str(key), None)
            log.note(str(key))
            log.shorten(alive)
            assert log.behind(FROM_NOTHING) <= 2 * len(alive) + 8 + 1
            if number == at:
                since, seen = log.head, dict(alive)
        try:
            for _, changed in log.after(since, alive):
                seen.pop(changed, None)
                if changed in alive:
                    seen[changed] = alive[changed]
        except Stale:
            return
        assert at >= len(steps) or seen == alive


def test_a_piece_costs_the_touched_keys_only() -> None:
    """Of a large state a delta after one call holds the one key it changed."""
    state = Kind(dict).make(pack({str(n): bytes(100) for n in range(1000)}))
    state.follow()
    call(state, [lambda s: s.__setitem__("7", 1)], fails=False)
    delta = state.delta(0, ROOMY, digest=False)
    assert unpack(delta.data) == [{"7": 1}, []]


def test_a_state_is_taken_in_pieces_of_the_size_asked_for() -> None:
    """No piece is longer than its limit by more than one entry, and all of them say how much is left."""
    state = Kind(dict).make(pack({str(n): bytes(100) for n in range(1000)}))
    state.follow()
    since, left, pieces = FROM_NOTHING, 1, 0
    while left:
        delta = state.delta(since, 1000, digest=True)
        assert len(delta.data) < 1000 + 150
        since, left, pieces = delta.serial, delta.left, pieces + 1
    assert 95 < pieces < 120


@dataclass
class Point:
    x: int = 0
    tags: list[str] = field(default_factory=list)


def test_a_dataclass_is_taken_by_field_with_the_defaults_that_nobody_stored() -> None:
    """Fields the store never had are part of the first delta; later ones hold the changed fields."""
    kind = Kind(Point)
    state = kind.make(pack({"x": 4}))
    state.follow()
    first = state.delta(0, ROOMY, digest=False)
    assert unpack(first.data) == [{"tags": []}, []]
    call(state, [lambda s: s.tags.append("a")], fails=False)
    assert unpack(state.delta(first.serial, ROOMY, digest=False).data) == [{"tags": ["a"]}, []]
    reader = Reader(kind, FROM_NOTHING, None)
    assert reader.catch_up(state) == {"x": 4, "tags": ["a"]}


def test_an_opaque_state_is_taken_whole_or_not_at_all() -> None:
    """A state of the function's own making comes as its dump, and as nothing where nothing changed."""
    kind = Kind(set, load=set, dump=sorted)
    state = kind.make(pack([1]))
    state.follow()
    assert state.delta(0, 1, digest=False).data == b""
    call(state, [lambda s: s.add(2)], fails=False)
    delta = state.delta(0, 1, digest=True)
    staged = Staged(kind)
    staged.put(delta.data)
    assert staged.made().value == {1, 2}
    assert staged.digest == delta.digest


@pytest.mark.parametrize("shape", [Kind(dict), Kind(set, load=set, dump=sorted)])
@pytest.mark.parametrize("data", [b"\xc1", pack(1), pack([]), pack([1]), pack([{}, 1]), pack([1, 2, 3]), pack([{5: 1}, []])])
def test_what_is_no_delta_is_refused(shape: Kind, data: bytes) -> None:
    """Garbage, and the delta of another kind of state, are an error and not a state."""
    with pytest.raises(StateError):
        Staged(shape).put(data)
