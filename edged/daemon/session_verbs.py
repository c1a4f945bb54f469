"""The control verbs about sessions: list, get, the three moves, and a migration's steps (SPEC "Control verbs").

Decides which node carries out what an operator asks: the session's owner, who is read from the store. Refuses
to know how sessions move.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import trio

from edged.core.records import MAX_PAGE, Listed, ListSessions, Mode, Record, SessionKey
from edged.core.sessions import Seat
from edged_protocol import messages as m
from edged_protocol.codec import encode
from edged_protocol.errors import CallError, Code, call_error

from .ending import close
from .link import Link
from .lookup import asked, check_deployed, loaded
from .moves import MOVE_SECONDS
from .verb_params import optional_text, session_after, session_key, text, whole

if TYPE_CHECKING:
    from .node import Node

PAGE = 120
"""Sessions of one listing: with the longest keys and names they fit into what a frame may hold."""

Answer = tuple[Any, bytes | None]


async def session_list(node: "Node", link: Link, request: m.Request) -> Answer:
    """A page of the sessions that the state store has; an empty one is the end."""
    function, after = optional_text(request, "function"), session_after(request)
    limit = max(1, min(PAGE, whole(request, "limit", PAGE)))
    rows = await _living(node, ListSessions(function, after, limit))
    if not rows and after is None and function is not None:
        check_deployed(node, function)
    return [{**_names(key), **_record(record)} for key, record in rows], None


async def _living(node: "Node", op: ListSessions) -> list[tuple[SessionKey, Record]]:
    """A page of sessions that have not ended: the first that has any."""
    while True:
        outcome = await asked(node, op)
        rows = outcome.rows if isinstance(outcome, Listed) else ()
        found = [(key, record) for key, record in rows if not record.ended]
        if found or len(rows) < min(op.limit, MAX_PAGE):
            return found
        op = op._replace(after=rows[-1][0])


def _names(key: SessionKey) -> m.Map:
    return {"function": key.function, "session": key.session}


def _record(record: Record) -> m.Map:
    return {
        "mode": record.mode,
        "node": record.owner,
        "epoch": record.epoch,
        "version": record.version,
    }


async def session_get(node: "Node", link: Link, request: m.Request) -> Answer:
    """One session; its owner adds what only its memory knows, and tells that when the store does not answer."""
    key = session_key(request)
    try:
        record, results = await loaded(node, key, None)
    except CallError as error:
        known = _in_memory(node, key) if error.code == Code.STORE_UNAVAILABLE else None
        if known is None:
            raise
        return known, None
    if record.mode == "local" and record.owner != node.name and record.owner in node.relay.peers:
        reply = await node.peers.ask(record.owner, request.verb, request.params)
        return reply.result, None
    seat = node.relay.seats.get(key)
    serving = seat is not None and seat.local
    return {
        **_names(key),
        **_record(record),
        "version": seat.version if serving and seat else record.version,
        "stored_version": record.version,
        "schema": record.schema,
        "unsaved_calls": seat.unsaved if seat else 0,
        "serving": serving,
        **_durability(node, key, record.mode),
        "state_bytes": len(record.state or b"") + sum(map(len, record.deltas)),
        "results": len(results),
        "updated": record.updated,
        "move": _under_way(seat),
    }, None


def _in_memory(node: "Node", key: SessionKey) -> m.Map | None:
    """What its owner knows of a session without its record; nil is what the record would say."""
    seat = node.relay.seats.get(key)
    if seat is None or not seat.local:
        return None
    return {
        **_names(key),
        "mode": "local",
        "node": node.name,
        "epoch": seat.epoch,
        "version": seat.version,
        "stored_version": seat.stored,
        "unsaved_calls": seat.unsaved,
        "serving": True,
        **_durability(node, key, "local"),
        "schema": None,
        "state_bytes": None,
        "results": None,
        "updated": None,
        "move": _under_way(seat),
    }


def _durability(node: "Node", key: SessionKey, mode: Mode) -> m.Map:
    """What its function says of a crash, where it is known; of a remote-state session nothing is only in memory."""
    version = node.workers.served.version_for(*key)
    if version is None:
        return {"durability": None, "on_partition": None, "crash_loses": None}
    says = version.spec.manifest.durability
    loses = {
        "none": "everything: one call is answered 105 state_lost, then it begins anew",
        "checkpoint": f"unsaved_calls: at most those of {says.seconds:g} s, about {says.calls}; more while the store does not answer",
        "sync": "nothing that was answered",
    }
    about = loses[says.local] if mode == "local" else "nothing that was answered"
    return {"durability": says.local, "on_partition": says.on_partition, "crash_loses": about}


def _under_way(seat: Seat | None) -> m.Map | None:
    """How far the state of a session that moves to another node has come."""
    copy = seat.copy if seat is not None else None
    if seat is None or copy is None:
        return None
    return {"to": seat.target.partition("/")[0], "bytes": copy.sent, "left": copy.left, "rounds": copy.rounds}


async def session_move(node: "Node", link: Link, request: m.Request) -> Answer:
    """Localize, externalize or migrate; done by the node it concerns."""
    key, move = session_key(request), request.verb.removeprefix("session.")
    check_deployed(node, key.function)
    to = optional_text(request, "to")
    if move == "migrate" and to is None:
        raise call_error(Code.BAD_REQUEST, "session.migrate needs to: a node")
    doer = to or node.name if move == "localize" else await _owner(node, key)
    if doer != node.name and not request.params.get("here"):
        reply = await node.peers.ask(doer, request.verb, {**request.params, "here": True}, MOVE_SECONDS + 3)
        return reply.result, None
    how = bool(request.params.get("force")), bool(request.params.get("stop"))
    network = request.params.get("cause") == "network"
    if network:
        _learn(node, key, request)
    if move != "externalize":
        await node.deployments.followed_by(to or node.name, key.function)
    result = await node.moves.move(key, move, to or "", *how, network)
    if not network:
        _hold(node, key, result["mode"])
    return result, None


def _learn(node: "Node", key: SessionKey, request: m.Request) -> None:
    """What another node's plan knows of the session, and this one may not: since when it rests, what its application
    wants. Raises CallError."""
    now, wish = trio.current_time(), request.params.get("wish")
    epoch, rested = (request.params.get(name, 0) for name in ("epoch", "rested_ms"))
    if not all(type(value) is int and value >= 0 for value in (epoch, rested)) or wish not in (None, "local", "remote"):
        raise call_error(Code.BAD_REQUEST, f"{request.verb}: epoch and rested_ms are counts, wish is local or remote")
    node.seating.rests.seen(key, epoch, now - rested / 1000)
    if wish is not None:
        node.brain.ledger.wished(key, wish, now)


async def session_end(node: "Node", link: Link, request: m.Request) -> Answer:
    """End a session; done by its owner if it has one that is there."""
    key = session_key(request)
    record, _ = await loaded(node, key, ())
    owner = record.owner if record.mode == "local" else None
    if owner != node.name and owner in node.relay.peers and not request.params.get("here"):
        reply = await node.peers.ask(owner, request.verb, {**request.params, "here": True}, MOVE_SECONDS + 3)
        return reply.result, None
    if owner == node.name and key in node.relay.seats:
        epoch = (await node.moves.move(key, "end", ""))["epoch"]
    else:
        epoch = await close(node, key, cause="operator")
    return {**_names(key), "epoch": epoch}, None


def _hold(node: "Node", key: SessionKey, mode: Mode) -> None:
    """What an operator moved stays there for a while, whichever node looks after it then."""
    node.brain.hold(key, mode)
    for link in node.relay.peers.values():
        node.peers.request(link, "session.hold", {**key._asdict(), "mode": mode}, None, lambda _: None)
        link.flush()


async def session_hold(node: "Node", link: Link, request: m.Request) -> Answer:
    """An operator moved a session."""
    mode = text(request, "mode")
    if mode not in ("local", "remote"):
        raise call_error(Code.BAD_REQUEST, "session.hold: mode is local or remote")
    node.brain.hold(session_key(request), "local" if mode == "local" else "remote")
    return {}, None


async def _owner(node: "Node", key: SessionKey) -> str:
    record, _ = await loaded(node, key, ())
    if record.mode != "local":
        raise call_error(Code.BAD_REQUEST, "the session is not local-state")
    return record.owner or node.name


Asker = Callable[[int, str, m.Map], None]

STEPS: dict[str, Callable[["Node"], Callable[[SessionKey, m.Map, bytes | None, Asker], None]]] = {
    "session.invite": lambda node: node.moves.invited,
    "session.chunk": lambda node: node.moves.piece,
    "session.offer": lambda node: node.moves.offered,
    "session.commit": lambda node: node.moves.committed,
    "session.withdraw": lambda node: node.moves.withdrawn,
    "session.regain": lambda node: node.moves.regain,
    "session.done": lambda node: node.moves.thanked,
}
"""The steps of a migration to this node, taken in the order in which they come on a connection."""


def session_step(node: "Node", link: Link, request: m.Request) -> None:
    """One step of a migration; it is answered when it is done, perhaps much later."""

    def asker(code: int, message: str, result: m.Map) -> None:
        answer = m.Error(request.id, code, message) if code else m.Reply(request.id, {})
        link.send(encode(answer))
        node.relay.touch(link)

    try:
        STEPS[request.verb](node)(session_key(request), request.params, request.blob, asker)
    except CallError as error:
        asker(error.code, error.message, {})
    except (KeyError, TypeError, ValueError) as error:
        asker(Code.BAD_REQUEST, f"{request.verb}: {error!r}"[:500], {})
