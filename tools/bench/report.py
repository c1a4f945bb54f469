"""What a run showed, as a table, as a list of goals and as JSON. Measures nothing."""

import json
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from footprint import Footprint
from generator import Round
from rich.console import Console
from rich.table import Table


class Sample(NamedTuple):
    """One round of one row; microseconds."""

    p50: float
    p99: float
    rate: float
    calls: int
    failures: dict[int, int]
    cpu: float
    """Processor time of a call in all processes on its way, the load generator among them."""

    @classmethod
    def of(cls, load: Round, seconds: float) -> "Sample":
        """Without the single latencies; `seconds` of processor time were used for it."""
        cpu = seconds * 1e6 / max(1, load.calls)
        return cls(load.percentile(0.5), load.percentile(0.99), load.rate, load.calls, load.failures, cpu)


@dataclass
class Row:
    """One workload at one number of calls in flight; `raw` names the chain of the same length."""

    workload: str
    in_flight: int
    raw: str | None
    samples: list[Sample] = field(default_factory=list)

    @property
    def p50(self) -> float:
        """Median of the rounds, as are the others."""
        return self._median([sample.p50 for sample in self.samples])

    @property
    def p99(self) -> float:
        return self._median([sample.p99 for sample in self.samples])

    @property
    def rate(self) -> float:
        return self._median([sample.rate for sample in self.samples])

    @property
    def cpu(self) -> float:
        return self._median([sample.cpu for sample in self.samples])

    @property
    def failed(self) -> int:
        """Calls answered with an ERROR."""
        return sum(sum(sample.failures.values()) for sample in self.samples)

    def _median(self, values: list[float]) -> float:
        return statistics.median(values) if values else math.nan


class Goal(NamedTuple):
    """One figure that was asked for."""

    text: str
    value: float
    bound: str
    met: bool


class Rows:
    """All rows of a run, found by name."""

    def __init__(self, rows: list[Row]) -> None:
        self.all = rows
        self._named = {(row.workload, row.in_flight): row for row in rows}

    def ratios(self, row: Row) -> tuple[float, float]:
        """p50 and calls/s of `row` divided by those of the raw chain of the same length."""
        return self.compare(row, row.raw)

    def compare(self, row: Row, other: str | None) -> tuple[float, float]:
        """The same, against any other workload with as many calls in flight."""
        base = self._named.get((other or "", row.in_flight))
        if base is None or not base.samples or not row.samples or base is row:
            return math.nan, math.nan
        return row.p50 / base.p50, row.rate / base.rate

    def goals(self, footprint: Footprint | None) -> list[Goal]:
        """Those that this run can judge."""
        found: list[Goal] = []
        for name, text in (
            ("edged echo, local node", "one node"),
            ("edged echo, second node", "two nodes"),
            ("edged echo, second node, apart", "two nodes apart"),
        ):
            found += self._goal(name, 1, None, 0, f"{text}, 1 in flight: p50 ÷ raw chain", 1.3)
            found += self._goal(
                name, 64, None, 1, f"{text}, 64 in flight: calls/s ÷ raw chain", 0.5
            )
        local = "edged echo, local node"
        found += self._goal(local, 1, NATS, 0, "one node, 1 in flight: p50 ÷ NATS", 0.65)
        found += self._goal(local, 64, NATS, 1, "one node, 64 in flight: calls/s ÷ NATS", 1.5)
        return found + (_small(footprint) if footprint else [])

    def _goal(
        self, name: str, in_flight: int, other: str | None, which: int, text: str, bound: float
    ) -> list[Goal]:
        """`which`: 0 compares p50 (at most), 1 calls/s (at least)."""
        row = self._named.get((name, in_flight))
        value = self.compare(row, other or row.raw)[which] if row else math.nan
        if math.isnan(value):
            return []
        if which == 0:
            return [Goal(text, round(value, 3), f"≤ {bound}", value <= bound)]
        return [Goal(text, round(value, 3), f"≥ {bound}", value >= bound)]


NATS = "NATS request/reply"


def _small(footprint: Footprint) -> list[Goal]:
    rows = (
        (
            "container start from a warm zygote to the first answer, p50 ms",
            footprint.start_p50_ms,
            15.0,
        ),
        ("idle container, private memory, MiB", footprint.container_uss_kib / 1024, 6.0),
        ("idle daemon, resident memory, MiB", footprint.daemon_kib / 1024, 60.0),
        (f"each of {footprint.connections} idle connections, KiB", footprint.connection_kib, 50.0),
    )
    return [
        Goal(text, round(value, 2), f"≤ {bound:g}", value <= bound) for text, value, bound in rows
    ]


def show(console: Console, rows: Rows, goals: list[Goal], notes: list[str]) -> None:
    """The table, the goals, the notes."""
    console.print(_table(rows))
    if goals:
        console.print(_goal_table(goals))
    for note in notes:
        console.print(note, highlight=False)


def _table(rows: Rows) -> Table:
    table = Table(title="medians of interleaved rounds; one process per box, loopback TCP")
    table.add_column("workload")
    for name in ("in flight", "p50 µs", "p99 µs", "calls/s", "p50 ÷ raw", "calls/s ÷ raw", "CPU µs"):
        table.add_column(name, justify="right")
    for row in rows.all:
        latency, rate = rows.ratios(row)
        name = f"{row.workload} [red]({row.failed} failed)[/red]" if row.failed else row.workload
        table.add_row(
            name,
            str(row.in_flight),
            *(_number(value, "{:,.0f}") for value in (row.p50, row.p99, row.rate)),
            *(_number(value, "{:.2f}") for value in (latency, rate)),
            _number(row.cpu, "{:,.1f}"),
        )
    return table


def _number(value: float, form: str) -> str:
    return "" if math.isnan(value) else form.format(value)


def _goal_table(goals: list[Goal]) -> Table:
    table = Table(title="goals")
    table.add_column("what")
    table.add_column("measured", justify="right")
    table.add_column("asked")
    table.add_column("")
    for goal in goals:
        met = "[green]met[/green]" if goal.met else "[red]missed[/red]"
        table.add_row(goal.text, f"{goal.value:g}", goal.bound, met)
    return table


def save(
    path: Path, rows: Rows, goals: list[Goal], footprint: Footprint | None, about: Mapping[str, object]
) -> None:
    """Everything, single rounds included, as JSON."""
    document = {
        **about,
        "rows": [_row(rows, row) for row in rows.all],
        "footprint": footprint._asdict() if footprint else None,
        "goals": [goal._asdict() for goal in goals],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")


def _row(rows: Rows, row: Row) -> dict[str, Any]:
    latency, rate = rows.ratios(row)
    values = {
        "p50_us": row.p50,
        "p99_us": row.p99,
        "calls_per_second": row.rate,
        "p50_ratio": latency,
        "rate_ratio": rate,
        "cpu_us": row.cpu,
    }
    return {
        "workload": row.workload,
        "in_flight": row.in_flight,
        "raw": row.raw,
        "failed": row.failed,
        **{name: None if math.isnan(value) else round(value, 3) for name, value in values.items()},
        "rounds": [
            {
                "p50_us": s.p50,
                "p99_us": s.p99,
                "calls_per_second": s.rate,
                "calls": s.calls,
                "failures": s.failures,
                "cpu_us": s.cpu,
            }
            for s in row.samples
        ],
    }
