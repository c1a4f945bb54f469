"""The paper's first experiment on real nodes: 4 daemons, 40 real containers, open-loop clients, against the model.

Time runs fifty times as fast (1 s is 20 ms), which changes no ratio; on a machine with other work, --speed 20 leaves
more time for what the daemons themselves do. First a number k of the clients' sessions is made
local and the policy is frozen, then, on a mesh that begins all remote-state, the policy does what it likes. The model is
told what the mesh measured of its store, and that calls of a session run one after another here.

    python tools/bench/paper_live.py                # 70 clients, some eight minutes
    python tools/bench/paper_live.py --clients 90 --k 0,10,16,18,20
"""

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from random import Random
from statistics import fmean, stdev
from typing import Any, NamedTuple

import trio
from generator import Line
from machine import description, idle_states
from mesh import deploy, start_node
from processes import HERE, Children

from edged.core.planning.latency import Point, Setting, best, curve
from edged_protocol.blocking import Mesh, connect
from edged_protocol.errors import CallError
from edged_protocol.trio_client import connect as trio_connect

NODES, SLOTS = 4, 10
FUNCTION = "paper"
WARM_UP, SETTLING = 4.0, 20.0
"""Seconds of load before anything counts: with k fixed, and while the policy finds its way."""

GOAL = 1.15
"""Dynamic over the best static point of the same run."""

BATCHES = 20
"""Parts of a run whose means give the interval: calls close to each other are not independent."""


class Pace(NamedTuple):
    """A client's calls a second, and mean seconds of a call in either mode, with time so many times as fast."""

    speed: float = 50.0

    @property
    def rate(self) -> float:
        return 0.075 * self.speed

    @property
    def local(self) -> float:
        return 1.0 / self.speed

    @property
    def remote(self) -> float:
        return 3.0 / self.speed


class Outcome(NamedTuple):
    """One run: seconds of each call that counted, in the order they were sent, and the share that was local."""

    latencies: list[float]
    local: float
    failed: int

    @property
    def mean(self) -> float:
        return fmean(self.latencies)

    @property
    def interval(self) -> float:
        """Half of the 95 % interval of the mean."""
        size = len(self.latencies) // BATCHES
        means = [fmean(self.latencies[i * size : (i + 1) * size]) for i in range(BATCHES)]
        return 2.09 * stdev(means) / math.sqrt(BATCHES)

    def within(self, share: float) -> float:
        return sorted(self.latencies)[int(share * (len(self.latencies) - 1))]


@contextmanager
def mesh_of_four() -> Iterator[list[str]]:
    """Their addresses, once all of them serve the function."""
    with tempfile.TemporaryDirectory() as root, Children() as children:
        addresses: list[str] = []
        for number in range(NODES):
            store = "mesh:n0" if number else "sqlite:"
            addresses.append(start_node(children, Path(root), f"n{number}", store, SLOTS, addresses[:1]).address)
        with Line(addresses[0], "operator") as operator:
            deploy(operator, HERE / "functions" / FUNCTION)
        with operator_of(addresses[0]) as mesh:
            stop = time.monotonic() + 20
            while not any(len(row["nodes"]) == NODES for row in mesh.request("function.list", {})[0]):
                if time.monotonic() > stop:
                    raise RuntimeError("not all nodes serve the function")
                time.sleep(0.05)
        yield addresses


def operator_of(address: str) -> AbstractContextManager[Mesh]:
    """A connection for control verbs."""
    return connect([address], name="paper", role="operator")


def session_of(client: int) -> str:
    """The session of a client, which calls through node `client` modulo 4."""
    return f"client-{client}"


def static(pace: Pace, clients: int, k: int, seconds: float, seed: int) -> tuple[Outcome, float]:
    """`k` sessions local, evenly over the nodes; what was seen, and the store's mean time."""
    with mesh_of_four() as addresses, operator_of(addresses[0]) as mesh:
        mesh.request("policy.freeze", {})
        for client in range(k):
            key = {"function": FUNCTION, "session": session_of(client), "to": f"n{client % NODES}"}
            _patiently(mesh, "session.localize", key)
        outcome = trio.run(load, pace, addresses, clients, WARM_UP, seconds, seed)
        return outcome, store_seconds(mesh)


