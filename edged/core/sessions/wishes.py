"""Whether a session may move (DESIGN §5 "Transitions"): all triggers come this way.

Decides if a wish is taken; when it is fulfilled depends on what is under way.
"""

from typing import Any

from ..effects import Done, Effect
from ..transition import SERVING_REMOTE, S
from .actor import Actor, Wish

WANTED = {"local": "localize", "remote": "externalize"}


def want(actor: Actor, wish: Wish, now: float) -> list[Effect]:
    """Operator and network: refused with the reason, or taken."""
    reason = why_not(actor, wish.move, wish.target, wish.dwells, now)
    if reason is not None:
        return [Done(wish.asker, *reason, {})]
    actor.wish = wish
    return []


def why_not(actor: Actor, move: str, target: str, dwells: bool, now: float) -> tuple[int, str] | None:
    """Code and reason why a move cannot begin."""
    if actor.state is S.FENCED:
        return 103, f"the session is not served: {actor.node} could not renew its lease"
    if actor.wish is not None or (actor.state not in SERVING_REMOTE and actor.state is not S.LOCAL):
        return 103, "the session is moving already"
    mode = "remote" if move == "externalize" else "local"
    if move != "end" and mode not in actor.rules.allow:
        return 201, f"the function does not allow {mode}-state sessions"
    if move == "localize" and not actor.leases.good:
        return 106, f"{actor.node} has no lease in the state store"
    if move == "migrate" and target == actor.node:
        return 201, f"the session is on {actor.node} already"
    if move == "localize" and actor.state is S.LOCAL:
        return 201, f"the session is local on {actor.node} already"
    if move != "localize" and actor.state is not S.LOCAL:
        return 201, "the session is not local-state"
    return restless(actor, now) if dwells else None


def restless(actor: Actor, now: float) -> tuple[int, str] | None:
    """Code and reason while the session's dwell time is not over, as far as this node knows."""
    left = actor.rests.left(actor.key, actor.rules.min_dwell, now)
    return (103, f"the session has just moved: it rests for {left:.1f} s more") if left > 0 else None


def prefer(actor: Actor, mode: Any, now: float) -> None:
    """The application's trigger; dwell time and a move under way are stronger."""
    move = WANTED.get(mode)
    if move is not None and why_not(actor, move, "", True, now) is None:
        actor.wish = Wish(move, None, "", actor.next_move(), dwells=True)
