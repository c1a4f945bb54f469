"""Reads every connection of a node in one task, then writes what came of it (DESIGN §10, §11).

Decides when a connection is read and when answers leave: all that one look at the sockets brings is handled
before anything is written, so a call's way through the node costs a share of a write, not a write. Refuses
to know frames. The sockets sit in an epoll of their own, which trio waits for: a task per connection would
be woken, and would arm its socket anew, for each read.
"""

import logging
import select
from collections.abc import Callable
from typing import Protocol

import trio

log = logging.getLogger(__name__)

ROUNDS = 4
"""Looks at the sockets before other tasks have their turn: a few milliseconds under full load."""


class Source(Protocol):
    """A connection, as the hub sees it."""

    def readable(self) -> None:
        """Take one read's worth of bytes; never blocks."""

    def cut(self, reason: str) -> None:
        """End the connection."""


class Hub:
    """`add` a socket's number with its connection; `run` reads them until it is cancelled."""

    def __init__(self, settle: Callable[[], None]) -> None:
        self._settle = settle
        self._epoll = select.epoll()
        self._sources: dict[int, Source] = {}

    def add(self, fd: int, source: Source) -> None:
        """Read `source` whenever its socket has something."""
        if not self._epoll.closed:  # else the node is ending, and so is whoever asks
            self._sources[fd] = source
            self._epoll.register(fd, select.EPOLLIN)

    def remove(self, fd: int) -> None:
        """Leave that socket alone from now on; before it is closed."""
        if self._sources.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    async def run(self) -> None:
        """Read for ever."""
        try:
            while True:
                await trio.lowlevel.wait_readable(self._epoll)
                for _ in range(ROUNDS):
                    ready = self._epoll.poll(0)
                    if not ready:
                        break
                    for fd, _ in ready:
                        self._read(fd)
                    self._settle()
        finally:
            self._sources.clear()
            self._epoll.close()

    def _read(self, fd: int) -> None:
        source = self._sources.get(fd)  # one that was read before may have cut it
        if source is not None:
            try:
                source.readable()
            except Exception:
                log.exception("a connection failed")
                source.cut("a defect")
