"""Memory that lies idle in the C library's heap goes back to the machine, and nothing else is disturbed."""

import ctypes
import errno
import subprocess
import sys
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from edged.daemon import heap
from edged.daemon.heap import WORTH, Heap

HOLES = """
import resource
from pathlib import Path
from edged.daemon.heap import Heap

heap = Heap.of_this_process()
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
blocks = [bytes(1 << 20)]
blocks.clear()  # from now on the library takes such blocks from its heap
before, pins = resident(), []
for n in range(100):
    blocks.append(b"x" * 1_000_000)
    pins.append(bytes(2_000 + n))
blocks.clear()
kept = resident()
heap.look()
print(kept - before, resident() - before)
"""


def test_what_was_freed_between_what_is_used_goes_back() -> None:
    """Of a hundred blocks of a megabyte, each with something behind it that stays, most is given back at one look."""
    done = subprocess.run([sys.executable, "-c", HOLES], capture_output=True, text=True, check=True)
    kept, left = map(int, done.stdout.split())
    assert kept > 50_000_000
    assert left < 10_000_000


@pytest.fixture
def used() -> SimpleNamespace:
    """What the library says of itself."""
    return SimpleNamespace(uordblks=0, hblkhd=0)


@pytest.fixture
def resident(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Pages of this process."""
    pages = [10_000]
    monkeypatch.setattr(heap, "_RESIDENT", SimpleNamespace(read_bytes=lambda: b"99999 %d 0" % pages[0]))
    monkeypatch.setattr(heap, "_PAGE", 1)
    return pages


def test_a_look_asks_only_where_it_is_worth_it(used: Any, resident: list[int]) -> None:
    """Not for memory in use, nor for little; and what was in vain is not asked for again at each look."""
    asked: list[int] = []
    one = Heap(lambda: used, lambda pad: asked.append(pad) or 1)  # type: ignore[func-returns-value]
    used.uordblks = 10 * WORTH
    resident[0] += 10 * WORTH
    one.look()
    resident[0] += WORTH
    one.look()
    assert asked == []
    resident[0] += 1
    one.look()
    assert asked == [0]
    one.look()
    used.uordblks, resident[0] = 0, 10_000
    one.look()
    assert asked == [0]
    resident[0] += WORTH + 1
    one.look()
    assert asked == [0, 0]


async def test_a_library_that_cannot_be_asked_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """One without these functions, as musl: there is nothing to do, for ever."""
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace())
    assert Heap.of_this_process() is None
    await heap.give_back()


async def test_a_look_that_fails_ends_nothing(monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock) -> None:
    """A node may have no descriptor left to look with; later it has."""
    looks, again = 0, trio.Event()

    def read_bytes() -> bytes:
        nonlocal looks
        looks += 1
        if looks in (2, 3):
            raise OSError(errno.EMFILE, "Too many open files")
        if looks > 3:
            trio.from_thread.run_sync(again.set)
        return b"9 9 0"

    monkeypatch.setattr(heap, "_RESIDENT", SimpleNamespace(read_bytes=read_bytes))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(heap.give_back)
        await again.wait()
        nursery.cancel_scope.cancel()
    assert looks == 4


async def test_a_look_that_takes_long_is_followed_late(monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock) -> None:
    """Looks take a small share of the time, however many pieces the library has to count."""
    takes, seen, enough = [0.001, 1.0, 0.0], [0.0], trio.Event()

    def look() -> float:
        seen.append(trio.from_thread.run_sync(trio.current_time))
        if len(seen) == 4:
            trio.from_thread.run_sync(enough.set)
        return takes[len(seen) - 2]

    monkeypatch.setattr(Heap, "of_this_process", lambda: SimpleNamespace(look=look))
    seen[0] = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(heap.give_back)
        await enough.wait()
        nursery.cancel_scope.cancel()
    pauses = [later - earlier for earlier, later in pairwise(seen)]
    assert pauses == pytest.approx([heap.LOOK_SECONDS, heap.LOOK_SECONDS, heap.SHARE])
