"""The balancing policies beside one central queue on the same trace.

Two tables. In virtual time: the real `Balancer` and `Pool` of each node, the four policies and two blind ones, for
several sizes of pool. Live: real daemons, real containers that sleep, an open Poisson stream from one client library,
against the central queue simulated on the trace that was sent. Four nodes, 70 % of their capacity, one node four times
slower.

    python tools/bench/balance.py            # about two minutes
    python tools/bench/balance.py --quick    # one of them
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from statistics import fmean

import trio

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from sim.brokers import BLIND, Arrival, Site, World, central, mean_after_warm_up, poisson  # noqa: E402
from support.nodes import Nodes, deploy, served_by  # noqa: E402

from edged.core.balancing import POLICIES  # noqa: E402
from edged_protocol.trio_client import connect  # noqa: E402

SLEEPER = ROOT / "tests" / "support" / "functions" / "sleeper"
NAMES = ("n1", "n2", "n3", "n4")
MEAN = 0.1
"""Seconds of a call on a fast node: long beside what the daemons themselves take on a small machine."""


def virtual(calls: int, seeds: int) -> None:
    """The table in virtual time."""
    choices = [*POLICIES, *BLIND]
    print(f"virtual time, {calls:,} calls, mean of {seeds} traces: mean latency / that of one central queue")
    print(f"{'containers a node':>20} {'central':>10} " + " ".join(f"{name:>20}" for name in choices))
    for containers in (1, 2, 4, 10):
        site = Site(containers=containers)
        rows = [ratios(site, choices, calls, seed) for seed in range(seeds)]
        means = [fmean(row[index] for row in rows) for index in range(len(choices) + 1)]
        shown = " ".join(f"{ratio:20.2f}" for ratio in means[1:])
        print(f"{containers:20} {means[0] * 1000:7.1f} ms {shown}", flush=True)


def ratios(site: Site, choices: list[str], calls: int, seed: int) -> list[float]:
    """The central queue's mean in seconds, then each choice's over it."""
    trace = poisson(site, 0.7, MEAN, calls, Random(seed))
    base = mean_after_warm_up(central(site, trace))
    return [base, *(mean_after_warm_up(World(site, c, Random(seed)).run(trace)) / base for c in choices)]


async def one_live(addresses: list[str], trace: list[Arrival]) -> list[float]:
    """Seconds of each call, which is sent when the trace says, answered or not."""
    latencies: list[float] = []
    async with trio.open_nursery() as links, trio.open_nursery() as calls:
        meshes = [await links.start(_link, address, calls.cancel_scope) for address in addresses]
        began = trio.current_time()

        async def one(arrival: Arrival) -> None:
            start = trio.current_time()
            await meshes[arrival.entrance].function("sleeper").call("sleep", arrival.work, timeout=60)
            latencies.append(trio.current_time() - start)

        async with trio.open_nursery() as flying:
            for arrival in trace:
                await trio.sleep_until(began + arrival.at)
                flying.start_soon(one, arrival)
        links.cancel_scope.cancel()
    return latencies


async def _link(address: str, scope: trio.CancelScope, *, task_status: trio.TaskStatus[object]) -> None:
    async with connect([address], name="balance") as mesh:
        task_status.started(mesh)
        await trio.sleep_forever()


def live(calls: int) -> None:
    """The table on real nodes."""
    site = Site(containers=4)
    trace = poisson(site, 0.7, MEAN, calls, Random(7))
    base = mean_after_warm_up(central(site, trace))
    print(f"\nlive, 4 daemons x 4 containers, {calls:,} calls over {trace[-1].at:.0f} s: mean latency / one central queue")
    print(f"{'central (simulated)':>22} {base * 1000:7.1f} ms")
    for policy in POLICIES:
        with tempfile.TemporaryDirectory() as root:
            mean = fmean(live_run(Path(root), policy, trace)[len(trace) // 10 :])
        print(f"{policy:>22} {mean * 1000:7.1f} ms {mean / base:8.2f}", flush=True)


def live_run(root: Path, policy: str, trace: list[Arrival]) -> list[float]:
    """One policy on nodes of its own."""
    nodes = Nodes(root)
    try:
        for name in NAMES:
            nodes.start(name, containers=4)
        function = root / "function"
        function.mkdir()
        for file in SLEEPER.iterdir():
            if file.is_file():
                text = file.read_text().replace("max = 2", f'min = 4\nmax = 4\n[balance]\npolicy = "{policy}"')
                (function / file.name).write_text(text)
        deploy(nodes.addresses["n1"], function)
        served_by(nodes.addresses["n1"], "sleeper", 4)
        time.sleep(1)  # all sixteen containers are there
        return trio.run(one_live, [nodes.addresses[name] for name in NAMES], trace)
    finally:
        nodes.close()


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a third of the calls")
    quick = parser.parse_args().quick
    virtual(6_000 if quick else 20_000, 1 if quick else 3)
    live(1_000 if quick else 3_000)


if __name__ == "__main__":
    main()
