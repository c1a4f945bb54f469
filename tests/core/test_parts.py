"""A stored state and its deltas, as one blob for a container."""

import pytest

from edged.core.parts import for_container
from edged_protocol.codec import pack, unpack

BASE = pack({"a": 1, "b": [2]})
DELTAS = (pack([{"a": 5, "c": 3}, []]), pack([{}, ["b", "never"]]))


def test_a_state_without_deltas_is_itself() -> None:
    """Nothing is packed around it, whoever gets it."""
    assert for_container(BASE, (), True) == for_container(BASE, (), False) == (BASE, False)


def test_a_container_that_speaks_of_deltas_gets_them_unread() -> None:
    """State and deltas in their order, even if they are no msgpack at all."""
    blob, parts = for_container(b"\xc1", (b"\xc1", b"x"), True)
    assert parts
    assert unpack(blob or b"") == [b"\xc1", b"\xc1", b"x"]


@pytest.mark.parametrize(
    ("state", "deltas", "whole"),
    [
        (BASE, DELTAS, {"a": 5, "c": 3}),
        (None, DELTAS, {"a": 5, "c": 3}),
        (BASE, (pack([pack([7])]),), [7]),
        (pack([1]), (pack([pack([7])]), pack([pack([8])])), [8]),
    ],
)
def test_another_container_gets_what_they_add_up_to(state: bytes | None, deltas: tuple[bytes, ...], whole: object) -> None:
    """The deltas of the Python runtime become one state again."""
    blob, parts = for_container(state, deltas, False)
    assert not parts
    assert unpack(blob or b"") == whole


@pytest.mark.parametrize("deltas", [(b"\xc1",), (pack([1, 2, 3]),), (pack(1),), (pack([{}, [["x"]]]),)])
def test_what_cannot_be_added_up_is_never_dropped(deltas: tuple[bytes, ...]) -> None:
    """A container gets parts that it may refuse rather than a state without its changes."""
    blob, parts = for_container(BASE, deltas, False)
    assert parts
    assert unpack(blob or b"") == [BASE, *deltas]
