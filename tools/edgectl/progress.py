"""A migration's progress on stderr, where that is a terminal (DESIGN §9).

Decides how far a move looks. It asks over a connection of its own, from a thread, because the command's own one waits
for the move's end; whatever goes wrong here is no business of the move, and is not shown.
"""

import contextlib
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from edged_protocol.blocking import Mesh
from edged_protocol.errors import CallError

ASK_SECONDS = 0.25
WIDTH = 30


def bar(move: dict[str, Any]) -> str:
    """One line: how much has moved, how much is left, in which round."""
    sent, left = int(move["bytes"]), int(move["left"])
    full = WIDTH * sent // max(1, sent + left)
    return f"[{'#' * full}{'.' * (WIDTH - full)}] {_size(sent)} sent, {_size(left)} left, round {move['rounds']}"


def _size(count: int) -> str:
    return f"{count / 2**20:.1f} MiB" if count >= 2**20 else f"{count / 1024:.1f} KiB"


@contextmanager
def shown(connected: contextlib.AbstractContextManager[Mesh], session: dict[str, str]) -> Iterator[None]:
    """Show how the migration of `session` goes, until the `with` ends."""
    if not sys.stderr.isatty():
        yield
        return
    over = threading.Event()
    watcher = threading.Thread(target=_watch, args=(connected, session, over), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join(1.0)


def _watch(connected: contextlib.AbstractContextManager[Mesh], session: dict[str, str], over: threading.Event) -> None:
    drawn = False
    with contextlib.suppress(CallError, OSError), connected as mesh:
        while not over.wait(ASK_SECONDS):
            move = mesh.request("session.get", session)[0].get("move")
            if move:
                drawn = True
                sys.stderr.write(f"\r{bar(move)}\x1b[K")
                sys.stderr.flush()
    if drawn:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()
