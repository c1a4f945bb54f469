"""Control verbs: who may ask what of this node, and how it is answered (SPEC "Control verbs", DESIGN §9).

Decides by role: a `device` has no verbs, an `operator` the operator's, a `node` these and its own. Without TLS
and keys a role is only a claim (`connections`). Refuses to know what a verb does: plain async functions in
tables. A verb that fails answers ERROR; nothing else notices.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import trio

from edged.core.schema import Mistakes
from edged_protocol import messages as m
from edged_protocol.codec import encode
from edged_protocol.errors import CallError, Code, call_error

from . import conflict_verbs as c
from . import dead_verbs as d
from . import frozen_verbs as z
from . import function_verbs as f
from . import policy_verbs as p
from . import session_verbs as s
from .host import StartFailed
from .link import Link
from .locations import told
from .mesh_streams import function_logs, mesh_events
from .status import loads, nodes, state, status
from .verb_params import optional_text

if TYPE_CHECKING:
    from .node import Node

log = logging.getLogger(__name__)

VERB_SECONDS = 60.0
"""No verb takes longer, but for a stream that is followed: that lasts until nobody waits for it."""

Answer = tuple[Any, bytes | None] | None
"""Result and blob of the REPLY; None: the verb has answered with items."""

Verb = Callable[["Node", Link, m.Request], Awaitable[Answer]]


async def node_status(node: "Node", link: Link, request: m.Request) -> Answer:
    """What this node is and does."""
    return await status(node), None


async def mesh_nodes(node: "Node", link: Link, request: m.Request) -> Answer:
    """This node and its peers."""
    return nodes(node), None


async def mesh_load(node: "Node", link: Link, request: m.Request) -> Answer:
    """How busy each node is, as far as this one has heard."""
    return loads(node), None


async def node_sync(node: "Node", link: Link, request: m.Request) -> Answer:
    """What a peer is, runs and has deployed."""
    node.peer_said(link, request.params, request.blob or b"")
    return {}, None


async def node_drain(node: "Node", link: Link, request: m.Request) -> Answer:
    """Let all sessions leave and offer nothing; asked again, how far that is. Clients are sent elsewhere."""
    if (other := _another(node, request)) is not None:
        return (await node.peers.ask(other, request.verb, request.params)).result, None
    if node.relay.draining:
        raise call_error(Code.DRAINING, f"{node.name} is stopping")
    if node.drain.begin():
        node.connections.send_away(besides=link)
    rows = [{"function": k.function, "session": k.session, "reason": node.drain.reason(k)} for k in node.drain.left()]
    return {"node": node.name, "state": state(node), "left": len(rows), "first": rows[:10]}, None


async def node_undrain(node: "Node", link: Link, request: m.Request) -> Answer:
    """Serve again."""
    if (other := _another(node, request)) is not None:
        return (await node.peers.ask(other, request.verb, request.params)).result, None
    node.drain.end()
    return {"node": node.name, "state": state(node)}, None


def _another(node: "Node", request: m.Request) -> str | None:
    """The node that is meant, when it is not this one."""
    name = optional_text(request, "node")
    return None if name == node.name else name


async def node_exchange(node: "Node", link: Link, request: m.Request) -> Answer:
    """All that both know of the members of the mesh."""
    return {}, node.gossip.exchanged(request.blob or b"")


def node_ping(node: "Node", request: m.Request) -> m.Reply | m.Error:
    """A datagram of the membership, where those may not pass."""
    return m.Reply(request.id, {}, node.gossip.pinged(request.blob or b""))


async def node_sessions(node: "Node", link: Link, request: m.Request) -> Answer:
    """The sessions that are local here, as far as the asker does not know them."""
    return {}, told(node.relay, request.params.get("known"))


VERBS: dict[str, Verb] = {
    "node.status": node_status,
    "node.drain": node_drain,
    "node.undrain": node_undrain,
    "mesh.nodes": mesh_nodes,
    "mesh.load": mesh_load,
    "mesh.events": mesh_events,
    "function.list": f.function_list,
    "function.upload": f.function_upload,
    "function.deploy": f.function_deploy,
    "function.promote": f.function_rollout,
    "function.rollback": f.function_rollout,
    "function.remove": f.function_remove,
    "function.logs": function_logs,
    "node.forget": c.node_forget,
    "session.frozen": z.session_frozen,
    "session.accept": z.session_accept,
    "session.conflicts": c.session_conflicts,
    "session.conflict": c.session_conflict,
    "session.list": s.session_list,
    "session.get": s.session_get,
    "session.localize": s.session_move,
    "session.externalize": s.session_move,
    "session.migrate": s.session_move,
    "session.end": s.session_end,
    "session.explain": p.session_explain,
    "policy.get": p.policy_get,
    "policy.explain": p.policy_explain,
    "policy.what_if": p.policy_what_if,
    "policy.freeze": p.policy_freeze,
    "policy.thaw": p.policy_freeze,
    "session.dead": d.session_dead,
    "session.replay": d.session_dead_edit,
    "session.drop": d.session_dead_edit,
}
NODE_VERBS: dict[str, Verb] = {
    **VERBS,
    "node.sync": node_sync,
    "node.exchange": node_exchange,
    "node.sessions": node_sessions,
    "function.fetch": f.function_fetch,
    "session.hold": s.session_hold,
}
AT_ONCE: dict[str, Callable[["Node", m.Request], m.Reply | m.Error]] = {
    "node.ping": node_ping,
    "session.freeze": z.session_freeze,
}
"""Node verbs that must be done before what follows them on the connection, or do not wait: no task runs them."""

BY_ROLE: Mapping[str, Mapping[str, Verb]] = {"operator": VERBS, "node": NODE_VERBS}


async def answer(node: "Node", link: Link, request: m.Request) -> None:
    """Run one verb and answer it, whatever happens."""
    try:
        answered = await _run(node, link, request)
        if answered is not None:
            link.send(encode(m.Reply(request.id, *answered)))
    except CallError as error:
        link.send(encode(m.Error(request.id, error.code, error.message, error.meta)))
    except (ValueError, StartFailed, Mistakes) as error:
        text = str(error)[-1500:] or type(error).__name__
        link.send(encode(m.Error(request.id, Code.BAD_REQUEST, text)))
    except OSError as error:  # of the node's disk: nothing was done, and with room on it may be
        log.error("%s failed: %s", request.verb, error)
        link.send(encode(m.Error(request.id, Code.NO_CAPACITY, f"{node.name}: {error.strerror or error}")))
    except Exception as error:
        log.exception("%s failed", request.verb)
        link.send(encode(m.Error(request.id, Code.INTERNAL, repr(error)[:500])))
    finally:
        link.inflight -= 1
        link.flush()


async def _run(node: "Node", link: Link, request: m.Request) -> Answer:
    """Raises CallError, and whatever the verb raises."""
    verb = BY_ROLE.get(link.role, {}).get(request.verb)
    if verb is None:
        raise call_error(Code.FORBIDDEN, f"{request.verb} is not for the role {link.role}")
    answered: Answer = None
    limit = float("inf") if request.params.get("follow") else VERB_SECONDS
    with trio.move_on_after(limit) as scope:
        answered = await verb(node, link, request)
    if scope.cancelled_caught:
        raise call_error(Code.DEADLINE_EXCEEDED, f"{request.verb} took too long")
    return answered
