"""Takes all of a core that it gets."""

import os
import time

from edged.sdk import Function, Session

fn = Function("busy", state=dict)


@fn.handler
def spin(s: Session, seconds: float) -> int:
    """For so long; the number of its process."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return os.getpid()


@fn.handler
def leave_behind(s: Session) -> int:
    """A process in a session of its own, which no signal to its container's group reaches; its number."""
    child = os.fork()
    if child == 0:
        os.setsid()
        time.sleep(1000)
    return child
