"""Where a test may stop this process: at the named steps of sessions (reliability §3, F1 to F5).

Decides nothing in a node that serves: without EDGED_TEST_STOP nothing here is ever asked. A list of names makes the
process stop itself (SIGSTOP) the first time it reaches each; whoever started it may then kill it or let it go on. A
state of `core.transition` is the moment a session steps to it, before anything that follows is sent; with a `+`
behind it, the moment after. A signal of its own needs no second channel, and stops the whole process, threads too.
"""

import logging
import os
import signal
from collections.abc import Callable

log = logging.getLogger(__name__)

VARIABLE = "EDGED_TEST_STOP"


class Breakpoints:
    """The names not reached yet; called with one, it stops there."""

    def __init__(self, names: str) -> None:
        self._left = set(names.split(","))

    def __call__(self, name: str) -> None:
        """The process is at `name`."""
        if name in self._left:
            self._left.discard(name)
            os.kill(os.getpid(), signal.SIGSTOP)


def breakpoints() -> Callable[[str], None] | None:
    """What to tell of each step; None, as always outside tests, when nobody wants to know."""
    names = os.environ.pop(VARIABLE, "")
    if not names:
        return None
    log.warning("a test stops this node at %s", names)
    return Breakpoints(names)
