"""Many worlds on all cores, and what became of them."""

import multiprocessing
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from edged.core.transition import S

from .mesh import ANY, Aim, failure

CHUNK = 50


class World(NamedTuple):
    """One world: its seed, and what is not drawn from that."""

    seed: int
    aim: Aim = ANY


class Told(NamedTuple):
    """What became of some worlds: which failed, and what happened in them."""

    worlds: int
    failures: list[str]
    steps: Counter[tuple[S, S]]
    seen: Counter[tuple[S, str]]
    counts: Counter[str]


def tell(worlds: Iterable[World]) -> Told:
    """Run them here."""
    count, failures = 0, []
    steps: Counter[tuple[S, S]] = Counter()
    seen: Counter[tuple[S, str]] = Counter()
    counts: Counter[str] = Counter()
    for world in worlds:
        why, mesh = failure(*world)
        count += 1
        if why:
            failures.append(f"python -m sim.mesh {world.seed}: {why}{f', {world.aim}' if world.aim != ANY else ''}")
        steps.update(mesh.steps)
        seen.update(mesh.seen)
        counts["takeovers"] += mesh.history.takeovers
        counts["set aside"] += mesh.history.asides
        counts["overtaken"] += mesh.history.overtaken
        counts["handed over"] += mesh.handed_over
        counts["regained"] += mesh.steps[S.REGAINING, S.LOCAL]
    return Told(count, failures, steps, seen, counts)


def chunks(worlds: list[World]) -> list[list[World]]:
    """What one process is given at a time."""
    return [worlds[at : at + CHUNK] for at in range(0, len(worlds), CHUNK)]


def told_by_all_cores(worlds: list[World]) -> Iterator[Told]:
    """Run them in processes of their own; the parts come in order."""
    # A fork would copy whatever threads and locks the caller has.
    with multiprocessing.get_context("spawn").Pool() as pool:
        yield from pool.imap(tell, chunks(worlds))
