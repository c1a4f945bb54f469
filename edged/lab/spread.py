"""Which node runs a call in virtual time: the daemon's `spread` around the real balancer.

Decides which calls may leave a node. Refuses to know how a call gets to another, and what is remembered of it: `UnderWay`.
"""

from typing import TYPE_CHECKING

from edged.core.balancing import UnderWay
from edged.core.calls import Call
from edged.core.records import SessionKey
from edged.core.rerouting import offered_again
from edged.core.sessions import Seat
from edged_protocol.limits import MAX_HOPS

if TYPE_CHECKING:
    from .node import Node

SKIP_SECONDS = 0.2


class Spread:
    """`elsewhere` or `another` for a call that comes, `ended` when it is out of the way."""

    def __init__(self, node: "Node") -> None:
        self._node = node
        self._under_way = UnderWay(node.name, node.balancer)
        self._sent = self._under_way.sent
        self.ended = self._under_way.ended

    def elsewhere(self, call: Call, seat: Seat | None) -> str | None:
        """The node that should run a call that could run here. One that a broker sent here goes on once, not back."""
        others, function, now = self._node.router.others(call.function), call.function, self._node.clock.now
        if not others or call.hops >= MAX_HOPS or call.prefer == "local" or (seat is not None and (seat.local or not seat.quiet)):
            return None
        before = self._under_way.node_of(function, call.session or "")
        if before is not None and not self._node.functions[function].overlapping:
            return self._sent(call, before, now)
        if self._node.containers.at_once(function) and (call.hops or self._node.balancer.stays(function)):
            return None
        if call.hops:
            back = call.origin.node.name
            onward = self._node.balancer.onward(function, [node for node in others if node != back], now)
            return None if onward is None else self._sent(call, onward, now)
        return self._sent(call, self._node.balancer.choose(function, others, now), now)

    def another(self, call: Call) -> str | None:
        """The node for a call that cannot run here."""
        others, now = self._node.router.others(call.function), self._node.clock.now
        return self._sent(call, self._node.balancer.choose(call.function, others, now), now)

    def asks_another(self, call: Call, node: str, now: float) -> bool:
        """After `node` had no room: whether the call is on its way again."""
        granted = self._node.balancer.refused(call.function, node, SKIP_SECONDS, now)
        if not granted or not offered_again(call):
            return False
        self._node.router.forget(SessionKey(call.function, call.session or ""))
        self._node.route(call)
        return True
