"""What is claimed of the policy, played in the laboratory (`edged.lab`): six tables.

1. Static numbers of local sessions beside the paper's formula: one queue, and four nodes as edged balances them.
2. The policy beside the best static number for 50, 70, 90 and 110 clients, begun without local sessions and at the cliff.
3. 50 clients, then 110, then 70: how long queues grow.
4. Application-triggered transitions with as many containers as the provisioning formula says.
5. Every scenario of configs/scenarios: bytes to the store beside all-remote, moves once all is settled.
6. The same scenarios without what changes in them (wishes, bursts, clients that move or come, lost nodes): moves by hour.

What is not as claimed is marked MISSED, and the exit code is 1 then.

    python tools/bench/policy.py             # some twenty minutes on two cores
    python tools/bench/policy.py --quick     # a sixth of it
    python tools/bench/policy.py --only 2 4
"""

import argparse
import multiprocessing
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol, TypeVar

from edged.core.planning.latency import Setting, best, curve, last_stable, point
from edged.core.planning.provision import provision
from edged.lab.account import Result
from edged.lab.mesh import DYNAMIC, Choice, play
from edged.lab.scenario import Scenario, load_scenario

SCENARIOS = Path(__file__).parents[2] / "configs" / "scenarios"
POINTS = (0, 8, 16, 20, 24, 26, 28, 30)
CLIENTS = (50, 70, 90, 110)
WITHIN = 1.10
ALLOWED = 1.05
LONGEST_GROWTH = 60.0
LONGEST_WAY = 5
"""Minutes to a number of local sessions that is good enough."""
MISSED = 0.01
STILL = 0.05
"""Moves of a session an hour that are none: one in twenty hours."""

K = TypeVar("K")
"""What a table knows a run by."""

Task = tuple[K, Scenario, Choice, int]


def paper(clients: int, seconds: float, containers: tuple[int, ...] = (10, 10, 10, 10), period: float = 2.0) -> Scenario:
    """The first experiment, with other numbers."""
    found = load_scenario(SCENARIOS / "paper-latency.toml")
    group = replace(found.clients[0], count=clients)
    return replace(found, clients=(group,), duration=seconds, warmup=900.0, containers=containers, policy_period=period)


def run(task: Task[K]) -> tuple[K, Result]:
    """One run, in a process of its own."""
    name, scenario, choice, start = task
    return name, play(scenario, choice, at_first=start)


class Runs(Protocol):
    """Makes runs, each in a process of its own; they come as they end."""

    def __call__(self, tasks: Iterable[Task[K]], /) -> Iterator[tuple[K, Result]]: ...


class Verdicts:
    """What goes at the end of a row; `missed` counts."""

    def __init__(self) -> None:
        self.missed = 0

    def __call__(self, *good: bool) -> str:
        """Whether all of a row is as claimed."""
        self.missed += not all(good)
        return "" if all(good) else "  MISSED"


def work(task: Task[object]) -> float:
    """Calls of a run, or nearly: the longest begin first, so that no core waits for the last one."""
    _, scenario, _, _ = task
    return scenario.duration * sum(group.count * group.rate for group in scenario.clients)


def formula(runs: Runs, scale: float, verdict: Verdicts) -> None:
    """Table 1."""
    print("1. static: mean latency in seconds, 70 clients, 40 containers; ± is half the 95 % interval")
    print(f"{'k':>4} {'formula':>9} {'one queue':>20} {'inside':>7} {'four nodes':>20}")
    seconds = 60_000 * scale
    tasks: list[Task[tuple[int, int]]] = []
    for k in POINTS:
        # Near the cliff a queue forgets slowly: what is right in the mean takes longer to be seen.
        longer = seconds * (4 if k >= 28 else 1)
        tasks.append(((k, 1), paper(70, longer, (40,)), Choice("static", k), 0))
        tasks.append(((k, 4), paper(70, seconds), Choice("static", k), 0))
    seen = dict(runs(tasks))
    for k in POINTS:
        exact, one, four = point(Setting(70), k).mean, seen[k, 1].latency["all"], seen[k, 4].latency["all"]
        inside = abs(one.mean - exact) <= one.interval
        row = f"{k:4} {exact:9.4f} {one.mean:10.4f} ± {one.interval:7.4f} {'yes' if inside else 'NO':>7} {four.mean:10.4f} ± {four.interval:7.4f}"
        print(row + verdict(inside), flush=True)


