"""Curves in a terminal: every point is where it belongs, and nothing is drawn outside the frame."""

from math import inf, nan

from hypothesis import example, given
from hypothesis import strategies as st

from edgectl.plot import HEIGHT, WIDTH, Mark, Series, draw, foot_of_cliffs

NUMBER = st.floats(-1e9, 1e9) | st.sampled_from([inf, nan])
POINTS = st.lists(st.tuples(st.floats(-1e6, 1e6), NUMBER), min_size=1, max_size=30).map(
    lambda points: sorted(points, key=lambda p: p[0])
)


@given(st.lists(POINTS, min_size=1, max_size=3), st.none() | st.floats(-10, 10))
@example([[(0.0, 3.0), (0.0, -6.6e-296)]], 0.0)
@example([[(0.0, 0.0), (5e-324, 5e-324), (1.0, nan)]], None)
def test_any_curve_fits_its_frame(curves: list[list[tuple[float, float]]], top: float | None) -> None:
    """As many lines of as many characters as asked for, whatever the numbers are."""
    text = draw([Series("one", points) for points in curves], x="x", y="y", top=top).plain
    lines = text.splitlines()
    if len(lines) > 1:
        areas = [line.partition("│")[2] or line.partition("┤")[2] for line in lines[1 : HEIGHT + 1]]
        assert [len(area) for area in areas] == [WIDTH] * HEIGHT
    else:
        assert text == "no point of y to draw"


def test_ends_and_marks_are_in_place() -> None:
    """A rising line goes from the lower left to the upper right corner; its mark is in the middle."""
    text = draw([Series("up", [(0, 0.0), (10, 10.0)])], [Mark(5, 5.0, "▼")], x="x", y="y", width=21, height=11)
    lines = [line.partition("│")[2] or line.partition("┤")[2] for line in text.plain.splitlines()[1:12]]
    assert lines[0][-1] != " "
    assert lines[-1][0] != " "
    assert lines[5][10] == "▼"
    assert lines[0][0] == lines[-1][-1] == " "


def test_a_cliff_is_cut_off() -> None:
    """What lies above `top` does not flatten the rest, and is not drawn."""
    text = draw([Series("cliff", [(0, 1.0), (1, 2.0), (2, 1e9)])], x="x", y="y", top=3.0).plain
    assert text.splitlines()[1].strip().startswith("2 ┤")


def test_a_frame_ends_at_the_foot_of_the_cliff() -> None:
    """Twice the least, or where three quarters of a curve are: one point that is far better than all others makes no
    cliff of these. What must be seen is."""
    cliff = [3.0, 2.5, 2.3, 2.4, 900.0, inf, nan]
    assert foot_of_cliffs([cliff]) == 4.6
    assert foot_of_cliffs([[50.0, 49.0, 48.0, 1.0]]) == 49.0
    assert foot_of_cliffs([cliff, [50.0, 49.0, 48.0, 1.0]], [60.0, inf]) == 60.0
    assert foot_of_cliffs([[inf], []]) == 0.0
