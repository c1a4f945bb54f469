"""The paper's Fig. 3 and Fig. 4 with one's own numbers, as files. The only module that wants matplotlib.

Decides what the figures look like. Refuses to know where the numbers come from.
"""

from math import isfinite, nan
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from edgectl.plot import foot_of_cliffs
from edged.core.planning.latency import best

from .plan_text import Curve, Shares

SIZE = (7.0, 4.3)


def latency(curves: list[Curve], file: Path) -> None:
    """Mean latency by local-state sessions, an arrow at each minimum. Raises OSError, ValueError."""
    figure, axes = _axes("local-state sessions (containers of their own)", "mean latency [s]")
    for setting, points in curves:
        (line,) = axes.plot([p.k for p in points], [p.mean if isfinite(p.mean) else nan for p in points], label=f"{setting.clients} clients")
        lowest = best(points)
        if lowest:
            axes.annotate(
                f"{lowest.k}: {lowest.mean:.3g} s",
                (lowest.k, lowest.mean),
                (0, -34),
                textcoords="offset points",
                ha="center",
                color=line.get_color(),
                arrowprops={"arrowstyle": "->", "color": line.get_color()},
            )
    lows = [lowest.mean for _, points in curves if (lowest := best(points))]
    if lows:
        top = foot_of_cliffs([p.mean for p in points] for _, points in curves)
        axes.set_ylim(min(lows) - (top - min(lows)) * 0.18, top)
    _save(figure, axes, file)


def provision(curves: list[Shares], file: Path) -> None:
    """Containers a client by the number of clients. Raises OSError, ValueError."""
    figure, axes = _axes("clients", "containers a client")
    for share, points in curves:
        axes.plot([n for n, _ in points], [y for _, y in points], label=f"{share:.0%} local-state", drawstyle="steps-mid")
    axes.set_ylim(bottom=0)
    _save(figure, axes, file)


def _axes(x: str, y: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=SIZE, dpi=150, layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
    return figure, axes


def _save(figure: Figure, axes: Any, file: Path) -> None:
    axes.legend()
    figure.savefig(file, format="png")
