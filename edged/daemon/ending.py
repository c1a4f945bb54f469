"""The end of a session that no container here holds: by the record alone (DESIGN §5.7; the others: `core.sessions.closing`).

Decides whose record may be closed: one of remote-state, or one whose owner is lost as a takeover would have it. A commit that
comes first is overtaken by the next try; one that comes later begins the session anew. Refuses to know who asks.
"""

import secrets
from typing import TYPE_CHECKING

from edged.core.records import Load, Loaded, Record, SessionKey, StoreFailed, Written
from edged.core.sessions.writes import close_at
from edged_protocol.errors import CallError, Code, call_error

from .lookup import loaded
from .stores import ask

if TYPE_CHECKING:
    from .node import Node

MAX_TRIES = 50
"""Closings that others' commits overtook before it is answered 107; each takes a read and a write."""

Point = tuple[int, int]
"""Epoch and version."""


async def close(node: "Node", key: SessionKey, *, only: Point | None = None, outcomes: bool = True, cause: str) -> int:
    """End the session, `only` if nobody has changed it since; the epoch it has then. Raises CallError."""
    move = secrets.token_bytes(16)
    for _ in range(MAX_TRIES):
        record, _ = await loaded(node, key, ())
        if only not in (None, (record.epoch, record.version)):
            raise call_error(Code.CONFLICT, "the session is in use")
        write = close_at(key, record, move, outcomes=outcomes)._replace(lease=_lease(node, key, record))
        outcome = await ask(node.store, write)
        if isinstance(outcome, StoreFailed):
            if outcome.applied is False:
                raise call_error(Code.STORE_UNAVAILABLE, outcome.reason)
            outcome = await _looked(node, key, move)
        if isinstance(outcome, Written) and outcome.won:
            _told(node, key, write.epoch, cause)
            return write.epoch
    raise call_error(Code.CONFLICT, "others commit to this session")


def _lease(node: "Node", key: SessionKey, record: Record) -> tuple[str, int] | None:
    """What has to be true of a lost owner's lease. Raises CallError for one that may live."""
    owner = record.owner if record.mode == "local" else None
    if owner is None:
        return None
    if owner == node.name and record.owner_boot != node.boot and node.leasing.core.claimed:
        return None  # a former life of this node
    lost, version = node.leasing.core.lost.get(owner), node.workers.served.version_for(*key)
    holds = version is None or version.spec.manifest.durability.on_partition == "hold"
    if lost is None or (holds and not lost.forgotten):
        raise CallError(Code.OWNER_UNREACHABLE, f"the session is local on {owner}", {"home": owner})
    return owner, lost.seq


async def _looked(node: "Node", key: SessionKey, move: bytes) -> Written:
    """Whether a closing without an answer was applied; if it is later, the next try will know."""
    outcome = await ask(node.store, Load(key, ()))
    if isinstance(outcome, StoreFailed):
        raise call_error(Code.DEADLINE_EXCEEDED, outcome.reason)
    record = outcome.record if isinstance(outcome, Loaded) else None
    return Written(record is not None and record.move == move)


def _told(node: "Node", key: SessionKey, epoch: int, cause: str) -> None:
    node.router.located(key, None, epoch)
    node.alarms.due(key, None)
    node.events.note("session.ended", **key._asdict(), epoch=epoch, cause=cause)
