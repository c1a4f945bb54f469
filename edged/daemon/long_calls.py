"""Calls that take long: what becomes of those behind them in the same container, and of the call itself (DESIGN §5.6).

A container holds calls behind the one it runs, since most take microseconds. Decides when that was a mistake, and mends
it. Refuses to know who waits for a call (`deadlines`), and which container is the next (`core.pools`).
"""

import logging
from collections.abc import Callable

from edged.core.calls import Call
from edged_protocol import messages as m
from edged_protocol.codec import encode

from .deployed import Deployed, Worker
from .link import Link

log = logging.getLogger(__name__)

STEAL_AFTER = 0.005
"""Seconds a call may run before those held behind it are given to other containers."""

TELL_AGAIN = 0.02
"""Seconds between two signals to a container whose readers wait: one that comes between two calls is for nothing."""


class LongCalls:
    """`steal` for a call that takes long, again and again while it does; `overran` at its hard limit."""

    def __init__(self, touch: Callable[[Link], None], feed: Callable[[Deployed, float], None]) -> None:
        self._touch = touch
        self._feed = feed

    def overran(self, call: Call) -> None:
        """The call passed its hard limit: its container is killed, which ends the call."""
        worker = call.container
        if isinstance(worker, Worker) and call.serial in worker.calls:
            log.warning("%s: call %s passed its hard limit", worker.name, call.serial)
            worker.container.kill()
            worker.link.cut("hard limit")

    def steal(self, call: Call, now: float) -> None:
        """The call takes long, or waits itself: give what is held behind it to other containers."""
        worker = call.container
        if not isinstance(worker, Worker):
            return
        if worker.seats is not None:
            self._let_readers_by(worker, now)
            return
        self.take_back(worker)
        if worker.function.pool.waiting:
            self._feed(worker.function, now)

    def take_back(self, worker: Worker) -> None:
        """What is held behind the call that a container runs goes to the queue; it gets no more until that ends."""
        taken = worker.function.pool.overdue(worker)
        for waiting in taken:
            worker.calls.pop(waiting.serial, None)
            waiting.container = None
            worker.link.send(encode(m.Cancel(waiting.serial)))
        if taken:
            self._touch(worker.link)

    def _let_readers_by(self, worker: Worker, now: float) -> None:
        """A container of sessions' own: it runs the readers that wait behind a long call beside it, when it is told."""
        shared = worker.function.shared
        ahead = worker.turns.ahead(shared) if worker.turns is not None else ()
        for call in ahead:
            worker.invoke(call, now)
        if ahead:
            self._touch(worker.link)
        if not worker.beside or now - worker.told < TELL_AGAIN:
            return
        if any(call.method in shared and not call.started for call in worker.calls.values()):
            worker.told = now
            worker.container.wake()
