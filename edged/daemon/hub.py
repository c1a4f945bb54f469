"""Reads every connection of a node in one place, then writes what came of it (DESIGN §10, §11).

Decides when a connection is read, when answers leave and when deadlines are looked after: all that one look at the
sockets brings is handled before anything is written, so a call's way through the node costs a share of a write, not a
write. Refuses to know frames.

The sockets sit in an epoll of their own. In a process of its own a node has `guest.run` wait for it, so that no call
passes trio's scheduler, whose turn costs more than a call; in somebody else's trio, as in tests, `run` waits for it
like any other task.
"""

import logging
import math
import select
import time
from collections.abc import Callable, Sized
from typing import Protocol

import trio

log = logging.getLogger(__name__)

ROUNDS = 4
"""Looks at the sockets before trio's other tasks have their turn: a few milliseconds under full load."""

SWEEP = 0.005
SWEEP_EACH = 1e-5
"""Seconds between two looks at the deadlines of what is in flight, and what each call in flight adds to them."""

BEAT = 0.25
"""Seconds that the longest look waits: so often a node that has nothing to do sees that it is still there."""

AWAY = 1.0
"""Seconds between two looks after which the node was away: stopped, suspended, or without a processor."""


def boottime() -> float:
    """Seconds since this machine started, suspended or not."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Source(Protocol):
    """A connection, as the hub sees it."""

    def readable(self) -> None:
        """Take one read's worth of bytes; never blocks."""

    def cut(self, reason: str) -> None:
        """End the connection."""


class Hub:
    """`add` a socket's number with its connection; it is read until `run` is cancelled."""

    def __init__(
        self,
        settle: Callable[[], None] = lambda: None,
        sweep: Callable[[], None] = lambda: None,
        in_flight: Sized = (),
    ) -> None:
        self.settle = settle
        self.sweep = sweep
        """Looks after deadlines; called every few milliseconds while anything is `in_flight`."""
        self.in_flight = in_flight
        self.hosts = False
        """Whether it is waited for outside trio."""
        self.returned: Callable[[], None] = lambda: None
        """Told before anything is read that came while the node was away; only where the hub is waited for outside trio."""
        self._epoll = select.epoll()
        self._sources: dict[int, Source] = {}
        self._looked = boottime()
        self._due = 0.0
        """When the next sweep is."""
        self._over = False

    def add(self, fd: int, source: Source) -> None:
        """Read `source` whenever its socket has something."""
        if not self._over:  # else the node is ending, and so is whoever asks
            self._sources[fd] = source
            self._epoll.register(fd, select.EPOLLIN)

    def remove(self, fd: int) -> None:
        """Leave that socket alone from now on; before it is closed."""
        if self._sources.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    async def run(self) -> None:
        """Have everything read, for ever."""
        try:
            if self.hosts:
                await trio.sleep_forever()
            while True:
                with trio.move_on_after(self.patience() if self.in_flight else math.inf):
                    await trio.lowlevel.wait_readable(self._epoll)
                for _ in range(ROUNDS):
                    if not self.look(0):
                        break
        finally:
            if not self.hosts:
                self.close()

    def close(self) -> None:
        """Read nothing any more."""
        self._over = True
        self._sources.clear()
        self._epoll.close()

    def look(self, seconds: float) -> bool:
        """Wait for `seconds` at most, then do all there is to do; whether anything was read."""
        ready = self._epoll.poll(seconds)
        before, self._looked = self._looked, boottime()
        if self._looked - before > AWAY and self.hosts:
            self.returned()
        if ready:
            for fd, _ in ready:
                self._read(fd)
            self.settle()
        if self.in_flight and self._looked >= self._due:
            self._due = self._looked + SWEEP + SWEEP_EACH * len(self.in_flight)
            self.sweep()
        return bool(ready)

    def patience(self) -> float:
        """Seconds for which the next look may wait."""
        return max(0.0, self._due - self._looked) if self.in_flight else BEAT

    def _read(self, fd: int) -> None:
        source = self._sources.get(fd)  # one that was read before may have cut it
        if source is not None:
            try:
                source.readable()
            except Exception:
                log.exception("a connection failed")
                source.cut("a defect")
