"""What a node takes in of the calls it is sent (DESIGN §4, §10): each bound, and what who exceeds it is told.

Decides whether a call is in hand from now on. Refuses to know where it goes (`relay`). All calls of one read that follow
each other are looked at in one loop: for most of them one glance does.
"""

from collections.abc import Callable, Iterable, Iterator

from edged.core.calls import Call
from edged_protocol import messages as m
from edged_protocol.ids import valid_session
from edged_protocol.limits import MAX_INFLIGHT, MAX_TIMEOUT_MS
from edged_protocol.plain import ONCE

from .burden import LIGHT, Burden
from .link import Link
from .measuring import Measuring
from .served import Served

MAX_CALLS = 8192
"""Calls one node has in hand; each may hold a body."""


class Entrance:
    """`take` what came on a connection; `route` gets what is taken, `refuse` what is not."""

    def __init__(
        self,
        calls: dict[int, Call],
        serials: Iterator[int],
        burden: Burden,
        measuring: Measuring,
        route: Callable[[Call, float], None],
        refuse: Callable[[Call, int, str], None],
    ) -> None:
        self._calls = calls
        self._serials = serials
        self._measuring = measuring
        self._route = route
        self._refuse = refuse
        self.served: Served
        self._burden = burden
        self.draining = False
        """The node is about to stop: it finishes what it has and takes no more."""

    def take(self, link: Link, messages: Iterable[m.Invoke], now: float, among: list[Call] | None = None) -> None:
        """Calls from a device, an operator, another node, or a container, whose calls they join (`nested`)."""
        calls, serials, route, trusted = self._calls, self._serials, self._route, link.role == "node"
        for id_, function, session, method, call_id, timeout, body, meta, packed in messages:
            if not 0 < timeout <= MAX_TIMEOUT_MS:
                timeout = MAX_TIMEOUT_MS if timeout else self.served.default_timeout(function)  # noqa: PLW2901
            serial, deadline = next(serials), now + timeout / 1000
            call = Call((link, id_), serial, function, session, method, call_id, now, deadline, body, meta)
            if meta is ONCE:
                call.packed = packed
            elif meta is not None and not trusted:
                _believe(call, link)
            # One glance; what is out of the ordinary, or has a session, is looked at closely.
            usual = session is None and len(body) <= LIGHT and len(calls) < MAX_CALLS and not self.draining
            if not (usual and (trusted or link.inflight < MAX_INFLIGHT)) and not self._admits(call, link):
                continue
            if among is not None:
                among.append(call)
            link.inflight += 1
            calls[serial] = call
            if session is not None:
                self._measuring.arrived(call, link, now)
            route(call, now)

    def _admits(self, call: Call, link: Link) -> bool:
        """Whether the call is taken; who sent it is told if not."""
        code, reason = 101, ""
        if link.role != "node" and link.inflight >= MAX_INFLIGHT:
            reason = "too many calls in flight on this connection"
        elif self.draining and link.role != "worker":  # what runs ends, and may need others for it
            code, reason = 102, "the node is stopping"
        elif len(self._calls) >= MAX_CALLS:
            reason = "the node has too many calls in hand"
        elif call.session is not None and not valid_session(call.session):
            code, reason = 201, "not a session key"
        elif len(call.body) > LIGHT:
            if self._burden.take(link, len(call.body)):
                call.heavy = len(call.body)
            else:
                reason = "too many bytes of calls in flight"
        if reason:
            self._refuse(call, code, reason)
        return not reason


def _believe(call: Call, link: Link) -> None:
    """Of what the meta says only what this caller may say."""
    call.hops = 0
    if link.role != "worker":
        call.chain, call.alarm = (), None
