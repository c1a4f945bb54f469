"""Control verbs: what operators and nodes may ask of this node (SPEC "Control verbs", DESIGN §9).

Plain async functions in one table. A verb that fails answers ERROR; nothing else notices.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import trio

from edged.core.manifest import Mistakes
from edged.core.records import Listed, ListSessions, Load, Loaded, SessionKey, StoreFailed
from edged_protocol import messages as m
from edged_protocol.codec import encode
from edged_protocol.errors import CallError, Code, call_error

from .host import StartFailed
from .link import Link
from .stores import ask

if TYPE_CHECKING:
    from .node import Node

log = logging.getLogger(__name__)

VERB_SECONDS = 60.0
"""No verb takes longer, but for a stream that is followed: that lasts as long as its connection."""

PAGE = 120
"""Sessions of one listing: with the longest keys and names they fit into what a frame may hold."""

Verb = Callable[["Node", Link, m.Request], Awaitable[tuple[Any, bytes | None]]]


def _text(request: m.Request, name: str) -> str:
    value = request.params.get(name)
    if type(value) is not str or not value:
        raise call_error(Code.BAD_REQUEST, f"{request.verb} needs {name}: a string")
    return value


def _key(request: m.Request) -> SessionKey:
    return SessionKey(_text(request, "function"), _text(request, "session"))


async def node_status(node: "Node", link: Link, request: m.Request) -> tuple[Any, bytes | None]:
    """What this node is and does."""
    return node.status(), None


async def mesh_nodes(node: "Node", link: Link, request: m.Request) -> tuple[Any, bytes | None]:
    """This node and its peers."""
    return node.nodes(), None


async def function_list(node: "Node", link: Link, request: m.Request) -> tuple[Any, bytes | None]:
    """What is deployed, and who runs it."""
    rows = []
    for name, hash_ in sorted(node.catalogue.deployed().items()):
        spec = await node.bundles.spec(hash_)
        version = spec.manifest.version if spec else ""
        nodes = node.relay.router.nodes_for(name)
        rows.append({"name": name, "version": version, "hash": hash_, "nodes": nodes})
    return rows, None


async def function_upload(node: "Node", link: Link, request: m.Request) -> tuple[Any, bytes | None]:
    """A piece of a bundle."""
    params = request.params
    offset, total = params.get("offset"), params.get("total")
    if type(offset) is not int or type(total) is not int:
        raise call_error(Code.BAD_REQUEST, "function.upload needs offset and total: integers")
    have = node.bundles.upload(_text(request, "hash"), offset, total, request.blob or b"")
    return {"have": have}, None


async def function_deploy(node: "Node", link: Link, request: m.Request) -> tuple[Any, bytes | None]:
    """Unpack, check, serve and tell the peers."""
    spec = await node.bundles.install(_text(request, "hash"))
    await node.deploy(spec)
    name = spec.manifest.name
    nodes = node.relay.router.nodes_for(name)
    result = {"name": name, "version": spec.manifest.version, "hash": spec.hash, "nodes": nodes}
    return result, None


async def function_remove(node: "Node", link: Link, request: m.Request) -> tuple[Any, bytes | None]:
    """Serve a function no longer, anywhere."""
    name = _text(request, "name")
    if name not in node.catalogue.deployed():
        raise call_error(Code.NO_SUCH_FUNCTION, f"no function named {name} is deployed")
    await node.remove(name)
    return {}, None


async def function_fetch(node: "Node", link: Link, request: m.Request) -> tuple[Any, bytes | None]:
    """A piece of a bundle, for a peer."""
    offset = request.params.get("offset", 0)
    try:
        total, data = await node.bundles.piece(_text(request, "hash"), int(offset))
    except FileNotFoundError:
        raise call_error(Code.NO_SUCH_FUNCTION, "this node does not have that bundle") from None
    return {"total": total}, data


async def function_logs(node: "Node", link: Link, request: m.Request) -> tuple[Any, bytes | None]:
    """The last lines of a function's containers, then with `follow` what comes."""
    name = _text(request, "name")
    if name not in node.catalogue.deployed():
        raise call_error(Code.NO_SUCH_FUNCTION, f"no function named {name} is deployed")
    seen = 0
    while not link.closed:
        for serial, line in list(node.logs.get(name, ())):
            if serial > seen:
                link.send(encode(m.Item(request.id, line, False)))
                seen = serial
        link.flush()
        if not request.params.get("follow"):
            break
        with trio.move_on_after(1):  # also to see that the connection has ended
            await node.log_changed.wait()
    link.send(encode(m.Item(request.id, None, True)))
    return _STREAMED, None


async def session_list(node: "Node", link: Link, request: m.Request) -> tuple[Any, bytes | None]:
    """A page of the sessions that the state store has; an empty one is the end."""
    after = request.params.get("after")
    if after is not None:
        try:
            after = SessionKey(*after)
        except TypeError:
            raise call_error(Code.BAD_REQUEST, "after is [function, session]") from None
    outcome = await ask(node.store, ListSessions(request.params.get("function"), after, PAGE))
    if not isinstance(outcome, Listed):
        raise _store_error(outcome)
    return [
        {
            "function": key.function,
            "session": key.session,
            "mode": record.mode,
            "node": record.owner,
            "epoch": record.epoch,
            "version": record.version,
        }
        for key, record in outcome.rows
    ], None


