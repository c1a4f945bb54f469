"""Calls whose time is over, and those that nobody waits for any more (DESIGN §5.6, SPEC "CANCEL").

Decides what becomes of a call at its deadline, at its hard limit, and when its caller cancels it. Refuses to know
how calls find their way (`relay`).
"""

import trio

from edged.core import effects as fx
from edged.core.calls import Call
from edged_protocol import messages as m
from edged_protocol.codec import encode

from .link import Link
from .long_calls import STEAL_AFTER
from .relay import Relay
from .workers import Workers

MAX_CANCELS = 200
CANCEL_SECONDS = 10.0
"""Calls that had begun, cancelled on one connection in that time: more is an attack, for their work goes on."""


class Deadlines:
    """`sweep` every few milliseconds; `cancel` is told of what a caller gave up."""

    def __init__(self, relay: Relay, workers: Workers) -> None:
        self._relay = relay
        self._workers = workers
        self._index: dict[tuple[Link, int], Call] = {}
        self._cancels: dict[Link, tuple[float, int]] = {}

    def sweep(self) -> None:
        """Look after deadlines, hard limits and calls stuck behind a long one."""
        now = trio.current_time()
        for call in list(self._relay.calls.values()):
            self._look_after(call, now)
        self._index.clear()
        self._relay.settle()

    def _look_after(self, call: Call, now: float) -> None:
        if now >= call.deadline and not call.answered:
            self._over(call, "the deadline has passed")
        if call.container is not None and call.started and now - call.started > STEAL_AFTER:
            self._workers.long_calls.steal(call, now)
            limits = call.container.function.spec.manifest.calls
            if now - call.started > limits.hard_limit:
                self._workers.long_calls.overran(call)
                self._relay.done_with(call)

    def _over(self, call: Call, why: str) -> None:
        ran = {"ran": False} if call.container is None and call.started == 0.0 else None
        self._relay.answers.send_answer(fx.Answer(call, 401, b"", why, ran))
        if call.container is None and not call.away:
            self._relay.done_with(call)
            self._relay.expired(call)

    def cancel(self, link: Link, id_: int, now: float) -> None:
        """Nobody waits for a call of `link`: drop it if it has not begun, tell the node that has it, else let
        it end, its slot taken until then. A hint: one that came in the same moment as its call may miss it."""
        call = self._by_origin(link, id_)
        if call is not None and not call.answered and self.give_up(call):
            self._count(link, now)

    def give_up(self, call: Call) -> bool:
        """Nobody waits for `call`; whether it had begun."""
        holder = next((peer for peer in self._relay.peers.values() if peer.waiting.get(call.serial) is call), None)
        if holder is not None:
            holder.send(encode(m.Cancel(call.serial)))
            self._relay.touch(holder)
        elif call.container is None and call.started == 0.0:
            self._over(call, "cancelled before it began")
        return holder is not None or call.container is not None

    def _by_origin(self, link: Link, id_: int) -> Call | None:
        """Found by an index made at most once a sweep: a list of calls is long, and so may cancels be."""
        if not self._index:
            self._index = {call.origin: call for call in self._relay.calls.values()}
        return self._index.get((link, id_))

    def _count(self, link: Link, now: float) -> None:
        if link.role == "node":
            return  # it passes on what it has counted itself
        since, count = self._cancels.get(link, (now, 0))
        if now - since > CANCEL_SECONDS:
            since, count = now, 0
        if link not in self._cancels:
            self._cancels = {one: said for one, said in self._cancels.items() if not one.closed}
        self._cancels[link] = since, count + 1
        if count + 1 > MAX_CANCELS:
            link.goaway("too_many_cancels")
