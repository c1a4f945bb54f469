"""The control verbs about superseded copies and lost nodes (SPEC "Control verbs").

Decides which node does what an operator asks: the one that has the copy, whose name begins its id. A copy is restored by
one compare-and-set on the session's record, and what it replaces is kept as a copy too: nothing is merged, nothing lost.
"""

from typing import TYPE_CHECKING

import trio

from edged.core import effects as fx
from edged.core.records import (
    MAX_PAGE,
    Listed,
    ListSessions,
    Load,
    Loaded,
    Record,
    SessionKey,
    Write,
    Written,
)
from edged.core.window import MAX_WINDOW_BYTES
from edged_protocol import messages as m
from edged_protocol.errors import CallError, Code, call_error

from .conflicts import Copy
from .link import Link
from .lookup import asked
from .verb_params import optional_text, text

if TYPE_CHECKING:
    from .node import Node

Answer = tuple[object, bytes | None]

KEEP = 128
"""Results remembered of a function that is not here to say how many."""


async def node_forget(node: "Node", link: Link, request: m.Request) -> Answer:
    """A node is lost for good: sessions that wait for it may be taken over."""
    name = text(request, "node")
    unheard = node.gossip.core.member(name) is None and name != node.name
    if unheard and await node.leasing.lease_of(name) is None and not await _owns_any(node, name):
        raise node.peers.absent(name)
    return await node.leasing.forget(name), None


async def _owns_any(node: "Node", name: str) -> bool:
    """Whether the store has a session of it: without a lease too, as after a copy from elsewhere, somebody has to be able
    to free it."""
    after: SessionKey | None = None
    while True:
        page = await asked(node, ListSessions(None, after, MAX_PAGE))
        rows = page.rows if isinstance(page, Listed) else ()
        if not rows or any(record.owner == name for _, record in rows):
            return bool(rows)
        after = rows[-1][0]


async def session_conflicts(node: "Node", link: Link, request: m.Request) -> Answer:
    """All superseded copies: of all connected nodes, or with `here` those of this one."""
    function = optional_text(request, "function")
    return await of_all(node, request, [_row(copy) for copy in node.conflicts.copies(function)]), None


async def of_all(node: "Node", request: m.Request, rows: list[m.Map]) -> list[m.Map]:
    """These rows of this node and, unless `here` says that they were all, what its peers answer to the same."""
    if request.params.get("here"):
        return rows
    parts: dict[str, list[m.Map]] = {}
    async with trio.open_nursery() as nursery:
        for name in node.relay.peers:
            nursery.start_soon(_of_peer, node, name, request, parts)
    return rows + [row for name in sorted(parts) for row in parts[name]]


async def _of_peer(node: "Node", name: str, request: m.Request, parts: dict[str, list[m.Map]]) -> None:
    """One that is gone, or of an older version, has none to tell of."""
    try:
        reply = await node.peers.ask(name, request.verb, {**request.params, "here": True})
    except CallError:
        return
    if isinstance(reply.result, list):
        parts[name] = [row for row in reply.result if isinstance(row, dict)]


def _row(copy: Copy) -> m.Map:
    return {
        "id": copy.id,
        "function": copy.key.function,
        "session": copy.key.session,
        "epoch": copy.epoch,
        "version": copy.version,
        "stored": copy.stored,
        "bytes": copy.size,
        "at": copy.at,
    }


async def session_conflict(node: "Node", link: Link, request: m.Request) -> Answer:
    """Export, restore or discard one copy; done by the node that has it."""
    id_, act = text(request, "id"), text(request, "do")
    holder = id_.rpartition(":")[0]
    if not holder:
        raise call_error(Code.BAD_REQUEST, f"{id_!r:.80} is not the id of a copy, NODE:NUMBER", {"not_found": True})
    if holder != node.name:
        reply = await node.peers.ask(holder, request.verb, request.params)
        return reply.result, reply.blob
    copy, aside = await node.conflicts.read(id_)
    if act == "export":
        return _row(copy), aside.state
    if act == "restore":
        await _restore(node, copy.key, aside)
    elif act != "discard":
        raise call_error(Code.BAD_REQUEST, f"do is export, restore or discard, not {act!r:.40}")
    await node.conflicts.discard(id_)
    node.events.note(f"session.copy_{act}ed", id=id_, function=copy.key.function, session=copy.key.session)
    return _row(copy), None


async def _restore(node: "Node", key: SessionKey, aside: fx.Aside) -> None:
    """The copy becomes the session, with the outcomes it remembers. Raises CallError."""
    ids = tuple(entry.call_id for entry in aside.results)
    found = await asked(node, Load(key, ids))
    record = found.record if isinstance(found, Loaded) else None
    if record is None or not isinstance(found, Loaded):
        raise call_error(Code.BAD_REQUEST, f"no session {'/'.join(key)}", {"not_found": True})
    if record.mode == "local":
        raise call_error(Code.BAD_REQUEST, f"it is local on {record.owner}: externalize it first")
    if record.deltas:
        raise call_error(Code.MOVING, "the store has it in pieces: it has to be called once first")
    known = {entry.call_id for entry in found.results}
    fresh = tuple(entry for entry in aside.results if entry.call_id not in known)
    done = await asked(node, _write(node, key, record, aside._replace(results=fresh)))
    if not isinstance(done, Written) or not done.won:
        raise call_error(Code.CONFLICT, "the session is being called: try again")
    replaced = fx.Aside(record.epoch, record.version, record.version, record.state or b"", (), record.schema)
    node.conflicts.keep(key, replaced)


def _write(node: "Node", key: SessionKey, record: Record, aside: fx.Aside) -> Write:
    version = node.workers.served.version_for(*key)
    return Write(
        key=key,
        expect_epoch=record.epoch,
        expect_version=record.version,
        epoch=record.epoch + 1,
        version=max(record.version, aside.version) + 1,
        mode="remote",
        owner=None,
        owner_boot=None,
        move=None,
        state=aside.state,
        results=aside.results,
        keep=version.spec.manifest.calls.dedup if version is not None else KEEP,
        keep_bytes=MAX_WINDOW_BYTES,
        durable=True,
        schema=aside.schema,
    )
