"""The memory of containers, as the kernel counts it."""

import os
import subprocess
import sys

from edged.daemon.memory import measured

HOLD = "import sys; held = b'x' * (30 << 20); print(flush=True); sys.stdin.read()"


def test_memory_is_measured_by_function() -> None:
    """A process that holds 30 MiB takes that; the mean is by name; one that is gone takes nothing."""
    command = [sys.executable, "-c", HOLD]
    holders = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(2)]
    try:
        for holder in holders:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"\n"
        found = measured([("one", holders[0].pid), ("one", holders[1].pid), ("self", os.getpid()), ("gone", 2**22 + 1)])
    finally:
        for holder in holders:
            holder.communicate()
    assert 30 << 20 < found.each["one"] < 80 << 20
    assert set(found.each) == {"one", "self"}
    assert found.total >= 2 * (30 << 20) + found.each["self"]


def test_nothing_takes_nothing() -> None:
    """No containers, no bytes."""
    assert (measured([]).total, dict(measured([]).each)) == (0, {})
