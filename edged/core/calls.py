"""The vocabulary of one call inside a node: what is known of it from arrival to answer.

Decides nothing. `origin` is opaque here: whoever delivers the answer knows what it means.
"""

from typing import Any


class Call:
    """One invocation on its way through this node. Times are monotonic seconds."""

    __slots__ = (
        "answered",
        "arrived",
        "attempt",
        "attached",
        "away",
        "body",
        "call_id",
        "container",
        "deadline",
        "entry",
        "function",
        "holds",
        "hops",
        "method",
        "mode",
        "origin",
        "prefer",
        "reroutes",
        "sent_at",
        "sent_to",
        "serial",
        "session",
        "started",
        "state",
        "traceparent",
        "tries",
    )

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
        self.answered = False
        self.started = 0.0
        self.container: Any = None
        self.entry: Any = None
        self.mode: str | None = None
        self.state: bytes | None = None
        self.attached: list[Call] = []
        self.tries = 0
        self.reroutes = 0
        self.holds = False
        self.away = False
        self.sent_to: str | None = None
        self.sent_at = 0.0
        self.prefer: str | None = None
        self.attempt = 0
        self.hops = 0
        self.traceparent: str | None = None
        if meta is not None:
            self._read(meta)

    def _read(self, meta: dict[str, Any]) -> None:
        if meta.get("prefer") in ("local", "remote"):
            self.prefer = meta["prefer"]
        for name in ("attempt", "hops"):
            value = meta.get(name)
            if type(value) is int and value > 0:
                setattr(self, name, value)
        if type(meta.get("traceparent")) is str:
            self.traceparent = meta["traceparent"]
