"""A call takes three times as long when the session's state is remote; it counts, and asks for a mode when told to."""

import mmap
import time
from typing import Literal

from edged.sdk import Function, Session

fn = Function("policy", state=dict)
TAKEN = []


@fn.handler
def work(s: Session, prefer: Literal["", "local", "remote"] = "") -> list[object]:
    s.state["n"] = s.state.get("n", 0) + 1
    time.sleep(0.01 if s.mode == "local" else 0.03)
    if prefer:
        s.prefer(prefer)
    return [s.state["n"], s.mode]


@fn.handler
def take(s: Session, size: int) -> None:
    """Memory that a container's processes share, which its limit does not count; once."""
    if not TAKEN:
        TAKEN.append(mmap.mmap(-1, size))
        for page in range(0, size, mmap.PAGESIZE):
            TAKEN[0][page] = 1
