"""The vocabulary of one call inside a node: what is known of it from arrival to answer.

Decides nothing. `origin` is opaque here: whoever delivers the answer knows what it means.
"""

from collections.abc import Sequence
from typing import Any

from .alarms import Firing, firing_of
from .chains import Link, chain_of


class Call:
    """One invocation on its way through this node. Times are monotonic seconds.

    What most calls never touch is a default of the class, not set for each: every call pays for each line of
    `__init__`.
    """

    alarm: Firing | None = None
    """The alarm it is for."""
    answered = False
    attached: Sequence["Call"] = ()
    """Retries that wait for this call's answer."""
    attempt = 0
    away = False
    chain: tuple[Link, ...] = ()
    """Who waits for this call."""
    container: Any = None
    deltas: tuple[bytes, ...] = ()
    """On `state`."""
    entry: Any = None
    holds = False
    hops = 0
    mode: str | None = None
    prefer: str | None = None
    reroutes = 0
    sent_at = 0.0
    sent_to: str | None = None
    started = 0.0
    state: bytes | None = None
    state_seconds = 0.0
    """Spent on reading and committing the state in the store."""
    traceparent: str | None = None
    tries = 0

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
        if meta is not None:
            self._read(meta)

    def _read(self, meta: dict[str, Any]) -> None:
        for name, value in meta.items():
            if name == "hops":
                self.hops = _count(value)
            elif name == "attempt":
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
