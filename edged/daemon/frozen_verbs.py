"""The control verbs about sessions whose record went back (SPEC "Control verbs", reliability Δ2).

Decides that what an operator accepts is accepted on all nodes: each remembers what it has seen itself. Refuses to know
how a regression is found (`core.regression`).
"""

from typing import TYPE_CHECKING

from edged.core.regression import Regression
from edged_protocol import messages as m
from edged_protocol.errors import CallError, Code

from .conflict_verbs import of_all
from .link import Link
from .verb_params import optional_text, session_key

if TYPE_CHECKING:
    from .node import Node

Answer = tuple[object, bytes | None]


async def session_frozen(node: "Node", link: Link, request: m.Request) -> Answer:
    """The sessions that are frozen: on all connected nodes, or with `here` on this one."""
    function = optional_text(request, "function")
    found = [one for one in node.guard.frozen.values() if function in (None, one.key.function)]
    return await of_all(node, request, [_row(node, one) for one in found]), None


async def session_accept(node: "Node", link: Link, request: m.Request) -> Answer:
    """What the store has of a session is taken for it, on all nodes that had seen more."""
    key = session_key(request)
    accepted = node.guard.accept(key)
    if accepted is not None:
        node.events.note("session.accepted", **key._asdict())
    rows = await of_all(node, request, [_row(node, accepted)] if accepted is not None else [])
    if not rows and not request.params.get("here"):
        raise CallError(Code.BAD_REQUEST, f"{'/'.join(key)} is not frozen", {"not_found": True})
    return rows, None


def _row(node: "Node", regression: Regression) -> m.Map:
    (seen_epoch, seen_version), (epoch, version) = regression.seen, regression.found
    return {
        "node": node.name,
        **regression.key._asdict(),
        "seen_epoch": seen_epoch,
        "seen_version": seen_version,
        "epoch": epoch,
        "version": version,
    }
