"""The calls of one broker that were chosen a node for and are not out of the way yet.

Keeps the balancer's figures by them, and knows where a session's are: its next ones go there, so that they keep their
order. Refuses to choose a node, and to know how a call gets there. The alternative, a queue here for each session that
is away, would cost each of its calls a round trip more.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from ..calls import Call
from .balancer import Balancer


class UnderWay:
    """`sent` once a node is chosen, `ended` whatever becomes of the call: it may be told twice, it counts once."""

    def __init__(self, node: str, balancer: Balancer) -> None:
        self._node = node
        self._balancer = balancer
        self._away: dict[tuple[str, str], list[Call]] = {}
        """By function and session, none empty. (A plain tuple is made in a tenth of a SessionKey's time.)"""

    def node_of(self, function: str, session: str) -> str | None:
        """The other node where calls of the session are, the oldest of them."""
        calls = self._away.get((function, session))
        return calls[0].sent_to if calls else None

    def sent(self, call: Call, node: str | None, now: float) -> str | None:
        """`node` was chosen for the call, if any was; the other node it is, None when it is none or this one."""
        if call.sent_to is not None:  # it was to run here, but the queue is full
            self.ended(call, now, None)
        if node is None:
            return None
        self._balancer.sent(call.function, node)
        self._remember(call, node, now)
        return None if node == self._node else node

    def sent_elsewhere(self, call: Call, others: Sequence[str], now: float) -> str | None:
        """The other node where a call runs that this one cannot run, chosen and `sent`; None: all are overloaded."""
        if call.sent_to is not None:
            self.ended(call, now, None)
        node = self._balancer.send_elsewhere(call.function, others, now)
        if node is not None:
            self._remember(call, node, now)
        return node

    def _remember(self, call: Call, node: str, now: float) -> None:
        call.sent_to, call.sent_at = node, now
        if call.session is not None and node != self._node:
            self._away.setdefault((call.function, call.session), []).append(call)

    def ran(self, done: Iterable[tuple[Call, int]], now: float) -> None:
        """Calls without a session that were answered in one moment, each with the microseconds that it was queued and
        ran: counted together."""
        sums: dict[tuple[str, str], list[float]] = {}
        row: list[float] = []
        function, node = "", ""  # of the row: nearly always that of the next call too
        for call, there in done:
            to = call.sent_to
            if to is None:
                continue
            call.sent_to = None
            if to is not node or call.function is not function:
                function, node = call.function, to
                row = sums.setdefault((function, node), [0, 0.0, 0])
            row[0] += 1
            row[1] += now - call.sent_at
            row[2] += there
        for (function, node), (calls, seconds, micros) in sums.items():
            self._balancer.answered(function, node, seconds / calls, micros / calls / 1e6, now, int(calls))

    def ended(self, call: Call, now: float, meta: dict[str, Any] | None) -> None:
        """The call is out of the way, if it was chosen a node for; `meta` of its RESULT, if it ran."""
        node = call.sent_to
        if node is None:
            return
        call.sent_to = None
        if meta is None:
            self._balancer.ended(call.function, node)
        else:
            queued, run = meta.get("queue_us"), meta.get("run_us")
            there = (queued if type(queued) is int else 0) + (run if type(run) is int else 0)
            self._balancer.answered(call.function, node, now - call.sent_at, there / 1e6, now)
        if call.session is not None and node != self._node:
            key = (call.function, call.session)
            calls = self._away[key]
            calls.remove(call)
            if not calls:
                del self._away[key]
