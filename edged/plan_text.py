"""What `edged plan` prints: tables for people, documents for programs, curves for a terminal.

Decides which of many rows a person needs. Refuses to know options and formulas.
"""

from collections.abc import Sequence
from math import inf, isfinite
from typing import Any

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table

from edgectl.plot import Mark, Series, draw, foot_of_cliffs
from edged.core.planning.latency import Point, Setting, best, last_stable
from edged.core.planning.provision import Provision

Curve = tuple[Setting, list[Point]]
Shares = tuple[float, list[tuple[float, float]]]

ROWS = 44
"""Of a table; a longer curve is thinned out away from its minimum and its end."""

NEAR = 4
"""Rows on either side of those that are always shown."""


def show(what: RenderableType, *, err: bool = False) -> None:
    """For people; wide enough that no line of a table is broken where it is not read on a terminal."""
    console = Console(stderr=err)
    Console(stderr=err, width=console.width if console.is_terminal else 120).print(what)


# latency


def latency_rows(curves: Sequence[Curve]) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows; with several curves the first column tells whose."""
    several = len(curves) > 1
    columns = ["clients"] * several + ["k", "mean", "p95", "p99", "stable"]
    return columns, [[setting.clients] * several + list(_values(p).values()) for setting, points in curves for p in points]


def _values(point: Point) -> dict[str, Any]:
    stable = "true" if point.stable else "false"
    return {"k": point.k, "mean": point.mean, "p95": point.p95, "p99": point.p99, "stable": stable}


def latency_document(setting: Setting, points: list[Point]) -> dict[str, Any]:
    """`best` and `cliff` are numbers of local sessions, null where nothing is stable; so is the latency there."""
    lowest, edge = best(points), last_stable(points)
    return {
        **setting._asdict(),
        "best": lowest and lowest.k,
        "cliff": edge and edge.k,
        "points": [_finite({**_values(p), "stable": p.stable}) for p in points],
    }


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    return {key: None if isinstance(value, float) and not isfinite(value) else value for key, value in row.items()}


def latency_words(setting: Setting, points: list[Point]) -> str:
    """What a table does not say by itself."""
    if best(points) is not None:
        return ""
    busy = setting.rate * setting.clients * setting.remote
    return (
        f"{setting.clients} clients: no number of local sessions keeps the queues from growing. "
        f"All remote-state they keep {busy:.4g} containers busy, and there are {setting.containers}."
    )


def latency_table(setting: Setting, points: list[Point]) -> Table:
    """The rows near the minimum and the cliff, the others at even distances."""
    lowest, edge = best(points), last_stable(points)
    title = f"{setting.clients} clients, {setting.containers} containers; seconds"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("k", "mean", "p95", "p99", "local", "remote", "pool busy"):
        table.add_column(column, justify="right")
    table.add_column("")
    for point in _chosen(points, [p.k for p in (lowest, edge) if p]):
        sign = "least latency" if point is lowest else "the last that is stable" if point is edge else ""
        table.add_row(*_cells(point), sign, style="bold green" if point is lowest else "" if point.stable else "dim")
    return table


def _chosen(points: list[Point], near: list[int]) -> list[Point]:
    """Those that are shown; of the unstable ones the first."""
    end = max((p.k for p in points if p.stable), default=-1)
    step = max(1, len(points) // (ROWS // 2)) if len(points) > ROWS else 1
    kept = [p for p in points if p.k <= end + 1 or p.stable]
    return [p for p in kept if p.k % step == 0 or any(abs(p.k - k) <= NEAR for k in near) or p.k == end + 1]


def _cells(point: Point) -> list[str]:
    seen = point.prediction
    if not point.stable:
        return [str(point.k), *["∞"] * 3, "", "", f"{seen.utilisation:.0%}" if seen.utilisation < inf else ""]
    modes = [seen.mean_of("local"), seen.mean_of("remote")]
    times = [point.mean, point.p95, point.p99, *modes]
    return [str(point.k), *("" if t is None else f"{t:.4f}" for t in times), f"{seen.utilisation:.0%}"]


def latency_plot(curves: Sequence[Curve]) -> RenderableType:
    """Mean latency by k."""
    lowest = [p for _, points in curves if (p := best(points))]
    top = foot_of_cliffs([p.mean for p in points] for _, points in curves)
    series = [Series(f"{setting.clients} clients", [(p.k, p.mean) for p in points]) for setting, points in curves]
    return draw(series, [Mark(p.k, p.mean, "▼") for p in lowest], x="local-state sessions   (▼ least latency)", y="mean latency, s", top=top)


# provision


def provision_document(found: Provision | None, asked: tuple[int, float] | None = None) -> dict[str, Any]:
    """The answer; of several, with what was asked."""
    head = {"clients": asked[0], "local_share": asked[1]} if asked else {}
    return {**head, **(found._asdict() if found else dict.fromkeys(Provision._fields))}


def provision_rows(rows: Sequence[tuple[int, float, Provision | None]]) -> tuple[list[str], list[list[Any]]]:
    """Columns, and a row for each question; empty where there is no answer."""
    columns = ["clients", "local_share", *Provision._fields]
    return columns, [[n, q, *(found or [""] * len(Provision._fields))] for n, q, found in rows]


def provision_table(rows: Sequence[tuple[int, float, Provision | None]]) -> Table:
    """A row for each question."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("clients", "local share", "containers", "a client", "of them local, at most", "refused"):
        table.add_column(column, justify="right")
    for n, q, found in rows:
        said = ["none", "", "", ""] if found is None else [str(found.containers), f"{found.containers / n:.3f}", str(found.cap), f"{found.violation:.2%}"]
        table.add_row(str(n), f"{q:g}", *said)
    return table


def provision_plot(curves: Sequence[Shares]) -> RenderableType:
    """Containers a client by the number of clients."""
    return draw([Series(f"{q:.0%} local", points) for q, points in curves], x="clients", y="containers a client")
