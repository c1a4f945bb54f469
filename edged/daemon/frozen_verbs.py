"""The control verbs about sessions whose record went back (SPEC "Control verbs", reliability Δ2).

Decides that what one node has found freezes the session on all, and that what an operator accepts is accepted on all. Refuses
to know how a regression is found (`core.regression`).
"""

import logging
from typing import TYPE_CHECKING

from edged.core.regression import Point, Regression
from edged_protocol import messages as m
from edged_protocol.errors import CallError, Code, call_error

from .conflict_verbs import of_all
from .link import Link
from .verb_params import optional_text, session_key

if TYPE_CHECKING:
    from .node import Node

Answer = tuple[object, bytes | None]

log = logging.getLogger(__name__)


def found(regression: Regression) -> m.Map:
    """What `session.freeze` tells other nodes."""
    return {**regression.key._asdict(), "seen": list(regression.seen), "found": list(regression.found)}


def session_freeze(node: "Node", request: m.Request) -> m.Reply | m.Error:
    """Another node has found that a session went back."""
    try:
        regression = Regression(session_key(request), _point(request, "seen"), _point(request, "found"))
    except CallError as error:
        return m.Error(request.id, error.code, error.message, error.meta)
    if node.guard.told(regression):
        log.error("%s/%s: %s", *regression.key, regression.reason)
    return m.Reply(request.id, {})


def _point(request: m.Request, name: str) -> Point:
    """Raises CallError."""
    value = request.params.get(name)
    if not isinstance(value, list) or [type(part) for part in value] != [int, int]:
        raise call_error(Code.BAD_REQUEST, f"{request.verb} needs {name}: [epoch, version]")
    return value[0], value[1]


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
