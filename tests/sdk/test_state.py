"""States: what a handler touched is followed, kept or undone, as if the whole state had been copied."""

import copy
import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.states import ROOMY, STATES, STEPS, UNORDERED, Step

from edged.sdk.state import DictState, Kind
from edged.sdk.tracked import StateError, StateTooLarge, Tracked, pack, unpack


@given(STATES, st.lists(st.lists(STEPS, max_size=6), max_size=4))
def test_an_undone_call_leaves_what_a_deep_copy_would(values: Any, calls: list[list[Step]]) -> None:
    """After any handler that raises, the state equals a deep copy taken before it."""
    state = DictState(copy.deepcopy(values))
    for steps in calls:
        before = copy.deepcopy(dict(state.value))
        state.begin()
        for step in steps:
            step(state.value)
        state.undo()
        assert state.value == before
        assert unpack(state.packed()) == before


@given(STATES, st.lists(st.tuples(st.lists(UNORDERED, max_size=5), st.booleans()), max_size=5))
def test_local_calls_see_what_remote_calls_would(values: Any, calls: list[tuple[list[Step], bool]]) -> None:
    """A state kept in memory equals one packed and unpacked around every call, whatever was shared or raised.

    Except for the order of keys, which an undone deletion may change.
    """
    kind = Kind(dict)
    local, blob = kind.make(pack(values)), pack(values)
    for steps, fails in calls:
        remote = kind.make(blob)
        local.begin()
        for step in steps:
            step(local.value)
            step(remote.value)
        if fails:
            local.undo()
        else:
            local.pause()
            changed = local.commit(ROOMY)
            new = kind.changed(remote, blob, ROOMY)
            assert (unpack(new or blob) != unpack(blob)) <= changed
            blob = new or blob
        assert unpack(local.packed()) == unpack(blob)


@given(STATES, st.lists(STEPS, max_size=8))
def test_the_running_size_is_the_packed_size(values: Any, steps: list[Step]) -> None:
    """A local commit is allowed at exactly the size the packed state has, and refused one byte below."""
    state = DictState(copy.deepcopy(values))
    for step in steps:
        state.begin()
        step(state.value)
        state.pause()
        size = len(state.packed())
        if state.value.before:
            with pytest.raises(StateTooLarge):
                state.commit(size - 1)
        state.commit(size)


@given(st.lists(st.integers(0, 3), unique=True), st.integers(0, 4))
def test_popitem_is_undone_in_place(keys: list[int], count: int) -> None:
    """Keys taken off the end come back in their order."""
    state = Tracked({str(key): [key] for key in keys})
    state.begin()
    for _ in range(min(count, len(keys))):
        state.popitem()
    state.undo()
    assert list(state) == [str(key) for key in keys]


def test_an_undo_costs_the_touched_keys_only() -> None:
    """Of a large state only the key a handler read is copied."""
    state = DictState({str(n): [n] for n in range(1000)})
    state.begin()
    state.value["7"].append(1)
    assert list(state.value.before) == ["7"]


def test_a_kept_reference_cannot_change_a_later_state() -> None:
    """What a handler keeps of the state is its own once the call is over."""
    state = DictState({"a": [1]})
    state.begin()
    kept = state.value["a"]
    state.pause()
    state.commit(ROOMY)
    kept.append("smuggled")
    assert state.value["a"] == [1]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda s: s.__setitem__("x", {1, 2}), "set"),
        (lambda s: s.__setitem__("x", 1 << 70), "out of range"),
        (lambda s: s.__setitem__("x", "\ud800"), "surrogates"),
        (lambda s: s.__setitem__(5, 1), "keys are strings"),
        (lambda s: s.__setitem__("x", {5: 1}), "map key"),
        (lambda s: s.__setitem__("x", {(1, 2): 1}), "list"),
        (lambda s: s["nest"].append(s["nest"]), "recursion"),
    ],
)
def test_what_cannot_be_stored_is_refused_and_undone(change: Step, word: str) -> None:
    """The call that puts something unstorable into a state fails, in both modes, and leaves the state alone."""
    kind = Kind(dict)
    blob = pack({"nest": []})
    local, remote = kind.make(blob), kind.make(blob)
    local.begin()
    change(local.value)
    change(remote.value)
    local.pause()
    with pytest.raises(StateError, match=word):
        local.commit(ROOMY)
    local.undo()
    assert local.packed() == blob
    with pytest.raises(StateError, match="map key" if word == "keys are strings" else word):
        kind.changed(remote, blob, ROOMY)