def _patiently(mesh: Mesh, verb: str, params: dict[str, Any]) -> None:
    """Nodes that have just met may not know each other yet."""
    stop = time.monotonic() + 20
    while True:
        try:
            mesh.request(verb, params, timeout=30)
            return
        except CallError:
            if time.monotonic() > stop:
                raise
            time.sleep(0.1)


def dynamic(pace: Pace, clients: int, seconds: float, seed: int) -> tuple[Outcome, dict[str, Any]]:
    """The policy alone, from all remote-state; what was seen, and what the policy says then."""
    with mesh_of_four() as addresses, operator_of(addresses[0]) as mesh:
        outcome = trio.run(load, pace, addresses, clients, SETTLING, seconds, seed)
        said = mesh.request("policy.what_if", {})[0]
        moves = mesh.request("policy.explain", {})[0]["moves"]
        return outcome, {**said, "moves": len(moves), "failed": sum(bool(row["failed"]) for row in moves)}


def store_seconds(mesh: Mesh) -> float:
    """What a remote-state call waits for the store, over all nodes."""
    rows = mesh.request("policy.get", {})[0]["functions"]
    known = [row["store_ms"] / 1000 for row in rows if row["store_ms"]]
    return fmean(known) if known else 0.0


async def load(
    pace: Pace, addresses: list[str], clients: int, warm_up: float, seconds: float, seed: int
) -> Outcome:
    """Every client calls at random times, answered or not."""
    seen: list[tuple[float, float, str]] = []
    failed = 0
    last: CallError | None = None
    async with trio.open_nursery() as links:
        meshes = [await links.start(_link, address) for address in addresses]
        began = trio.current_time()

        async def call(client: int, work: float) -> None:
            nonlocal failed, last
            start = trio.current_time()
            try:
                mode = await meshes[client % len(meshes)].session(FUNCTION, session_of(client)).call("work", work, timeout=60)
                seen.append((start - began, trio.current_time() - start, mode))
            except CallError as error:
                failed, last = failed + 1, error

        async def device(client: int, calls: trio.Nursery) -> None:
            chance, at = Random(f"{seed} {client}"), 0.0
            while (at := at + chance.expovariate(pace.rate)) < warm_up + seconds:
                work = chance.expovariate(1 / pace.local)
                await trio.sleep_until(began + at)
                calls.start_soon(call, client, work)

        async with trio.open_nursery() as calls:
            for client in range(clients):
                calls.start_soon(device, client, calls)
        links.cancel_scope.cancel()
    counted = [row for row in sorted(seen) if row[0] >= warm_up]
    if not counted:
        sys.exit(f"no call was answered, {failed} failed; the last of them: {last}")
    return Outcome([row[1] for row in counted], fmean(row[2] == "local" for row in counted), failed)


async def _link(address: str, *, task_status: trio.TaskStatus[object]) -> None:
    async with trio_connect([address], name="paper") as mesh:
        task_status.started(mesh)
        await trio.sleep_forever()


def report(pace: Pace, clients: int, ks: list[int], seconds: float, repeats: int, seed: int) -> dict[str, Any]:
    """All runs, then the table. Each repetition goes through them the other way round: what else the machine does
    meanwhile should meet all of them."""
    seen: dict[int | None, list[Outcome]] = {k: [] for k in (*ks, None)}
    stores, said = [], []
    for repeat in range(repeats):
        for k in list(seen)[:: -1 if repeat % 2 else 1]:
            if k is None:
                outcome, about = dynamic(pace, clients, seconds, seed + repeat)
                said.append({name: about[name] for name in ("now", "planned", "best", "cliff", "moves", "failed")})
            else:
                outcome, store = static(pace, clients, k, seconds, seed + repeat)
                stores.append(store)
            seen[k].append(outcome)
            print(f"{'dynamic' if k is None else k}: {outcome.mean * 1000:.1f} ms", file=sys.stderr, flush=True)
    return _summary(pace, clients, {k: _joined(outcomes) for k, outcomes in seen.items()}, fmean(stores), said, seconds)


