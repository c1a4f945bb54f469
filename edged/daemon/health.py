"""Whether a node lives, and whether it should be given work: `/healthz` and `/readyz` (DESIGN §9).

Decides what makes a node unready: that it offers nothing, or that sessions cannot be served. That it answers at all is all that
`/healthz` says: a node that waits for its store must not be started again for it.
"""

from typing import TYPE_CHECKING

from edged.core.records import ReadLeases

from .status import state
from .web import Page

if TYPE_CHECKING:
    from .node import Node


async def healthz() -> Page:
    """The loop turns."""
    return Page(200, b"ok\n")


async def readyz(node: "Node") -> Page:
    """200, or 503 with a line for each reason."""
    reasons = [] if (now := state(node)) == "alive" else [f"the node is {now}"]
    _, trouble = await node.store.probe(ReadLeases())
    if trouble is not None:
        reasons.append(f"the state store: {trouble}")
    if not node.leasing.core.good:
        reasons.append("the node has no lease in the state store")
    if reasons:
        return Page(503, "".join(f"{reason}\n" for reason in reasons).encode())
    return Page(200, b"ready\n")
