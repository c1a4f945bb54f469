"""Calls that containers make of others while they run one (DESIGN §8, SPEC "Calls from containers").

Decides which call of this node a container asks for, and with that what it may ask: a container may only call while it
runs a call itself, and gets that call's deadline, trace and chain, whatever it says. What it asked ends with its
parent. Refuses to know how calls find their way: from here on they are as a device's.
"""

import math

from edged.core.calls import Call
from edged.core.chains import why_not
from edged_protocol import messages as m
from edged_protocol.codec import encode
from edged_protocol.errors import Code

from .deadlines import Deadlines
from .deployed import MAX_CHILDREN, Deployed, Worker
from .relay import Relay
from .workers import Workers


class Nested:
    """`asked` for an INVOKE from a container, the others for the ends of those it was running."""

    def __init__(self, relay: Relay, workers: Workers, deadlines: Deadlines) -> None:
        self._relay = relay
        self._workers = workers
        self._deadlines = deadlines

    def waits_for_itself(self, function: Deployed) -> bool:
        """Whether every container of a pool that cannot grow waits, for calls in this very pool's queue only."""
        pool = function.pool
        if pool.may_grow and self._workers.slots.has_room(function):
            return False
        queued = pool.queued()
        for worker in pool.containers():
            asked = [call for calls in worker.children.values() for call in calls if not call.answered]
            if not asked or not all(call in queued for call in asked):
                return False
        return True

    def asked(self, worker: Worker, message: m.Invoke, now: float) -> None:
        """A container calls."""
        said = message.meta or {}
        id_ = said.get("parent")
        parent = worker.calls.get(id_) if type(id_) is int else None
        if parent is None:
            self._refuse(worker, message, Code.FORBIDDEN, "a container may call others only while it runs a call")
            return
        left = math.floor((parent.deadline - now) * 1000)
        reason = why_not((*parent.chain, (parent.function, parent.session)), message.function, message.session)
        if reason is not None:
            self._refuse(worker, message, Code.BAD_REQUEST, reason)
        elif left <= 0:
            self._refuse(worker, message, Code.DEADLINE_EXCEEDED, "the call that makes it is over", {"ran": False})
        elif worker.link.inflight >= MAX_CHILDREN:
            self._refuse(worker, message, Code.OVERLOADED, f"a container may have {MAX_CHILDREN} calls under way")
        else:
            self._let_in(worker, parent, message, min(left, message.timeout_ms or left), now)

    def _let_in(self, worker: Worker, parent: Call, message: m.Invoke, timeout: int, now: float) -> None:
        self._workers.long_calls.steal(parent, now)  # it waits: what is held behind it need not
        chain = [*map(list, parent.chain), [parent.function, parent.session]]
        meta: m.Map = {"chain": chain, "attempt": (message.meta or {}).get("attempt")}
        if parent.traceparent is not None:
            meta["traceparent"] = parent.traceparent
        # A child is known as such before it is routed: it may be the one that closes a circle of waiting containers.
        open_ = [call for call in worker.children.get(parent.serial, ()) if not call.answered]
        worker.children[parent.serial] = open_
        call = message._replace(timeout_ms=timeout, meta=meta, blob=None)
        self._relay.entrance.take(worker.link, [call], now, open_)

    def _refuse(
        self, worker: Worker, message: m.Invoke, code: Code, reason: str, meta: m.Map | None = None
    ) -> None:
        worker.link.send(encode(m.Error(message.id, code, reason, meta)))
        self._relay.touch(worker.link)

    def parent_ended(self, worker: Worker, parent: Call) -> None:
        """The container answered `parent`: nobody waits for what it had asked and not awaited."""
        for call in worker.children.pop(parent.serial, ()):
            if not call.answered:
                self._deadlines.give_up(call)

    def container_ended(self, worker: Worker) -> None:
        """So did all that it ran."""
        for parent in list(worker.calls.values()):
            self.parent_ended(worker, parent)