def optimum(runs: Runs, scale: float, verdict: Verdicts) -> None:
    """Table 2."""
    print("\n2. dynamic beside the best static number, four nodes; minutes: until its number of local sessions is one whose")
    print(f"   static mean is within {WITHIN:.2f} of the best; growth: the longest time for which a queue went on growing")
    print(f"{'N':>4} {'best k':>7} {'static':>18} {'begun at':>9} {'dynamic':>18} {'ratio':>6} {'local':>6} {'minutes':>8} {'moves':>6} {'late/h':>7} {'growth':>7}")
    seconds = 30_000 * scale
    tasks: list[Task[tuple[int, str, int]]] = []
    for n in CLIENTS:
        points = list(curve(Setting(n)))
        lowest, edge = best(points), last_stable(points)
        assert lowest is not None
        assert edge is not None
        tasks += [((n, "static", k), paper(n, seconds), Choice("static", k), 0) for k in range(max(0, lowest.k - 8), min(edge.k, 36) + 1, 1 if scale >= 1 else 2)]
        tasks += [((n, "dynamic", start), paper(n, seconds), DYNAMIC, start) for start in (0, edge.k)]
    seen = dict(runs(tasks))
    for n in CLIENTS:
        static = {key[2]: result.latency["all"] for key, result in seen.items() if key[:2] == (n, "static")}
        k = min(static, key=lambda k: static[k].mean)
        good = [number for number, one in static.items() if one.mean <= WITHIN * static[k].mean]
        for (_, _, start), result in [row for row in seen.items() if row[0][:2] == (n, "dynamic")]:
            mine = result.latency["all"]
            ratio = mine.mean / static[k].mean
            way = settled(result, good)
            good_enough = verdict(ratio <= ALLOWED, result.stable, way is not None and way <= LONGEST_WAY, result.rounds <= 1)
            print(
                f"{n:4} {k:7} {static[k].mean:9.4f} ± {static[k].interval:6.4f} {start:9} {mine.mean:9.4f} ± {mine.interval:6.4f} {ratio:6.3f}"
                f" {result.local:6.1f} {way or 'never':>8} {result.moves:6} {result.moves_late:7.3f} {result.growth:7.0f}{good_enough}",
                flush=True,
            )


def settled(result: Result, good: list[int]) -> int | None:
    """The first minute from which on its number is between the least and the most of `good` for ten minutes."""
    locals_ = [int(row[0]) for row in result.timeline]
    for at in range(len(locals_)):
        if all(min(good) <= k <= max(good) for k in locals_[at : at + 10]):
            return at + 1
    return None


def steps(runs: Runs, scale: float, verdict: Verdicts) -> None:
    """Table 3."""
    print("\n3. 50 clients, 110 from minute 20, 70 from minute 40: seconds for which a queue grew, by seed")
    crowd = replace(load_scenario(SCENARIOS / "flash-crowd.toml"), warmup=0.0)
    tasks = [(seed, replace(crowd, seed=seed), DYNAMIC, 0) for seed in range(1, 11 if scale >= 1 else 4)]
    rows = sorted(runs(tasks))
    longest = max(result.growth for _, result in rows)
    said = ", ".join(f"{result.growth:.0f}" for _, result in rows)
    print(f"   {said}; longest {longest:.0f}{verdict(longest <= LONGEST_GROWTH, *(result.rounds <= 1 for _, result in rows))}", flush=True)


