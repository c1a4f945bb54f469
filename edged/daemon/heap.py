"""Gives memory back that large bodies have left behind (DESIGN §10).

The C library keeps what is freed in the middle of its heap: after a burst of bodies of a megabyte, which are long gone, a
node of 49 MiB stays at 180 to 260, which its containers miss on a machine of 1 GB. Decides when it is asked for them:
when the process has much more than the library says is in use, at a look now and then. Refuses to know who used it.

Not taken: a lower threshold at which the library itself gives back or maps (`mallopt`): each large body then takes its
pages from the kernel anew, and a call with a megabyte took twice as much of the node's processor time.
"""

import contextlib
import ctypes
import os
import time
from collections.abc import Callable
from pathlib import Path

import trio

LOOK_SECONDS = 5.0
"""Between two looks; each takes another thread some 10 µs, and longer the more pieces lie idle: 50 ms where 200,000 do."""

SHARE = 200
"""Times as long as the last look took the next one waits at least: whoever allocates during one waits for its end."""

WORTH = 16 * 1024 * 1024
"""Bytes: whoever allocates meanwhile waits for as long as it takes, some 0.15 ms for each MiB, so less is left alone."""

_RESIDENT = Path("/proc/self/statm")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class _Usage(ctypes.Structure):
    """`struct mallinfo2`."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
    ]


class Heap:
    """What this process's C library has and could give back. `of_this_process` where it can."""

    def __init__(self, usage: Callable[[], _Usage], trim: Callable[[int], int]) -> None:
        self._usage = usage
        self._trim = trim
        self._least = self._beside()

    @classmethod
    def of_this_process(cls) -> "Heap | None":
        """None: this C library gives back by itself, as musl does, or cannot be asked."""
        library = ctypes.CDLL(None)
        try:
            usage, trim = library.mallinfo2, library.malloc_trim
            usage.restype = _Usage
            return cls(usage, trim)
        except (AttributeError, OSError):
            return None

    def _beside(self) -> int:
        """Bytes of memory that are not the library's in use: programs, Python's small objects, and what lies idle."""
        usage = self._usage()
        used: int = usage.uordblks + usage.hblkhd
        return int(_RESIDENT.read_bytes().split()[1]) * _PAGE - used

    def look(self) -> float:
        """Give back what lies idle, if it is worth it; for another thread than the loop's. Seconds of processor time it took."""
        began, now = time.thread_time(), self._beside()
        if now > self._least + WORTH:
            self._trim(0)
            self._least = self._beside()
        else:
            self._least = min(self._least, now)
        return time.thread_time() - began


async def give_back() -> None:
    """For ever."""
    heap = await trio.to_thread.run_sync(Heap.of_this_process)
    took = 0.0
    while heap is not None:
        await trio.sleep(max(LOOK_SECONDS, SHARE * took))
        with contextlib.suppress(OSError):  # no descriptor is left to look with: another time
            took = await trio.to_thread.run_sync(heap.look)
