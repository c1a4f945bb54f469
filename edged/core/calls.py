"""The vocabulary of one call inside a node: what is known of it from arrival to answer.

Decides nothing. `origin` is opaque here: whoever delivers the answer knows what it means.
"""

from collections.abc import Sequence
from typing import Any

from edged_protocol.plain import ONCE

from .alarms import Firing, firing_of
from .chains import Link, chain_of


class Call:
    """One invocation on its way through this node. Times are monotonic seconds.

    Everything is a slot set at the start: a default of the class would save a store for each call and cost ten times
    that at each look.
    """

    __slots__ = (
        "alarm", "answered", "arrived", "asks", "attached", "attempt", "away", "body", "call_id", "chain", "container",
        "deadline", "deltas", "entry", "form", "function", "heavy", "hops", "method", "mode", "origin", "packed", "prefer", "reroutes",
        "sent_at", "sent_to", "serial", "session", "started", "state", "state_seconds", "traceparent", "tries", "writes",
    )  # fmt: skip

    def __init__(
        self,
        origin: Any,
        serial: int,
        function: str,
        session: str | None,
        method: str,
        call_id: bytes | None,
        arrived: float,
        deadline: float,
        body: bytes,
        meta: dict[str, Any] | None,
    ) -> None:
        self.origin = origin
        self.serial = serial
        self.function = function
        self.session = session
        self.method = method
        self.call_id = call_id
        self.arrived = arrived
        self.deadline = deadline
        self.body = body
        self.alarm: Firing | None = None
        """The alarm it is for."""
        self.answered = False
        self.asks = False
        """Whether its meta says anything but how often it was forwarded."""
        self.attached: Sequence[Call] = ()
        """Retries that wait for this call's answer."""
        self.attempt = 0
        self.away = False
        self.chain: tuple[Link, ...] = ()
        """Who waits for this call."""
        self.container: Any = None
        self.deltas: tuple[bytes, ...] = ()
        """On `state`."""
        self.entry: Any = None
        self.form = 0
        """The schema of `state` and `deltas`; 0: there are none."""
        self.heavy = 0
        """Bytes of its body that count as in hand."""
        self.hops = 0
        self.mode: str | None = None
        self.packed: bytes | None = None
        """What it is from its function to its body, if it came like that (`plain`)."""
        self.prefer: str | None = None
        self.reroutes = 0
        self.sent_at = 0.0
        self.sent_to: str | None = None
        self.started = 0.0
        self.state: bytes | None = None
        self.state_seconds = 0.0
        """Spent on reading and committing the state in the store."""
        self.traceparent: str | None = None
        self.tries = 0
        self.writes = 1
        """The schema of the state that whoever runs it gives back."""
        if meta is ONCE:
            self.hops = 1
        elif meta is not None:
            self._read(meta)

    def _read(self, meta: dict[str, Any]) -> None:
        for name, value in meta.items():
            if name == "hops":
                self.hops = _count(value)
                continue
            self.asks = True
            if name == "attempt":
                self.attempt = _count(value)
            elif name == "prefer":
                self.prefer = value if value in ("local", "remote") else None
            elif name == "traceparent":
                self.traceparent = value if type(value) is str else None
            elif name == "chain":
                self.chain = chain_of(value)
            elif name == "alarm":
                self.alarm = firing_of(value)


def _count(value: object) -> int:
    return value if type(value) is int and value > 0 else 0
