"""How much memory this node's containers take, measured now and then (DESIGN §7).

Decides how a page that several processes share is counted: by its share, so that what a zygote has once for all its
containers counts once. Refuses to know what follows, and what was promised (`slots`).
"""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import trio

from .workers import Workers

LOOK_SECONDS = 5.0
"""Between two looks: each reads a file of the kernel's for every container, which takes it some 50 µs."""

MACHINE = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
"""Bytes of memory that this machine has."""

_PSS = re.compile(rb"^Pss: +(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Used:
    """Bytes of all containers, and the mean of one by function."""

    total: int = 0
    each: Mapping[str, int] = field(default_factory=dict)


class Memory:
    """`run` for ever; `used` is what the last look found."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self.used = Used()

    async def run(self) -> None:
        """Look, off the loop's thread."""
        while True:
            await trio.sleep(LOOK_SECONDS)
            running = [(worker.function.spec.manifest.name, worker.container.pid) for worker in self._workers.slots.alive]
            self.used = await trio.to_thread.run_sync(measured, running)


def measured(running: Iterable[tuple[str, int]]) -> Used:
    """Of these processes, by name; those that have just ended count nothing."""
    found: dict[str, list[int]] = {}
    for name, pid in running:
        size = _size(pid)
        if size:
            found.setdefault(name, []).append(size)
    total = sum(map(sum, found.values()))
    return Used(total, {name: sum(sizes) // len(sizes) for name, sizes in found.items()})


def _size(pid: int) -> int:
    try:
        match = _PSS.search(Path(f"/proc/{pid}/smaps_rollup").read_bytes())
    except OSError:
        return 0
    return int(match[1]) * 1024 if match else 0
