"""What a session's calls cost with each store, in both modes, side by side in one run.

A node of its own for each store, all in one process group; each round measures every row once, so that whatever else
the machine does falls on all of them; the figures are medians of the rounds. The same calls of `counter`: one at a
time on one session, then 64 in flight over 64 sessions. A remote-state call commits to the store before its answer;
a local-state call is answered from memory, and a checkpoint follows within a second (the default durability).
"""

import argparse
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import NamedTuple

import machine
from generator import Line, Target
from mesh import FUNCTIONS, Node, deploy, localize, start_node, until_answered
from processes import Children, said

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from support.redis_server import RedisServer  # noqa: E402 - the tests' own server

SESSIONS = 64
FAR = 0.010
"""Seconds each way: a store 20 ms away."""


class Sample(NamedTuple):
    """Of one row in one round: microseconds, microseconds, calls a second."""

    p50: float
    p99: float
    rate: float


class Row:
    """A node with its store, and what it showed by mode."""

    def __init__(self, name: str, node: Node) -> None:
        self.name = name
        self.node = node
        self.samples: dict[str, list[Sample]] = {"remote": [], "local": []}

    def prepare(self) -> None:
        """Deploy, and make half of the sessions local-state."""
        with Line(self.node.address, "operator") as operator:
            deploy(operator, FUNCTIONS / "counter")
        until_answered(self.node, Target("counter", "remote-0", "incr", once=True))
        for target in targets("local"):
            until_answered(self.node, target)
        localize(self.node, targets("local"))

    def measure(self, mode: str, seconds: float) -> None:
        """One round. Raises RuntimeError when a call failed."""
        with Line(self.node.address) as line:
            line.drive(targets(mode), SESSIONS, seconds=seconds / 5)  # warm, not counted
            one = line.drive(targets(mode)[:1], 1, seconds=seconds)
            many = line.drive(targets(mode), SESSIONS, seconds=seconds)
        if one.failures or many.failures:
            raise RuntimeError(f"{self.name}, {mode}: {one.failures} {many.failures}")
        self.samples[mode].append(Sample(one.percentile(0.5), one.percentile(0.99), many.rate))

    def figures(self, mode: str) -> Sample:
        """The medians."""
        return Sample(*(median(column) for column in zip(*self.samples[mode], strict=True)))


def targets(mode: str) -> list[Target]:
    """The sessions of a mode."""
    return [Target("counter", f"{mode}-{n}", "incr", once=True) for n in range(SESSIONS)]


def start(children: Children, root: Path, servers: list[RedisServer]) -> list[Row]:
    """A node for each store; the servers are the caller's to end."""
    for sync in ("everysec", "always"):
        options = ("--appendonly", "yes", "--appendfsync", sync, "--save", "")
        servers.append(RedisServer(root / f"redis-{sync}", *options).start())
    near, always = servers
    command = [sys.executable, str(ROOT / "tools/demo/proxy.py"), "127.0.0.1", str(near.port), str(FAR)]
    far = said(children.start(command))
    stores = {
        "sqlite": ("sqlite", "sqlite:"),
        "redis, appendfsync everysec": ("near", f"{near.url}?prefix=near"),
        "redis, appendfsync always": ("always", always.url),
        "redis, everysec, 20 ms away": ("far", f"redis://{far}/0?prefix=far"),
    }
    rows = []
    for name, (node, url) in stores.items():
        rows.append(Row(name, start_node(children, root, node, url, SESSIONS + 8, [])))
        rows[-1].prepare()
    return rows


def show(rows: list[Row]) -> None:
    """A table for the README."""
    print("| store | remote-state p50 / p99 | calls/s | local-state p50 / p99 | calls/s |")
    print("|---|---:|---:|---:|---:|")
    for row in rows:
        cells = []
        for mode in ("remote", "local"):
            p50, p99, rate = row.figures(mode)
            cells += [f"{p50 / 1000:.2f} / {p99 / 1000:.2f} ms", f"{rate:,.0f}"]
        print(f"| {row.name} | {' | '.join(cells)} |")


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one short round, to see that it works")
    quick = parser.parse_args().quick
    rounds, seconds = (1, 0.3) if quick else (5, 2.0)
    servers: list[RedisServer] = []
    try:
        with machine.idle_states(True) as idle, tempfile.TemporaryDirectory() as root, Children() as children:
            rows = start(children, Path(root), servers)
            for _ in range(rounds):
                for row in rows:
                    for mode in ("remote", "local"):
                        row.measure(mode, seconds)
            show(rows)
    finally:
        for server in servers:
            server.kill()
    print(f"\n1 call in flight for the latencies, {SESSIONS} for the rates; medians of {rounds}; idle states: {idle}")
    print(", ".join(f"{key} {value}" for key, value in machine.description().items()))


if __name__ == "__main__":
    main()
