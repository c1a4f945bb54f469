"""The machine a measurement ran on: its processors, their idle states, what else it was doing.

A virtual processor that halts when idle adds tens of microseconds to every wakeup (measured: a raw round trip
of 55 µs became 100). So idle states are held off while this process measures, where the kernel allows it;
the hold ends with the process, however it ends.
"""

import contextlib
import os
import platform
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

QOS = Path("/dev/cpu_dma_latency")
CPUS = Path("/sys/devices/system/cpu")


@contextlib.contextmanager
def idle_states(hold: bool) -> Iterator[str]:
    """Hold idle states off if wanted and possible; says how they are during the `with`."""
    held = None
    if hold:
        with contextlib.suppress(OSError):
            held = os.open(QOS, os.O_WRONLY | os.O_CLOEXEC)
    try:
        if held is None:
            yield found()
        else:
            os.write(held, struct.pack("=i", 0))
            yield "held off during this run (cpu_dma_latency = 0)"
    finally:
        if held is not None:
            os.close(held)


def found() -> str:
    """How idle states are set on this machine."""
    if "idle=poll" in Path("/proc/cmdline").read_text().split():
        return "disabled (idle=poll)"
    switches = list(CPUS.glob("cpu[0-9]*/cpuidle/state[1-9]*/disable"))
    if not switches:
        return "unknown"
    enabled = [path for path in switches if path.read_text().strip() == "0"]
    return "enabled: latencies are higher than the programs' own" if enabled else "disabled"


def processor_seconds() -> float:
    """Used so far by this process and all below it. On a machine that others use too it says more than a clock."""
    return sum(_family(os.getpid()).values()) / os.sysconf("SC_CLK_TCK")


def _family(root: int) -> dict[int, int]:
    """A process and all below it, each with the ticks it has used."""
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            pid = int(path.parent.name)
            parents[pid], ticks[pid] = int(fields[1]), int(fields[11]) + int(fields[12])
    family, grown = set[int](), {root}
    while grown:
        family |= grown
        grown = {pid for pid, parent in parents.items() if parent in grown}
    return {pid: ticks.get(pid, 0) for pid in family}


def cores() -> list[int]:
    """Those that this process may use."""
    return sorted(os.sched_getaffinity(0))


@contextlib.contextmanager
def apart(first: Sequence[int], second: Sequence[int]) -> Iterator[None]:
    """Two nodes as on two machines: the processes of each, and all below them, have a core of their own, this process that of
    the first. Left to the scheduler two nodes that wake each other may share one core while the other is idle."""
    everywhere = cores()
    try:
        _lay([os.getpid()], everywhere[:1])
        for roots, core in ((first, everywhere[:1]), (second, everywhere[1:2])):
            for root in roots:
                _lay(_family(root), core)
        yield
    finally:
        _lay([os.getpid()], everywhere)
        for root in (*first, *second):
            _lay(_family(root), everywhere)


def _lay(pids: Iterable[int], on: list[int]) -> None:
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").glob("*"):
            with contextlib.suppress(OSError):
                os.sched_setaffinity(int(thread.name), on)


def description() -> dict[str, str | float | None]:
    """For the record."""
    return {
        "cpus": os.cpu_count(),
        "model": _model(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
    }


def _model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.lower().startswith(("model name", "hardware", "model\t")):
            return line.partition(":")[2].strip()
    return platform.machine()