def test_keys_of_bytes_are_refused_in_both_modes() -> None:
    """msgpack would read them back, but a state's own keys are text: what remote-state took, local-state would refuse."""
    kind = Kind(dict)
    local, remote = kind.make(None), kind.make(None)
    local.begin()
    local.value[b"k"] = remote.value[b"k"] = 1
    local.pause()
    with pytest.raises(StateError, match="keys are strings"):
        local.commit(ROOMY)
    with pytest.raises(StateError, match="keys are strings"):
        kind.changed(remote, None, ROOMY)


def test_a_state_travels_through_json_and_deepcopy() -> None:
    """A handler may hand its state to code that wants a dict."""
    state = DictState({"a": [1], "b": {"c": 2}})
    state.begin()
    assert json.loads(json.dumps(state.value)) == {"a": [1], "b": {"c": 2}}
    assert type(copy.deepcopy(state.value)) is dict
    assert isinstance(state.value, dict)


@dataclass
class Arm:
    n: int = 0
    trace: list[int] = field(default_factory=list)
    at: tuple[int, int] = (0, 0)
    label: str = field(default="arm", init=False)

    def push(self, value: int) -> None:
        self.n += 1
        self.trace.append(value)


@dataclass(frozen=True, slots=True)
class Frozen:
    n: int = 0


def test_a_dataclass_is_undone_by_field() -> None:
    """Changes of fields, and inside them, are taken back; only touched fields are copied."""
    state = Kind(Arm).make(pack({"n": 2, "trace": [1, 2], "label": "left"}))
    state.begin()
    state.value.push(9)
    assert "at" not in state.value._edged_cells.before
    state.undo()
    assert asdict(state.value) == {"n": 2, "trace": [1, 2], "at": [0, 0], "label": "left"}


def test_a_dataclass_keeps_its_looks() -> None:
    """The state compares, prints and is replaced like any instance of its class."""
    state = Kind(Arm).make(pack({"n": 1, "at": [3, 4]}))
    assert isinstance(state.value, Arm)
    assert state.value == Arm(n=1, at=[3, 4])  # type: ignore[arg-type]
    assert repr(state.value) == repr(Arm(n=1, at=[3, 4]))  # type: ignore[arg-type]
    assert replace(state.value, n=5).n == 5


def test_a_dataclass_commits_what_changed() -> None:
    """The packed form holds the fields as a map."""
    state = Kind(Arm).make(None)
    state.begin()
    state.value.push(9)
    state.pause()
    assert state.commit(ROOMY)
    assert unpack(state.packed()) == {"n": 1, "trace": [9], "at": [0, 0], "label": "arm"}


def test_a_frozen_dataclass_is_replaced() -> None:
    """A state that cannot change can be replaced, and that is undone too."""
    state = Kind(Frozen).make(None)
    state.begin()
    state.replace(replace(state.value, n=3))
    assert state.value.n == 3
    state.undo()
    assert state.value.n == 0


def test_fields_of_a_newer_version_survive() -> None:
    """An older class leaves alone what it does not know."""
    state = Kind(Frozen).make(pack({"n": 1, "later": [1]}))
    state.begin()
    state.replace(Frozen(2))
    state.pause()
    state.commit(ROOMY)
    assert unpack(state.packed()) == {"n": 2, "later": [1]}


def test_an_opaque_state_is_undone_by_loading() -> None:
    """A state of the function's own making goes back to its last committed form."""
    kind = Kind(set, load=set, dump=sorted)
    state = kind.make(None)
    state.begin()
    state.value.add(1)
    state.pause()
    assert state.commit(ROOMY)
    state.begin()
    state.value.add(2)
    state.undo()
    assert state.value == {1}
    assert unpack(state.packed()) == [1]


def test_a_new_state_is_stored_unless_it_is_an_empty_dict() -> None:
    """Reading a dict session that does not exist makes none; a dataclass may have random defaults."""
    for shape, stored in ((dict, None), (Frozen, pack({"n": 0}))):
        kind = Kind(shape)
        assert kind.changed(kind.make(None), None, ROOMY) == stored


@pytest.mark.parametrize(
    ("arguments", "word"),
    [((int,), "dataclass"), ((set, set, None), "belong together"), ((type("X", (), {}),), "dataclass")],
)
def test_an_impossible_declaration_is_refused(arguments: tuple[Any, ...], word: str) -> None:
    """A state type that cannot be stored is named when the function is imported."""
    with pytest.raises(TypeError, match=word):
        Kind(*arguments)


def test_a_dataclass_without_a_default_is_refused() -> None:
    """Sessions start empty, so every field needs a default; the message names those that have none."""

    @dataclass
    class Needy:
        here: int
        there: int = 0

    with pytest.raises(TypeError, match="default for here"):
        Kind(Needy)


def test_a_stored_state_of_another_shape_is_refused() -> None:
    """What is no map cannot become a dict state."""
    with pytest.raises(StateError, match="list"):
        Kind(dict).make(pack([1]))
