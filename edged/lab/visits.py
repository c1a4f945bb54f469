"""Who waits for a call in virtual time: a client, or the node that forwarded it. Decides nothing."""

from typing import TYPE_CHECKING, Any

from edged.core.calls import Call

if TYPE_CHECKING:
    from .node import Node


class Visit:
    """A client's call as long as it is under way: since when, and what is told of its end."""

    __slots__ = ("client", "sent", "tries", "wished", "work")

    def __init__(self, client: Any, sent: float, work: bytes, wished: str | None) -> None:
        self.client = client
        self.sent = sent
        self.work = work
        self.wished = wished
        self.tries = 0


class Hop:
    """Whoever forwarded a call here waits for its answer."""

    __slots__ = ("boot", "call", "node")

    def __init__(self, node: "Node", call: Call) -> None:
        self.node = node
        self.boot = node.boot
        self.call = call
