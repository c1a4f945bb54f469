"""What a container's start and things that do nothing cost: time and memory of one node.

Containers are made to end by the `starter` function itself (see mesh.py), so each start is a real one
from a warm zygote. Memory is what the kernel says of a process; the kernel's own socket buffers are not in it.
"""

import contextlib
import statistics
import time
from pathlib import Path
from typing import NamedTuple

from generator import Line, Target
from mesh import Node

from edged_protocol.errors import UnknownOutcome

PID, QUIT = Target("starter", method="pid"), Target("starter", method="quit")


class Footprint(NamedTuple):
    """Milliseconds and KiB. `daemon_kib` is before any load, with the functions deployed."""

    start_p50_ms: float
    start_max_ms: float
    starts: int
    container_uss_kib: int
    daemon_kib: int
    connection_kib: float
    connections: int


def measure(node: Node, starts: int, connections: int) -> Footprint:
    """All of it, on a node without load."""
    daemon = resident(node.process.pid)
    each = idle_connections(node, connections)
    times, uss = container_starts(node, starts)
    return Footprint(
        round(statistics.median(times), 2),
        round(max(times), 2),
        starts,
        uss,
        daemon,
        round(each, 1),
        connections,
    )


def container_starts(node: Node, count: int) -> tuple[list[float], int]:
    """Milliseconds from a call that finds no container to its answer; USS of the last one, in KiB."""
    times = []
    with Line(node.address) as line:
        line.call(PID)
        for _ in range(count):
            with contextlib.suppress(UnknownOutcome):
                line.call(QUIT)  # 402: the node has seen the container end
            began = time.perf_counter_ns()
            pid, _ = line.call(PID)
            times.append((time.perf_counter_ns() - began) / 1e6)
    return times, private(pid)


def idle_connections(node: Node, count: int) -> float:
    """KiB of the daemon's memory per greeted connection that does nothing."""
    before = resident(node.process.pid)
    with contextlib.ExitStack() as lines:
        for _ in range(count):
            lines.enter_context(Line(node.address))
        return (resident(node.process.pid) - before) / count


def resident(pid: int) -> int:
    """RSS in KiB."""
    return _field(Path(f"/proc/{pid}/status"), "VmRSS:")


def private(pid: int) -> int:
    """USS in KiB: what would be free if the process ended."""
    rollup = Path(f"/proc/{pid}/smaps_rollup")
    return _field(rollup, "Private_Clean:") + _field(rollup, "Private_Dirty:")


def _field(path: Path, name: str) -> int:
    line = next(line for line in path.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1])
