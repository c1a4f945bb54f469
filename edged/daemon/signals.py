"""Which signals end a process in order (DESIGN §9). Refuses to know what it does then, and imports next to nothing: a node and
the parent of a mesh ask."""

import signal


def ends_by() -> list[signal.Signals]:
    """SIGINT, SIGTERM, and the end of its terminal, unless whoever started it said otherwise (nohup)."""
    numbers = [signal.SIGINT, signal.SIGTERM]
    return numbers if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else [*numbers, signal.SIGHUP]
