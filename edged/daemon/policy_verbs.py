"""The control verbs about the policy: what it wants, why, what if, and to keep it still (SPEC "Control verbs").

Decides who is asked: each node knows its own sessions only, so the one that an operator asks collects. Refuses to know
how anything is decided.
"""

from collections.abc import Awaitable, Callable
from math import isfinite
from typing import TYPE_CHECKING, Any

import trio

from edged.core.planning.figures import figures
from edged.core.planning.outlook import Outlook, Sight, outlook, sight, threshold, why
from edged.core.planning.target import Mesh
from edged.core.planning.view import Function, Session, View
from edged.core.records import SessionKey
from edged_protocol import messages as m
from edged_protocol.codec import pack
from edged_protocol.errors import CallError, Code, call_error

from .link import Link
from .lookup import loaded
from .verb_params import optional_text, session_key, whole

if TYPE_CHECKING:
    from .node import Node

PEER_SECONDS = 2.0
"""For the others' part of an answer; one that says nothing is named."""

MOST_BYTES = 24 * 1024
"""Of one list in an answer: two of them fit into what a frame may hold beside byte strings (MAX_PLAIN)."""

Answer = tuple[Any, bytes | None]


async def _everywhere(node: "Node", request: m.Request, own: m.Map) -> tuple[list[m.Map], list[str]]:
    """This node's part and the others', and who did not answer."""
    parts, late = [own], []

    async def ask(name: str) -> None:
        with trio.move_on_after(PEER_SECONDS):
            try:
                reply = await node.peers.ask(name, request.verb, {**request.params, "here": True})
                parts.append(reply.result)
                return
            except CallError:
                pass
        late.append(name)

    async with trio.open_nursery() as nursery:
        for name in list(node.relay.peers):
            nursery.start_soon(ask, name)
    return [part for part in parts if isinstance(part, dict)], sorted(late)


def _gathered(parts: list[m.Map], name: str) -> list[m.Map]:
    rows = [row for part in parts for row in part.get(name, ()) if isinstance(row, dict)]
    return sorted(rows, key=lambda row: [str(row.get(key)) for key in ("at", "function", "node")])


def _answers(own: Callable[["Node", m.Request], Awaitable[m.Map]], *lists: str) -> Callable[["Node", Link, m.Request], Awaitable[Answer]]:
    """A verb that joins the lists of all nodes, as much of them as fits."""

    async def verb(node: "Node", link: Link, request: m.Request) -> Answer:
        mine = await own(node, request)
        here = bool(request.params.get("here"))
        parts, late = ([mine], list[str]()) if here else await _everywhere(node, request, mine)
        whole = {name: _gathered(parts, name) for name in lists}
        shown = {name: _fitting(rows) for name, rows in whole.items()}
        more = any(len(shown[name]) < len(rows) for name, rows in whole.items()) or any(part.get("more") for part in parts)
        return {**mine, **shown, "silent": late, "more": more}, None

    return verb


def _fitting(rows: list[m.Map]) -> list[m.Map]:
    """The last of them, which of moves are the newest."""
    room, kept = MOST_BYTES, 0
    for row in reversed(rows):
        room -= len(pack(row))
        if room < 0:
            break
        kept += 1
    return rows[len(rows) - kept :]


async def _get(node: "Node", request: m.Request) -> m.Map:
    """How each function's sessions are, and what has been measured of them."""
    now = trio.current_time()
    settings = node.brain.settings
    rows = [_state(node, function) for function in (await node.brain.view(now)).functions]
    about = {name: getattr(settings, name) for name in ("guard", "wish_guard", "budget", "hysteresis")}
    return {"frozen": node.brain.frozen, "settings": about, "functions": rows}


def _state(node: "Node", function: Function) -> m.Map:
    sessions = function.sessions
    return {
        "function": function.name,
        "node": node.name,
        "policy": function.policy,
        "local": sum(s.mode == "local" for s in sessions),
        "remote": sum(s.mode == "remote" for s in sessions),
        "rate": round(sum(s.rate for s in sessions), 3),
        "local_ms": _ms(function.service_local),
        "remote_ms": _ms(function.service_remote),
        "store_ms": _ms(function.store),
        "switch_ms": _ms(function.transition),
    }


def _ms(seconds: float) -> float | None:
    """None where nothing is known, or no number says it."""
    return round(seconds * 1000, 3) if seconds and isfinite(seconds) else None


