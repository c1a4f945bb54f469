"""Calls that may run anywhere, spread over the nodes that run their function (DESIGN §6).

Decides which calls may leave this node at all; which node they go to is the `Balancer`'s. Refuses to know how a
call is sent, and what is remembered of it: `UnderWay`.
"""

import random

import trio

from edged.core.balancing import MAX_FIGURES, Balancer, Load, UnderWay, figures, loads
from edged.core.calls import Call
from edged.core.records import SessionKey
from edged.core.routing import Router
from edged.core.sessions import Seat
from edged_protocol import messages as m
from edged_protocol.limits import MAX_HOPS

from .workers import Workers

SKIP_SECONDS = 0.2
"""For a node that did not say when to come back."""

MOST_SKIP = 5.0
FULL_HERE = 0.05
"""Seconds in which a full queue here is not looked at again."""


class Spread:
    """The balancing of one node: asked by the relay for each call that could run here."""

    def __init__(self, node: str, router: Router, workers: Workers, seats: dict[SessionKey, Seat]) -> None:
        self._node = node
        self._router = router
        self._workers = workers
        self._seats = seats
        self.balancer = Balancer(node, random.Random(), self.load)  # noqa: S311 - spreads load, keeps no secret
        self._under_way = UnderWay(node, self.balancer)
        self._sent = self._under_way.sent
        self.ended = self._under_way.ended
        self.ran = self._under_way.ran
        self.send_elsewhere = self._under_way.sent_elsewhere

    def load(self, function: str) -> Load | None:
        """This node's figures of a function it runs."""
        row = self._workers.figures(function)
        return None if row is None else Load._make(row)

    def elsewhere(self, call: Call, now: float) -> str | None:
        """The node that should run a call that could run here; None: here. One that a broker sent here goes on once,
        and not back."""
        others = self._router.others(call.function)
        if not others or call.hops >= MAX_HOPS or not self._may_leave(call):
            return None
        before = self._under_way.node_of(call.function, call.session) if call.session is not None else None
        if before is not None:
            return self._sent(call, before, now)
        if self._workers.at_once(call.function) and (call.hops or self.balancer.stays(call.function)):
            return None
        if call.hops:
            back = call.origin[0].name
            onward = self.balancer.onward(call.function, [node for node in others if node != back], now)
            return None if onward is None else self._sent(call, onward, now)
        return self._sent(call, self.balancer.choose(call.function, others, now), now)

    def _may_leave(self, call: Call) -> bool:
        if call.session is None:
            return True
        if call.prefer == "local" or self._workers.served.starts_local(call.function):
            return False
        seat = self._seats.get(SessionKey(call.function, call.session))
        return seat is None or (seat.quiet and not seat.local)

    def reported(self, node: str, function: str, value: object, now: float) -> None:
        """Figures that came with a node's answer."""
        load = figures(value)
        if load is not None:
            self.balancer.heard(function, node, load, now)

    def all_reported(self, node: str, value: object) -> None:
        """Figures that a node's record tells of all its functions."""
        known = self._router.functions()
        for function, load in loads(value, MAX_FIGURES).items():
            if function in known:
                self.balancer.heard(function, node, load, trio.current_time())

    def refused(self, call: Call, node: str, meta: m.Map, now: float) -> bool:
        """A node certainly did not run the call: whether another may be asked."""
        after = meta.get("retry_after_ms")
        seconds = after / 1000 if type(after) is int and after >= 0 else SKIP_SECONDS
        return self.balancer.refused(call.function, node, min(seconds, MOST_SKIP), now)

    def full_here(self, call: Call, now: float) -> str | None:
        """The queue here is full: another node, if there is one that is not."""
        others = self._router.others(call.function)
        if call.hops or call.session is not None or not others:
            return None
        if not self.balancer.refused(call.function, self._node, FULL_HERE, now):
            return None
        return self.send_elsewhere(call, others, now)
