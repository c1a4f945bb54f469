"""Curves in a terminal: eight dots a character, a frame with the numbers that matter, marks where something is.

Decides scales and where dots go. Refuses to know what the curves mean. A plotting library would be the alternative;
none is worth a dependency of a daemon.
"""

from collections.abc import Iterable, Sequence
from math import ceil, floor, isfinite, log10
from typing import NamedTuple

from rich.text import Text

WIDTH, HEIGHT = 72, 18
"""Characters of the area inside the frame: fits a terminal of 80 by 24."""

HIGH = 2.0
"""Times the least of a curve up to which it is drawn, in any case."""

MOST = 0.75
"""Of a curve's points that are drawn, in any case: where one point is far better than all others these are no cliff."""

LEAST = 1e-100
"""Between two numbers that are not the same point: what is less has no power of ten that could be reckoned with."""

STYLES = ("cyan", "yellow", "magenta", "green", "red", "blue")
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
_BLANK = 0x2800


class Series(NamedTuple):
    """A curve: its name and points by rising x; gaps where y is no finite number."""

    name: str
    points: Sequence[tuple[float, float]]


class Mark(NamedTuple):
    """One character at a point."""

    x: float
    y: float
    sign: str


class Axis(NamedTuple):
    """What a range of numbers is, and how it is said."""

    label: str
    low: float
    high: float

    def at(self, value: float, cells: int) -> int:
        """Which of `cells` a value falls into; outside it may be any other number."""
        span = self.high - self.low or 1.0
        part = min(max((value - self.low) / span, -1.0), 2.0)  # far outside is no number of cells any more
        return round(part * (cells - 1))


def foot_of_cliffs(curves: Iterable[Iterable[float]], shown: Iterable[float] = ()) -> float:
    """The `top` for curves that rise without end somewhere; `shown` are values that must not be left out."""
    tops = [value for value in shown if isfinite(value)]
    for curve in curves:
        values = sorted(filter(isfinite, curve))
        if values:
            tops.append(max(HIGH * values[0], values[ceil(MOST * len(values)) - 1]))
    return max(tops, default=0.0)


def draw(
    series: Sequence[Series],
    marks: Iterable[Mark] = (),
    *,
    x: str,
    y: str,
    top: float | None = None,
    width: int = WIDTH,
    height: int = HEIGHT,
) -> Text:
    """All curves in one frame. What lies above `top` is left out: a cliff must not flatten all else."""
    points = [p for one in series for p in one.points if isfinite(p[1]) and (top is None or p[1] <= top)]
    if not points:
        return Text(f"no point of {y} to draw")
    across = Axis(x, min(p[0] for p in points), max(p[0] for p in points))
    up = Axis(y, *_round_range(min(p[1] for p in points), max(p[1] for p in points)))
    area = _Area(across, up, width, height)
    for index, one in enumerate(series):
        area.curve(one.points, STYLES[index % len(STYLES)])
    for mark in marks:
        area.mark(mark)
    return _framed(area, series)


class _Area:
    """The characters inside the frame."""

    def __init__(self, across: Axis, up: Axis, width: int, height: int) -> None:
        self.across, self.up = across, up
        self.width, self.height = width, height
        self._dots = [[0] * width for _ in range(height)]
        self._styles = [[""] * width for _ in range(height)]
        self._marks: dict[tuple[int, int], str] = {}

    def curve(self, points: Sequence[tuple[float, float]], style: str) -> None:
        for (x1, y1), (x2, y2) in zip(points, points[1:], strict=False):
            if isfinite(y1) and isfinite(y2):
                self._line((x1, y1), (x2, y2), style)
        for x, y in points:
            if isfinite(y):
                self._dot(x, y, style)

    def _line(self, start: tuple[float, float], end: tuple[float, float], style: str) -> None:
        """What of it lies inside the frame: two dots a character across, four down, so a step for each is enough."""
        (x, y), across, up = start, end[0] - start[0], end[1] - start[1]
        first, last = _inside(x, across, self.across)
        low, high = _inside(y, up, self.up)
        first, last = max(0.0, first, low), min(1.0, last, high)
        steps = self.width * 2 + self.height * 4
        for step in range(steps + 1) if first <= last else ():
            part = first + (last - first) * step / steps
            self._dot(x + across * part, y + up * part, style)

    def _dot(self, x: float, y: float, style: str) -> None:
        column, row = self.across.at(x, self.width * 2), self.height * 4 - 1 - self.up.at(y, self.height * 4)
        if 0 <= row < self.height * 4 and 0 <= column < self.width * 2:
            self._dots[row // 4][column // 2] |= _DOTS[row % 4][column % 2]
            self._styles[row // 4][column // 2] = style

    def mark(self, mark: Mark) -> None:
        if isfinite(mark.y):
            row = self.height - 1 - self.up.at(mark.y, self.height)
            self._marks[row, self.across.at(mark.x, self.width)] = mark.sign

    def line(self, row: int) -> Text:
        text = Text()
        for column in range(self.width):
            sign = self._marks.get((row, column))
            if sign is not None:
                text.append(sign, "bold")
            else:
                dots = self._dots[row][column]
                text.append(chr(_BLANK + dots) if dots else " ", self._styles[row][column])
        return text


def _inside(start: float, way: float, axis: Axis) -> tuple[float, float]:
    """Between which parts of its way a line is on the axis (Liang and Barsky)."""
    if way == 0:
        return (0.0, 1.0) if axis.low <= start <= axis.high else (1.0, 0.0)
    ends = (axis.low - start) / way, (axis.high - start) / way
    return min(ends), max(ends)


def _framed(area: _Area, series: Sequence[Series]) -> Text:
    labels = {0: number(area.up.high), area.height - 1: number(area.up.low)}
    labels[(area.height - 1) // 2] = number(_middle(area))
    room = max(map(len, labels.values()))
    whole = Text(f"{' ' * room} {area.up.label}\n")
    for row in range(area.height):
        label = labels.get(row, "")
        whole.append(f"{label.rjust(room)} {'┤' if label else '│'}").append_text(area.line(row)).append("\n")
    low, high = number(area.across.low), number(area.across.high)
    middle = area.across.label.center(area.width - len(low) - len(high))
    whole.append(f"{' ' * room} └{'─' * area.width}\n{' ' * room}  {low}{middle}{high}")
    if len(series) > 1:
        whole.append(f"\n{' ' * room}  ")
        for index, one in enumerate(series):
            whole.append("━━ ", STYLES[index % len(STYLES)]).append(f"{one.name}   ")
    return whole


def _middle(area: _Area) -> float:
    return area.up.high - (area.up.high - area.up.low) * ((area.height - 1) // 2) / (area.height - 1)


def _round_range(low: float, high: float) -> tuple[float, float]:
    """A little wider, ending on round numbers."""
    span = max(high - low, abs(high) * 1e-9)
    step = 10 ** floor(log10(span)) / 10 if span > LEAST else 1.0
    return floor(low / step) * step, ceil(high / step) * step


def number(value: float) -> str:
    """Four digits are enough to read a curve by."""
    return f"{value:.4g}"
