"""What `edged sim` prints: one table, one curve, one document.

Decides how figures are said. Refuses to know how they came about.
"""

from dataclasses import asdict
from typing import Any

from rich import box
from rich.console import RenderableType
from rich.table import Table

from edgectl.plot import Mark, Series, draw, foot_of_cliffs
from edged.lab.account import Latency, Result
from edged.lab.compare import Comparison

from . import plan_text


def show(outcome: Comparison) -> None:
    """For people."""
    plan_text.show(_modes(outcome))
    plan_text.show(_table(outcome))
    plan_text.show(_plot(outcome))


def _seconds(value: float) -> str:
    return f"{value:.3f}" if value >= 0.1 or value == 0 else f"{value * 1000:.2f} ms"


def _table(outcome: Comparison) -> Table:
    scenario = outcome.scenario
    title = f"{scenario.title or scenario.name}: seed {scenario.seed}, {scenario.duration:g} s; latency in seconds"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("", "mean", "± 95 %", "p50", "p95", "p99", "local", "moves", "store", "B/call", "busy", "given up", "missed"):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    for name, result in outcome.rows:
        style = "bold green" if result is outcome.dynamic else "" if result.stable else "dim"
        table.add_row(name, *_cells(result), style=style)
    return table


def _cells(result: Result) -> list[str]:
    seen = result.latency["all"]
    times = [_seconds(value) for value in (seen.mean, seen.interval, seen.p50, seen.p95, seen.p99)]
    if not result.stable:
        times[0] += " ↑"
    share = [f"{result.share_local:.0%}", str(result.moves), _bytes(result.store_bytes), f"{result.store_bytes_per_call:.0f}"]
    return [*times, *share, f"{result.utilisation:.0%}", str(result.refused), f"{result.missed:.2%}"]


def _bytes(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.3g} GiB"


def _modes(outcome: Comparison) -> Table:
    """What calls see, by the mode in which they were served, and the policy's quietness."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("dynamic", "calls", "mean", "p50", "p95", "p99"):
        table.add_column(column, justify="right" if column != "dynamic" else "left")
    for mode in ("local", "remote"):
        seen: Latency = outcome.dynamic.latency[mode]
        row = [_seconds(value) for value in (seen.mean, seen.p50, seen.p95, seen.p99)]
        table.add_row(mode, f"{seen.calls:,}", *row)
    return table


def _plot(outcome: Comparison) -> RenderableType:
    static = [(float(k), result.latency["all"].mean) for k, result in outcome.static.items() if result.stable]
    mine = outcome.dynamic.latency["all"].mean
    last = max((k for k, _ in static), default=1.0)
    best = outcome.static[outcome.oracle].latency["all"].mean
    curves = [Series("static", static), Series("dynamic", [(0.0, mine), (last, mine)])]
    marks = [Mark(float(outcome.oracle), best, "▼"), Mark(min(outcome.dynamic.local, last), mine, "●")]
    top = foot_of_cliffs([[mean for _, mean in static]], [mark.y for mark in marks])
    return draw(curves, marks, x="local-state sessions   (▼ best static, ● dynamic)", y="mean latency, s", top=top)


def document(outcome: Comparison) -> dict[str, Any]:
    """All runs; `oracle` is the best static number of local sessions."""
    runs = [{"local_sessions": k, **asdict(result)} for k, result in outcome.static.items()]
    if outcome.applications is not None:
        runs.append({"local_sessions": None, **asdict(outcome.applications)})
    runs.append({"local_sessions": None, **asdict(outcome.dynamic)})
    scenario = outcome.scenario
    return {"scenario": scenario.name, "seed": scenario.seed, "seconds": scenario.duration, "oracle": outcome.oracle, "runs": runs}