async def _explain(node: "Node", request: m.Request) -> m.Map:
    """The last plan's reasons, and the moves it led to."""
    only = optional_text(request, "function")
    reasons = node.brain.last.reasons if node.brain.last else {}
    moves = [
        {
            "at": made.at,
            "node": node.name,
            **made.move.session._asdict(),
            "to": made.move.to or None,
            "reason": made.move.reason,
            "gain_ms_per_s": _ms(made.move.gain),
            "cost_ms": _ms(made.move.cost),
            "failed": made.failed or None,
        }
        for made in node.brain.made
    ]
    functions = [{"function": name, "node": node.name, "reason": reason} for name, reason in reasons.items()]
    return {
        "functions": [row for row in functions if only in (None, row["function"])],
        "moves": [row for row in moves if only in (None, row["function"])],
    }


policy_get = _answers(_get, "functions")
policy_explain = _answers(_explain, "functions", "moves")


async def policy_freeze(node: "Node", link: Link, request: m.Request) -> Answer:
    """Move nothing any more, or again: told to all at once, and to who is away by gossip."""
    number = whole(request, "number", 0)
    if not number:
        node.brain.freeze(request.verb == "policy.freeze")
        number = node.brain.freezes
    node.brain.follow_freeze(number)
    mine = {"node": node.name, "frozen": node.brain.frozen}
    if request.params.get("here"):
        return mine, None
    told = m.Request(request.id, request.verb, {"number": number})
    parts, late = await _everywhere(node, told, mine)
    return {"frozen": node.brain.frozen, "nodes": sorted(str(part.get("node")) for part in parts), "silent": late}, None


async def policy_what_if(node: "Node", link: Link, request: m.Request) -> Answer:
    """The curve of the mesh as it is measured now."""
    only = optional_text(request, "function")
    view = await node.brain.view(trio.current_time())
    if only is not None and only not in [function.name for function in view.functions]:
        raise call_error(Code.NO_SUCH_FUNCTION, f"{node.name} does not run {only}")
    return await trio.to_thread.run_sync(lambda: _curve(outlook(view, only))), None


def _curve(found: Outlook) -> m.Map:
    return {
        "sessions": found.sessions,
        "containers": found.containers,
        "rate": round(found.rate, 3),
        "times": {
            name: {"local_ms": _ms(t.local), "remote_ms": _ms(t.remote), "store_ms": _ms(t.store), "measured": t.tried}
            for name, t in found.times.items()
        },
        "now": found.now,
        "best": found.best,
        "planned": found.planned,
        "cliff": found.cliff,
        "points": [
            {"k": k, "mean_ms": _ms(seen.mean), "p99_ms": _ms(seen.within(0.99)), "pool_busy": _share(seen.utilisation)}
            for k, seen in found.points
        ],
    }


def _share(utilisation: float) -> float | None:
    return round(utilisation, 4) if isfinite(utilisation) else None


async def session_explain(node: "Node", link: Link, request: m.Request) -> Answer:
    """Why a session is where it is: asked of the node that looks after it."""
    key = session_key(request)
    found = await _own_explanation(node, key)
    if found is not None or request.params.get("here"):
        return found, None
    record, _ = await loaded(node, key, ())
    parts, _ = await _everywhere(node, request, {})
    told = [part for part in parts if part]
    if told:
        return told[0], None
    reason = "nobody has called it lately" if record.mode == "remote" else f"it is local on {record.owner}, which does not answer"
    return {**key._asdict(), "mode": record.mode, "node": record.owner, "why": [reason]}, None


async def _own_explanation(node: "Node", key: SessionKey) -> m.Map | None:
    now = trio.current_time()
    view = await node.brain.view(now)
    for function in view.functions:
        for session in function.sessions:
            if session.key == key:
                seen, line = await trio.to_thread.run_sync(_seen, view, function, session)
                return _explained(node, function, session, seen, line, now)
    return None


def _seen(view: View, function: Function, session: Session) -> tuple[Sight, str]:
    target = Mesh(view, {f.name: figures(f) for f in view.functions}).target()
    return sight(target, function, session), threshold(target, function) if function.policy == "auto" else ""


def _explained(node: "Node", function: Function, session: Session, seen: Sight, line: str, now: float) -> m.Map:
    held, last = node.brain.held(session.key, now), node.brain.last
    reason = last.reasons.get(function.name, "") if last else "no plan yet"
    since = now - session.moved
    return {
        **session.key._asdict(),
        "mode": session.mode,
        "node": node.name,
        "policy": function.policy,
        "frozen": node.brain.frozen,
        "wish": None if held else session.wish,
        "rate": round(session.rate, 4),
        "rate_rests_on_calls": round(session.calls, 1),
        "in_mode_s": round(since, 1) if isfinite(since) else None,
        "dwell_left_s": round(max(0.0, function.dwell - since), 1),
        "local_ms": _ms(seen.local),
        "remote_ms": _ms(seen.remote),
        "why": [*why(function, session, held[1] if held else None, reason), *([line] if line else [])],
    }
