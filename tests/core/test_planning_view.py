"""The figures by which nodes tell each other of their sessions."""

from hypothesis import given
from hypothesis import strategies as st

from edged.core.planning.view import GROUPS, Figures, figures_of, told

COUNT = st.integers(0, 10_000)
RATE = st.integers(0, 10_000_000).map(lambda n: n / 1000)
TIME = st.integers(0, 10_000_000).map(lambda n: n / 1e6)
FIGURES = st.builds(
    Figures,
    local=COUNT,
    queued=COUNT,
    held=COUNT,
    granted=COUNT,
    fixed=COUNT,
    held_rate=RATE,
    fixed_rate=RATE,
    service_local=TIME,
    service_remote=TIME,
    free=COUNT,
    rates=st.lists(RATE, max_size=GROUPS).map(tuple),
)


@given(FIGURES)
def test_figures_arrive_as_they_were_told(figures: Figures) -> None:
    """What is read is what was told, to a thousandth of a call and a microsecond."""
    assert figures_of(told(figures)) == figures


@given(st.one_of(st.none(), st.text(), st.lists(st.one_of(st.integers(), st.text(), st.none(), st.floats()))))
def test_what_is_no_figures_is_none(value: object) -> None:
    """Whatever a peer sends, reading it gives figures or None and never raises."""
    found = figures_of(value)
    assert found is None or told(found)[:6] == list(value)[:6]  # type: ignore[call-overload]