async def session_get(node: "Node", link: Link, request: m.Request) -> tuple[Any, bytes | None]:
    """One session; its owner adds what only its memory knows."""
    key = _key(request)
    outcome = await ask(node.store, Load(key, None))
    if not isinstance(outcome, Loaded):
        raise _store_error(outcome)
    record = outcome.record
    if record is None:
        raise CallError(Code.BAD_REQUEST, f"no session {'/'.join(key)}", {"not_found": True})
    seat = node.relay.seats.get(key)
    if record.mode == "local" and record.owner != node.name and record.owner in node.relay.peers:
        reply = await node.ask_peer(record.owner, request.verb, request.params)
        return reply.result, None
    serving = seat is not None and seat.local
    return {
        "function": key.function,
        "session": key.session,
        "mode": record.mode,
        "node": record.owner,
        "epoch": record.epoch,
        "version": seat.version if serving and seat else record.version,
        "stored_version": record.version,
        "unsaved_calls": seat.unsaved if seat else 0,
        "serving": serving,
        "state_bytes": len(record.state or b""),
        "results": len(outcome.results),
        "updated": record.updated,
    }, None


def _store_error(outcome: Any) -> CallError:
    reason = outcome.reason if isinstance(outcome, StoreFailed) else "unexpected answer"
    return call_error(Code.STORE_UNAVAILABLE, reason)


async def session_move(node: "Node", link: Link, request: m.Request) -> tuple[Any, bytes | None]:
    """Localize, externalize or migrate; done by the node it concerns."""
    key, move = _key(request), request.verb.removeprefix("session.")
    if key.function not in node.catalogue.deployed():
        raise call_error(Code.NO_SUCH_FUNCTION, f"no function named {key.function} is deployed")
    to = request.params.get("to")
    if move == "migrate" and to is None:
        raise call_error(Code.BAD_REQUEST, "session.migrate needs to: a node")
    doer = to or node.name if move == "localize" else await _owner(node, key)
    if doer != node.name and not request.params.get("here"):
        reply = await node.ask_peer(doer, request.verb, {**request.params, "here": True})
        return reply.result, None
    return await node.move(key, move, to or ""), None


async def _owner(node: "Node", key: SessionKey) -> str:
    outcome = await ask(node.store, Load(key, ()))
    if not isinstance(outcome, Loaded):
        raise _store_error(outcome)
    if outcome.record is None:
        raise CallError(Code.BAD_REQUEST, f"no session {'/'.join(key)}", {"not_found": True})
    if outcome.record.mode != "local":
        raise call_error(Code.BAD_REQUEST, "the session is not local-state")
    return outcome.record.owner or node.name


async def session_invite(node: "Node", link: Link, request: m.Request) -> tuple[Any, bytes | None]:
    """First step of a migration to this node."""
    return await node.invited(_key(request), request.params), None


async def session_offer(node: "Node", link: Link, request: m.Request) -> tuple[Any, bytes | None]:
    """The frozen state of a session that moves here."""
    return await node.offered(_key(request), request.params, request.blob), None


def session_commit(node: "Node", request: m.Request) -> m.Reply | m.Error:
    """The record names this node."""
    try:
        node.committed(_key(request), request.params)
    except (CallError, KeyError, TypeError) as error:
        return m.Error(request.id, Code.BAD_REQUEST, str(error)[:500])
    return m.Reply(request.id, {})


async def node_sync(node: "Node", link: Link, request: m.Request) -> tuple[Any, bytes | None]:
    """What a peer is, runs and has deployed."""
    node.peer_said(link, request.params)
    return {}, None


VERBS: dict[str, Verb] = {
    "node.status": node_status,
    "mesh.nodes": mesh_nodes,
    "function.list": function_list,
    "function.upload": function_upload,
    "function.deploy": function_deploy,
    "function.remove": function_remove,
    "function.logs": function_logs,
    "session.list": session_list,
    "session.get": session_get,
    "session.localize": session_move,
    "session.externalize": session_move,
    "session.migrate": session_move,
}
NODE_VERBS: dict[str, Verb] = {
    **VERBS,
    "node.sync": node_sync,
    "function.fetch": function_fetch,
    "session.invite": session_invite,
    "session.offer": session_offer,
}
AT_ONCE: dict[str, Callable[["Node", m.Request], m.Reply | m.Error]] = {
    "session.commit": session_commit,
}
"""Node verbs that must be done before what follows them on the connection: no task runs them."""

_STREAMED = object()


async def answer(node: "Node", link: Link, request: m.Request) -> None:
    """Run one verb and answer it, whatever happens."""
    table = NODE_VERBS if link.role == "node" else VERBS if link.role == "operator" else {}
    verb = table.get(request.verb)
    try:
        if verb is None:
            raise call_error(Code.FORBIDDEN, f"{request.verb} is not for a {link.role}")
        limit = float("inf") if request.params.get("follow") else VERB_SECONDS
        with trio.move_on_after(limit) as scope:
            result, blob = await verb(node, link, request)
        if scope.cancelled_caught:
            raise call_error(Code.DEADLINE_EXCEEDED, f"{request.verb} took too long")
        if result is not _STREAMED:
            link.send(encode(m.Reply(request.id, result, blob)))
    except CallError as error:
        link.send(encode(m.Error(request.id, error.code, error.message, error.meta)))
    except (ValueError, OSError, StartFailed, Mistakes) as error:
        text = str(error)[-1500:] or type(error).__name__
        link.send(encode(m.Error(request.id, Code.BAD_REQUEST, text)))
    except Exception as error:
        log.exception("%s failed", request.verb)
        link.send(encode(m.Error(request.id, Code.INTERNAL, repr(error)[:500])))
    finally:
        link.inflight -= 1
        link.flush()
