"""The benchmark: raw chains, edged and NATS in one run, interleaved (DESIGN §11).

Compare figures within one run only. Each round measures every row once, so that whatever else the machine
does falls on all of them; the figures are medians of the rounds. Raw chains answer in the form of edged's
own frames to the same load generator. The path of a stateless call at its node is client, daemon, container,
and the chain of that length has one relay; through a second node it is one more of both. Rows that say "apart" have each
of two nodes, with what runs on it, on a core of its own, as two machines would; in the others the scheduler lays them.
"""

import contextlib
import signal
import sys
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import click
import footprint
import machine
import mesh
import natspair
import workloads
from processes import Children
from report import Row, Rows, Sample, save, show
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

LIMIT, LIMIT_QUICK = 330, 45
"""Seconds after which a run ends with what it has; stopping the nodes takes up to twelve more."""

WIDTH = 132
"""Of the tables where no terminal says how wide it is."""

SETTLE = 0.1
"""Share of a round that is driven before it and not counted."""


class TimeUp(BaseException):
    """The run has taken as long as it may."""


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: python tools/bench/run.py --quick --out bench-results/quick.json",
)
@click.option("--quick", is_flag=True, help="under a minute: for trying, not for quoting")
@click.option("--rounds", type=click.IntRange(1), help="default 5, quick 3")
@click.option("--seconds", type=float, help="of each row in each round; default 1.5, quick 0.4")
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(["raw", "edged", "density", "nats"]),
    help="repeatable; default all but density: 64 local sessions in 64 containers beside 64 in 8",
)
@click.option("--out", type=click.Path(path_type=Path), help="default bench-results/TIME.json")
@click.option("--leave-idle-states", is_flag=True, help="do not hold processor idle states off")
def main(
    quick: bool,
    rounds: int | None,
    seconds: float | None,
    only: tuple[str, ...],
    out: Path | None,
    leave_idle_states: bool,
) -> None:
    """Measure edged against raw chains of the same length, and NATS beside it."""
    out = out or Path("bench-results") / f"{datetime.now():%Y%m%d-%H%M%S}.json"
    with machine.idle_states(not leave_idle_states) as idle:
        run = Run(quick, rounds or (3 if quick else 5), seconds or (0.4 if quick else 1.5))
        about = {
            "taken": datetime.now().astimezone().isoformat(timespec="seconds"),
            "machine": machine.description(),
            "idle_states": idle,
            "rounds": run.rounds,
            "seconds": run.seconds,
        }
        run.everything(set(only) or {"raw", "edged", "nats"})
    rows = Rows(run.rows)
    goals = rows.goals(run.footprint)
    notes = [*run.notes, f"processor idle states: {idle}", f"written to {out}"]
    show(Console(width=None if sys.stdout.isatty() else WIDTH), rows, goals, notes)
    about["complete"] = run.complete
    save(out, rows, goals, run.footprint, about)
    sys.exit(0 if run.complete else 1)


class Run:
    """One run and what it has found so far."""

    def __init__(self, quick: bool, rounds: int, seconds: float) -> None:
        self.quick, self.rounds, self.seconds = quick, rounds, seconds
        self.rows: list[Row] = []
        self.footprint: footprint.Footprint | None = None
        self.notes: list[str] = []
        self.complete = False

    def everything(self, wanted: set[str]) -> None:
        """Start what is wanted, measure it, end it. What was measured stays, whatever happens."""
        with tempfile.TemporaryDirectory(prefix="edged-bench-") as root, Children() as children:
            try:
                with bounded(LIMIT_QUICK if self.quick else LIMIT), progress() as bar:
                    works = self._start(wanted, children, Path(root), bar)
                    self._measure(works, bar)
                self.complete = True
            except TimeUp:
                self.notes.append("[red]time is up: the figures are of fewer rounds[/red]")

    def _start(
        self, wanted: set[str], children: Children, root: Path, bar: Progress
    ) -> list[workloads.Work]:
        works: list[workloads.Work] = []
        if "raw" in wanted:
            say(bar, "starting the raw chains")
            works += workloads.raw(children)
        if "edged" in wanted:
            say(bar, "starting two nodes")
            far, near = mesh.start_pair(children, root)
            say(bar, "idle memory, idle connections, container starts")
            self.footprint = footprint.measure(far, 10 if self.quick else 40, 1000)
            works += workloads.edged(far, near)
        if "density" in wanted:
            say(bar, "starting a node with 64 local sessions in 64 containers, and in 8")
            works += workloads.density(children, root)
        if "nats" in wanted:
            works += self._nats(children, bar)
        self.rows = [work.row for work in works]
        return works

    def _nats(self, children: Children, bar: Progress) -> list[workloads.Work]:
        if lacks := natspair.missing():
            self.notes.append(f"NATS is not in the table: {lacks} is missing; {natspair.HOW}")
            return []
        say(bar, "starting NATS")
        return workloads.nats(children)

    def _measure(self, works: list[workloads.Work], bar: Progress) -> None:
        for work in works:
            work.check()
        task = bar.add_task("rounds", total=self.rounds * len(works))
        for _ in range(self.rounds):
            for row, drive, _, placed in works:
                bar.update(task, description=f"{row.workload}, {row.in_flight} in flight")
                bar.refresh()
                with placed():
                    drive(self.seconds * SETTLE)
                    before = machine.processor_seconds()
                    load = drive(self.seconds)
                    row.samples.append(Sample.of(load, machine.processor_seconds() - before))
                bar.advance(task)
        for work in works:
            work.check()


@contextlib.contextmanager
def bounded(seconds: int) -> Iterator[None]:
    """Raise TimeUp in the main thread when time is up; SIGTERM ends like Ctrl-C."""

    def time_up(*_: object) -> None:
        raise TimeUp

    signal.signal(signal.SIGALRM, time_up)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


def progress() -> Progress:
    """Drawn between rounds only: a thread that draws would take time from the load generator."""
    columns = (TextColumn("{task.description:<42}"), BarColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), auto_refresh=False)


def say(bar: Progress, text: str) -> None:
    """One line above the bar."""
    bar.console.print(f"{text} …", highlight=False)


if __name__ == "__main__":
    main()
