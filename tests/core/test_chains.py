"""Who may call whom: calls that wait for each other never wait in a circle, nor without end."""

from typing import Any

import pytest

from edged.core.chains import MAX_CHAIN, chain_of, why_not

CHAIN = (("arm", "7"), ("tool", None), ("cell", "2"))


@pytest.mark.parametrize(
    ("function", "session", "refused"),
    [
        ("arm", "7", True),
        ("cell", "2", True),
        ("arm", "8", False),
        ("cell", "7", False),
        ("arm", None, False),
        ("tool", None, False),
    ],
)
def test_a_session_of_the_chain_is_refused(function: str, session: str | None, refused: bool) -> None:
    """A call back into any session of its own chain is refused, any other is not; one without a session may repeat."""
    assert (why_not(CHAIN, function, session) is not None) is refused


def test_the_refusal_shows_the_chain() -> None:
    """Whoever reads it sees who waits for whom."""
    assert "arm/7 -> tool -> cell/2 -> arm/7" in (why_not(CHAIN, "arm", "7") or "")


def test_a_chain_has_an_end() -> None:
    """A recursion through ever new sessions is refused at the bound."""
    chain = tuple(("f", str(number)) for number in range(MAX_CHAIN))
    assert why_not(chain[:-1], "f", "new") is None
    assert str(MAX_CHAIN) in (why_not(chain, "f", "new") or "")


@pytest.mark.parametrize(
    "value",
    [None, "x", [["f"]], [["f", 1]], [[1, "s"]], ["fs"], [["f", "s", "more"]], [["f", "s"]] * (MAX_CHAIN + 1)],
)
def test_what_is_no_chain_counts_as_none(value: Any) -> None:
    """A peer's mistake is not taken for a chain."""
    assert chain_of(value) == ()


def test_a_chain_survives_the_wire() -> None:
    """What was written as arrays is read as it was."""
    assert chain_of([list(link) for link in CHAIN]) == CHAIN