def _joined(outcomes: list[Outcome]) -> Outcome:
    calls = sum(len(outcome.latencies) for outcome in outcomes)
    local = sum(outcome.local * len(outcome.latencies) for outcome in outcomes) / calls
    return Outcome([x for outcome in outcomes for x in outcome.latencies], local, sum(outcome.failed for outcome in outcomes))


def _summary(
    pace: Pace, clients: int, seen: dict[int | None, Outcome], store: float, said: list[dict[str, Any]], seconds: float
) -> dict[str, Any]:
    points = model_of(pace, clients, store)
    lowest = best(points)
    print(f"{clients} clients, {NODES} nodes x {SLOTS} containers, {len(said)} x {seconds:g} s each, time x {pace.speed:g}; ms")
    print(f"{'k':>8} {'local':>6} {'mean':>14} {'p95':>7} {'p99':>7} {'model':>8}")
    means = {k: lowest.mean if k is None and lowest else points[k or 0].mean for k in seen}
    rows = [_row("dynamic" if k is None else str(k), outcome, means[k]) for k, outcome in seen.items()]
    ratio = rows[-1]["mean_ms"] / min(row["mean_ms"] for row in rows[:-1])
    for about in said:
        print(f"dynamic: {', '.join(f'{name} {value}' for name, value in about.items())}; the model's best k is {lowest and lowest.k}")
    print(f"dynamic / best static = {ratio:.3f} (goal: at most {GOAL}) {'reached' if ratio <= GOAL else 'MISSED'}")
    return {"clients": clients, "rows": rows, "policy": said, "ratio": round(ratio, 4), "machine": description()}


def model_of(pace: Pace, clients: int, store: float) -> list[Point]:
    """The curve for what the mesh measured."""
    setting = Setting(clients, NODES * SLOTS, pace.rate, pace.local, pace.remote, store, serial=True)
    return list(curve(setting))


def _row(name: str, seen: Outcome, model: float) -> dict[str, Any]:
    row = {
        "k": name,
        "local_share": round(seen.local, 3),
        "mean_ms": round(seen.mean * 1000, 2),
        "interval_ms": round(seen.interval * 1000, 2),
        "p95_ms": round(seen.within(0.95) * 1000, 1),
        "p99_ms": round(seen.within(0.99) * 1000, 1),
        "model_ms": round(model * 1000, 2) if model < float("inf") else None,
        "calls": len(seen.latencies),
        "failed": seen.failed,
    }
    interval = f"{row['mean_ms']:.1f} ± {row['interval_ms']:.1f}"
    model_text = "unstable" if row["model_ms"] is None else f"{row['model_ms']:.1f}"
    failed = f"  {seen.failed} failed" if seen.failed else ""
    print(f"{name:>8} {seen.local:6.0%} {interval:>14} {row['p95_ms']:7.1f} {row['p99_ms']:7.1f} {model_text:>8}{failed}", flush=True)
    return row


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=70)
    parser.add_argument("--k", type=lambda words: [int(word) for word in words.split(",")], default=[0, 12, 20, 24, 27, 30])
    parser.add_argument("--seconds", type=float, default=20.0, help="that count, of each run")
    parser.add_argument("--speed", type=float, default=Pace().speed)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures there too")
    words = parser.parse_args()
    with idle_states(hold=True) as states:
        print(f"idle states {states}")
        document = report(Pace(words.speed), words.clients, words.k, words.seconds, words.repeats, words.seed)
    if words.json:
        words.json.write_text(json.dumps(document, indent=2))
    sys.exit(document["ratio"] > GOAL)


if __name__ == "__main__":
    main()