def wishes(runs: Runs, scale: float, verdict: Verdicts) -> None:
    """Table 4."""
    print("\n4. application-triggered, containers by the provisioning formula: calls of local phases served remote")
    print(f"{'N':>4} {'q':>5} {'containers':>11} {'nodes':>6} {'calls':>9} {'missed':>8} {'moves/dwell':>12}")
    found = load_scenario(SCENARIOS / "paper-provision.toml")
    tasks: list[Task[tuple[int, float, tuple[int, ...]]]] = []
    for n in (10, 20, 50, 100):
        for share in (0.2, 0.3, 0.4):
            answer = provision(Setting(n), share)
            assert answer is not None
            # Each node keeps a slot for its pool: of four with four slots that would be a quarter of all.
            nodes = 1 if answer.containers < 24 else 4
            slots = tuple(answer.containers // nodes + (i < answer.containers % nodes) for i in range(nodes))
            group = replace(found.clients[0], count=n, local_share=share, local_phase=7200.0)
            seconds = scale * 400_000 / (n * group.rate) + 3600
            scenario = replace(found, clients=(group,), containers=slots, duration=seconds, warmup=3600.0, policy_period=5.0)
            tasks.append(((n, share, slots), scenario, DYNAMIC, 0))
    for (n, share, slots), result in sorted(runs(tasks), key=lambda row: row[0]):
        calls = result.latency["all"].calls
        good = verdict(result.missed <= MISSED, result.stable, result.rounds <= 1)
        print(f"{n:4} {share:5.0%} {sum(slots):11} {len(slots):6} {calls:9,} {result.missed:8.3%} {result.rounds:12}{good}", flush=True)


def traffic(runs: Runs, scale: float, verdict: Verdicts) -> None:
    """Table 5."""
    print("\n5. every scenario: bytes to the store for a call; moves of a session an hour in the last quarter, most within a dwell time")
    first = f"{'scenario':>16} {'calls':>9} {'all remote':>11} {'dynamic':>9} {'ratio':>6} {'mean, remote':>13} {'dynamic':>9}"
    print(f"{first} {'p99':>8} {'dynamic':>8} {'late/h':>7} {'dwell':>6} {'given up':>9}")
    tasks: list[Task[tuple[str, str]]] = []
    for file in sorted(SCENARIOS.glob("*.toml")):
        found = load_scenario(file)
        found = replace(found, duration=found.warmup + (found.duration - found.warmup) * min(1.0, scale))
        tasks += [((file.stem, choice.name), found, choice, 0) for choice in (Choice("all remote"), DYNAMIC)]
    seen = dict(runs(tasks))
    for name in sorted({name for name, _ in seen}):
        remote, mine = seen[name, "all remote"], seen[name, "dynamic"]
        one, other = remote.latency["all"], mine.latency["all"]
        print(
            f"{name:>16} {other.calls:9,} {remote.store_bytes_per_call:11,.0f} {mine.store_bytes_per_call:9,.0f}"
            f" {mine.store_bytes_per_call / remote.store_bytes_per_call:6.2f} {one.mean:13.4f} {other.mean:9.4f} {one.p99:8.3f} {other.p99:8.3f}"
            f" {mine.moves_late:7.2f} {mine.rounds:6} {mine.refused:9}{verdict(mine.rounds <= 1, mine.stable, mine.refused == 0)}",
            flush=True,
        )


def still(scenario: Scenario, hours: float) -> Scenario:
    """A scenario in which nothing changes but by chance."""
    stay = [group for group in scenario.clients if group.until >= scenario.duration]
    groups = tuple(
        replace(group, since=0.0, roams=0.0, local_share=0.0, local_rate=None, arrivals="poisson") for group in stay
    )
    return replace(scenario, clients=groups, failures=(), duration=hours * 3600, warmup=0.0)


def quiet(runs: Runs, scale: float, verdict: Verdicts) -> None:
    """Table 6."""
    hours = max(1.0, 4 * scale)
    print(f"\n6. nothing changes: moves of a session an hour, in each quarter of {hours:g} hours")
    print(f"{'scenario':>16} {'clients':>8} {'calls':>10} {'first':>8} {'second':>8} {'third':>8} {'last':>8}")
    found = {file.stem: still(load_scenario(file), hours) for file in sorted(SCENARIOS.glob("*.toml"))}
    for name, result in sorted(runs((name, scenario, DYNAMIC, 0) for name, scenario in found.items()), key=lambda row: row[0]):
        clients = sum(group.count for group in found[name].clients)
        rates = "".join(f" {rate:8.3f}" for rate in result.moves_by_quarter)
        calls = result.latency["all"].calls
        print(f"{name:>16} {clients:8} {calls:10,}{rates}{verdict(calls > 0, result.moves_by_quarter[-1] <= STILL, result.rounds <= 1)}", flush=True)


TABLES = {1: formula, 2: optimum, 3: steps, 4: wishes, 5: traffic, 6: quiet}


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a sixth of the time that is played")
    parser.add_argument("--only", type=int, nargs="+", choices=sorted(TABLES), default=sorted(TABLES), help="these tables")
    words = parser.parse_args()
    verdict, began = Verdicts(), time.monotonic()
    with multiprocessing.Pool() as pool:

        def runs(tasks: Iterable[Task[K]]) -> Iterator[tuple[K, Result]]:
            rows = sorted(tasks, key=work, reverse=True)
            for number, row in enumerate(pool.imap_unordered(run, rows), 1):
                print(f"   run {number} of {len(rows)}, after {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
                yield row

        for number in words.only:
            TABLES[number](runs, 1 / 6 if words.quick else 1.0, verdict)
    print(f"\n{verdict.missed} rows are not as claimed" if verdict.missed else "\nall is as claimed")
    return 1 if verdict.missed else 0


if __name__ == "__main__":
    sys.exit(main())
