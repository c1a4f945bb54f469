"""The former lives of a data directory: of which of them it is certain that they have ended (DESIGN §5.3, reliability §2.2).

Decides when a life that is written down here was this very directory's: then its process is gone, for this one has the
directory's lock. A copy brings the file along, and perhaps the lease of a life that goes on elsewhere; so the file says where it was
written, in marks that a copy has not: the file of the lock, as this machine's running kernel knows it, or, after the machine has
started anew, on the board or the network adapters that it has. Without one mark in common nothing is certain, which costs the
wait for a lease and nothing else. Not taken: /etc/machine-id, which is in every image.
"""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from .bundles import write_whole

FILE = "life"

BOARD = Path("/proc/device-tree/serial-number")
KERNEL = Path("/proc/sys/kernel/random/boot_id")
ADAPTERS = Path("/sys/class/net")

PERMANENT = "0"
"""How an adapter got its address that has it from its maker; others are set by what an image may say."""


def past_of(data_dir: Path) -> frozenset[str]:
    """The boots of this directory's former lives that may have left a lease. A file that makes no sense says nothing."""
    try:
        said = json.loads((data_dir / FILE).read_bytes())
        boots, marks = [str(one) for one in said["boots"]], {str(one) for one in said["marks"]}
    except (OSError, ValueError, TypeError, KeyError):
        return frozenset()
    return frozenset(boots) if marks.intersection(_marks(data_dir)) else frozenset()


def keep(data_dir: Path, boots: Iterable[str]) -> None:
    """Write these down, before any of them has a lease that nothing else would tell of. Raises OSError."""
    write_whole(data_dir / FILE, json.dumps({"boots": [*boots], "marks": [*_marks(data_dir)]}).encode())


def _marks(data_dir: Path) -> Iterator[str]:
    lock = os.stat(data_dir / "lock")
    for kernel in _read(KERNEL):
        yield f"kernel {kernel} {lock.st_dev} {lock.st_ino}"
    for board in [*_read(BOARD)] or _addresses():  # an adapter on a cable may have been another board's
        yield f"board {board} {lock.st_ino}"


def _addresses() -> Iterator[str]:
    for adapter in sorted(ADAPTERS.glob("*")):
        if (adapter / "device").exists() and [*_read(adapter / "addr_assign_type")] == [PERMANENT]:
            yield from _read(adapter / "address")


def _read(path: Path) -> Iterator[str]:
    with suppress(OSError, ValueError):
        text = path.read_text().strip("\0\n ")
        if text:
            yield text
