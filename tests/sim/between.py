"""What nodes send each other: calls that go on, steps of moves, and all the ways in which these get lost."""

from typing import TYPE_CHECKING, Any

from edged.core import effects as fx
from edged.core.calls import Call
from edged.core.rerouting import WRONG_PLACE, routed_again
from edged.core.sessions import Seat

if TYPE_CHECKING:
    from .node import Node


def forward(node: "Node", call: Call, name: str) -> None:
    """Let another node answer the call."""
    mesh = node.mesh
    other = mesh.nodes[name]
    left = call.deadline - mesh.clock.now - 0.001
    if not other.alive:
        node.router.forget(mesh.key)
        node.answer(fx.Answer(call, 105, b"", f"{name} is not reachable", None))
    elif left <= 0:
        node.answer(fx.Answer(call, 401, b"", "no time left", {"ran": False}))
    elif mesh.faults.hit("forward_lost"):
        call.started = call.started or mesh.clock.now
        mesh.clock.after(mesh.chance.random() * 0.05, node.later(link_lost), node, call)
    else:
        call.started = call.started or mesh.clock.now
        _send(node, call, other, left)


def _send(node: "Node", call: Call, other: "Node", left: float) -> None:
    mesh = node.mesh

    def back(answer: fx.Answer) -> None:
        if mesh.faults.hit("forward_answer_lost"):
            mesh.clock.after(mesh.chance.random() * 0.05, node.later(link_lost), node, call)
        else:
            other.lane(node.name).send(lambda: node.later(_answered)(node, call, answer))

    meta: dict[str, Any] = {"hops": call.hops + 1, "attempt": call.attempt, "prefer": call.prefer}
    if call.alarm is not None:
        meta["alarm"] = list(call.alarm)
    arguments = (back, call.method, call.call_id, left, call.body, meta)

    def arrives() -> None:
        if other.paused:
            other.later(other.stale)(lambda: other.take(*arguments), back)
        elif other.alive:
            other.take(*arguments)

    node.lane(other.name).send(arrives)
    other.watchers.append((node, call))


def link_lost(node: "Node", call: Call) -> None:
    """The connection ended while the other node had the call."""
    if node.alive and call.serial in node.calls:
        node.answer(fx.Answer(call, 403, b"", "the node was lost", None))


def _answered(node: "Node", call: Call, answer: fx.Answer) -> None:
    if call.serial not in node.calls:
        return
    key, meta = node.mesh.key, answer.meta or {}
    if type(meta.get("epoch")) is int:
        owner = meta.get("node") if meta.get("mode") == "local" else None
        node.router.located(key, owner, meta["epoch"])
    if answer.code in WRONG_PLACE:
        node.router.forget(key)
        if routed_again(call, answer.code):
            node.route(call)
            return
    node.answer(answer._replace(call=call))


def tell(node: "Node", seat: Seat, effect: fx.Tell) -> None:
    """A step of a move for another node; its answer is this node's next step."""
    mesh = node.mesh
    other = mesh.nodes[effect.node.partition("/")[0]]

    def back(code: int, message: str, _: Any) -> None:
        if mesh.faults.hit("tell_answer_lost") or mesh.severed(node, other):
            code, message = 403, "the node was lost"
        other.lane(node.name).send(lambda: _told(node, seat, effect.token, code, message))

    def take() -> None:
        if mesh.severed(node, other):
            _told(node, seat, effect.token, 403, "the node was lost")
        else:
            other.later(_take)(other, effect, back)

    if not other.alive or mesh.severed(node, other) or mesh.faults.hit("tell_lost"):
        mesh.clock.after(0.001, lambda: _told(node, seat, effect.token, 105, "not reachable"))
    elif not mesh.faults.hit("tell_swallowed"):
        node.lane(other.name).send(take)
        if mesh.faults.hit("tell_twice"):
            node.lane(other.name).send(lambda: other.later(_take)(other, effect, lambda *_: None))


def _told(node: "Node", seat: Seat, token: int, code: int, message: str) -> None:
    if token:
        now = node.mesh.clock.now
        node.step("peer", lambda s: s.on_peer(token, code, message, now), seat)


def _take(node: "Node", effect: fx.Tell, back: Any) -> None:
    """Another node's step of a move arrives."""
    now, params, blob = node.mesh.clock.now, effect.params, effect.blob
    if effect.verb == "session.invite":
        ended = node.mesh.asker(node, back)
        node.step("invited", lambda s: s.invited(ended, params["from"], params["move"], now), node.there())
    elif effect.verb == "session.chunk":
        ended = node.mesh.asker(node, back)
        node.step("piece", lambda s: s.piece(ended, params, blob or b"", now), node.there())
    elif effect.verb == "session.offer":
        ended = node.mesh.asker(node, back)
        node.step("offered", lambda s: s.offered(ended, params, now), node.there())
    elif effect.verb == "session.regain":
        ended = node.mesh.asker(node, back)
        node.step("regain", lambda s: s.regain(ended, params["move"], params["lost_seq"], now), node.there())
    elif node.seat is not None and effect.verb == "session.done":
        node.step("thanked", lambda s: s.safe_there(params["move"], now), node.seat)
    elif node.seat is not None and effect.verb == "session.withdraw":
        node.step("withdrawn", lambda s: s.withdrawn(params["move"], now), node.seat)
    elif node.seat is not None:
        node.step("committed", lambda s: s.committed(params["move"], now), node.seat)
