"""How the membership behaves in meshes of 10, 100, 1,000 nodes: real cores, virtual network, virtual time.

One world for each size, in which all know all. How soon changes of one node's own words are known everywhere (in gossip
rounds), what a quiet node sends, how often somebody is taken for dead who lives at several rates of loss, and how long
until all know a death of which no connection tells.

Example: python tools/bench/gossip_scale.py --sizes 10,100 --json scale.json
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import quantiles

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT), str(ROOT / "protocol")]

from sim.lan import Lan  # noqa: E402 - the mesh of the tests is the instrument

from edged.core.membership import LAN, Status  # noqa: E402
from edged.core.membership.members import Member  # noqa: E402

LOSSES = (0.0, 0.01, 0.05, 0.2)
DELAY = 0.005
"""Seconds at most, one way: a site's network."""

NODE_SECONDS = 60_000
"""Virtual time per rate of loss, in seconds of one node: less for large meshes, which have more nodes."""

Figures = dict[str, float]
"""Of one size of mesh, by the names that they have in the file."""

CHANGES = 10
DEATHS = 5


def met(nodes: int) -> Lan:
    """A mesh in which all know all, and have said what they had to say."""
    lan = Lan(1, [f"n{i}" for i in range(nodes)], delay=DELAY, most=nodes + 1)
    lan.acquaint()
    lan.run(10.0)
    return lan


def rounds(lan: Lan) -> list[float]:
    """Gossip rounds until all have new words of one node, for several of them in turn."""
    lan.loss, found = 0.01, []
    for number in range(CHANGES):
        host, body = lan.hosts[f"n{number % len(lan.hosts)}"], b"%d" % number
        host.core.set_body(body)
        host.wake_soon()
        began = lan.clock.now
        while any(not _has(other.core.member(host.name), body) for other in lan.running() if other is not host):
            lan.run(LAN.gossip)
        found.append((lan.clock.now - began) / LAN.gossip)
        lan.run(5.0)
    return found


def _has(member: Member | None, body: bytes) -> bool:
    return member is not None and member.record.body == body


def quiet(lan: Lan, loss: float) -> tuple[float, float]:
    """Bytes a second and node (with UDP's and IP's headers), and false deaths an hour of one node."""
    nodes = len(lan.hosts)
    lan.loss, lan.bytes, seconds = loss, 0, NODE_SECONDS / nodes
    before = lan.false_deaths()
    lan.run(seconds)
    return lan.bytes / nodes / seconds, (lan.false_deaths() - before) / (nodes * seconds / 3600)


def deaths(lan: Lan) -> list[float]:
    """Seconds from a death without a word to each other node's knowing it, of several in turn."""
    lan.loss, found = 0.01, []
    for number in range(min(DEATHS, len(lan.hosts) // 3)):
        lan.run(5.0 + number)
        name = f"n{number}"
        lan.crash(name)
        began, seen = lan.clock.now, len(lan.changes)
        while any(host.sees(name) is not Status.DOWN for host in lan.running()):
            lan.run(1.0)
        told = lan.changes[seen:]
        found += [at - began for at, _, node, status in told if (node, status) == (name, Status.DOWN)]
    return found


def measured(nodes: int, step: Callable[[], object]) -> Figures:
    """One row; `step` is told of each part that is done."""
    began = time.perf_counter()
    lan = met(nodes)
    step()
    row: Figures = {"nodes": nodes}
    row["rounds_p50"], row["rounds_p99"] = _percentiles(rounds(lan), 49, 98)
    step()
    for loss in LOSSES:
        traffic, false = quiet(lan, loss)
        row[f"false_deaths_per_node_hour_{loss:g}"] = false
        row.setdefault("bytes_per_s", traffic)
        step()
    row["down_p50_s"], row["down_p99_s"] = _percentiles(deaths(lan), 49, 98)
    step()
    row["took_s"] = time.perf_counter() - began
    return row


def _percentiles(found: list[float], *places: int) -> list[float]:
    return [quantiles(found, n=100, method="inclusive")[place] for place in places]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--sizes", default="10,100,1000", show_default=True, help="nodes, with commas between")
@click.option("--json", "out", type=click.Path(path_type=Path), help="write the rows there as well")
def main(sizes: str, out: Path | None) -> None:
    """Measure the membership in meshes of several sizes, in virtual time.

    Example: python tools/bench/gossip_scale.py --sizes 10,100 --json scale.json
    """
    wanted = [int(size) for size in sizes.split(",")]
    console = Console()
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("worlds", total=len(wanted) * (3 + len(LOSSES)))
        rows = [measured(nodes, lambda: progress.advance(task)) for nodes in wanted]
    console.print(_table(rows))
    if out is not None:
        out.write_text(json.dumps(rows, indent=2) + "\n")


def _table(rows: list[Figures]) -> Table:
    table = Table(title="false deaths are counted per node and hour, at so much loss")
    for name in ("nodes", "down p50", "down p99", "rounds p50", "p99", "B/s/node", *(f"{x:.0%}" for x in LOSSES), "took"):
        table.add_column(name, justify="right")
    for row in rows:
        false = [f"{row[f'false_deaths_per_node_hour_{loss:g}']:.2g}" for loss in LOSSES]
        table.add_row(
            str(row["nodes"]),
            f"{row['down_p50_s']:.1f} s",
            f"{row['down_p99_s']:.1f} s",
            f"{row['rounds_p50']:.0f}",
            f"{row['rounds_p99']:.0f}",
            f"{row['bytes_per_s']:.0f}",
            *false,
            f"{row['took_s']:.0f} s",
        )
    return table


if __name__ == "__main__":
    main()
