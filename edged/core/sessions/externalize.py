"""Externalize: local-state to remote-state (DESIGN §5, reliability §2.5).

Decides what the store is given when the session stops. From there on it leaves as any session does (`leaving`).
"""

from ..effects import Effect, Said, Timer
from .actor import STEP_DEADLINE, Actor
from .checkpoints import take, taken
from .leaving import back, drain, let_out


def begin(actor: Actor, now: float) -> list[Effect]:
    """From LOCAL: no new call starts."""
    assert actor.wish is not None
    actor.asker, actor.move, actor.target = actor.wish.asker, actor.wish.move_id, ""
    actor.wish, actor.moved = None, 0
    return drain(actor, now)


def flush(actor: Actor) -> list[Effect]:
    """FLUSHING: what the store does not have, after the function's own upload."""
    token = actor.number()
    return [take(actor, token, upload=True), Timer(STEP_DEADLINE, token)]


def flushed(actor: Actor, said: Said, now: float) -> list[Effect]:
    """FLUSHING: it is in the container's answer."""
    if said.code:
        return back(actor, said.code, said.message, now)
    part = taken(actor, said)
    if part is None:
        return flush(actor)
    actor.part, actor.complete = part, True
    return let_out(actor)
