"""`edged sim`: a scenario played in the laboratory (DESIGN §7, §9).

Decides options and what is printed where: the document on stdout, progress on stderr. Refuses to know what a run is.
"""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

EPILOG = "Exit codes: 0 played; 1 the scenario is wrong or cannot be read; 2 wrong usage."


@click.command("sim", epilog=EPILOG)
@click.argument("scenario", type=click.Path(path_type=Path))
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), help="another chance than the scenario's own")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def sim(scenario: Path, seed: int | None, output: str) -> None:
    """Play SCENARIO, a TOML file, with a whole mesh in virtual time.

    The same calls meet several meshes: one that keeps all sessions remote-state, some that keep so many local, and one
    whose nodes decide by themselves. The decisions are edged's own; containers, store and network are modelled.
    The same file and seed give the same figures.

    Example: edged sim configs/scenarios/paper-latency.toml
    """
    from edged.lab.compare import compare
    from edged.lab.scenario import load_scenario

    from . import sim_text
    from .mistakes import or_exit

    found = or_exit(lambda path: load_scenario(path, seed), scenario)
    with _progress() as told:
        outcome = compare(found, told)
    if output == "json":
        click.echo(json.dumps(sim_text.document(outcome), indent=2))
    else:
        sim_text.show(outcome)


@contextmanager
def _progress() -> Iterator[Callable[[str, float], None] | None]:
    """A bar on a terminal's stderr, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda name, share: bar.update(task, description=name, completed=share)
