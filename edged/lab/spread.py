"""Which node runs a call in virtual time: the daemon's `spread` around the real balancer.

Decides what a node remembers of the calls it has sent away: a session's calls follow each other to one node. Refuses
to know how a call gets there.
"""

from typing import TYPE_CHECKING, Any

from edged.core.calls import Call
from edged.core.records import SessionKey
from edged.core.sessions import Seat
from edged_protocol.limits import MAX_HOPS

if TYPE_CHECKING:
    from .node import Node

MAX_REROUTES = 2
SKIP_SECONDS = 0.2


class Spread:
    """`elsewhere` or `another` for a call that comes, `arrived_back` when it is out of the way."""

    def __init__(self, node: "Node") -> None:
        self._node = node
        self._under_way: dict[SessionKey, list[Call]] = {}

    def elsewhere(self, call: Call, seat: Seat | None) -> str | None:
        """The node that should run a call that could run here. One that a broker sent here goes on once, not back."""
        others, function, now = self._node.router.others(call.function), call.function, self._node.clock.now
        if not others or call.hops >= MAX_HOPS or call.prefer == "local" or (seat is not None and (seat.local or not seat.quiet)):
            return None
        before = self._under_way.get(SessionKey(function, call.session or ""))
        if before and not self._node.functions[function].overlapping:
            return self._sent(call, before[0].sent_to)
        if self._node.containers.at_once(function) and (call.hops or self._node.balancer.stays(function)):
            return None
        if call.hops:
            back = call.origin.node.name
            onward = self._node.balancer.onward(function, [node for node in others if node != back], now)
            return None if onward is None else self._sent(call, onward)
        return self._sent(call, self._node.balancer.choose(function, others, now))

    def another(self, call: Call) -> str | None:
        """The node for a call that cannot run here."""
        others = self._node.router.others(call.function)
        return self._sent(call, self._node.balancer.choose(call.function, others, self._node.clock.now))

    def _sent(self, call: Call, node: str | None) -> str | None:
        if node is None:
            return None
        if node != self._node.name:
            self._under_way.setdefault(SessionKey(call.function, call.session or ""), []).append(call)
        call.sent_to, call.sent_at = node, self._node.clock.now
        self._node.balancer.sent(call.function, node)
        return None if node == self._node.name else node

    def arrived_back(self, call: Call, meta: dict[str, Any] | None) -> None:
        """A call that was chosen a node for is out of the way; `meta` of its RESULT, if it ran."""
        node, now = call.sent_to, self._node.clock.now
        if node is None:
            return
        call.sent_to = None
        if meta is None:
            self._node.balancer.ended(call.function, node)
        else:
            there = (meta.get("queue_us", 0) + meta.get("run_us", 0)) / 1e6
            self._node.balancer.answered(call.function, node, now - call.sent_at, there, now)
        if node == self._node.name:
            return
        key = SessionKey(call.function, call.session or "")
        calls = self._under_way.get(key, [])
        if call in calls:
            calls.remove(call)
        if not calls:
            self._under_way.pop(key, None)

    def asks_another(self, call: Call, node: str, now: float) -> bool:
        """After `node` had no room: whether the call is on its way again."""
        granted = self._node.balancer.refused(call.function, node, SKIP_SECONDS, now)
        if not granted or call.answered or call.hops or call.reroutes >= MAX_REROUTES:
            return False
        call.reroutes += 1
        self._node.router.forget(SessionKey(call.function, call.session or ""))
        self._node.route(call)
        return True
