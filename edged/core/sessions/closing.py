"""The end of a local session, asked for by an operator or said by its own function (DESIGN §5.7).

Decides when the write that ends it is made: once nothing runs, and without the state, which ends with it. What an operator
asks for may fail, and the session is served on. What the function says is an effect of the call that said so: its
container has let go of the state, so the write is made again until the store has it. Of a remote-state session it is
part of that call's commit.
"""

from ..effects import Ask, Effect
from ..transition import SERVING_LOCAL, S
from .actor import Actor
from .basis import Part
from .endings import withdraw
from .writes import release


def begin(actor: Actor, now: float) -> list[Effect]:
    """From LOCAL, asked for: no new call starts."""
    assert actor.wish is not None
    actor.asker, actor.move = actor.wish.asker, actor.wish.move_id
    actor.wish, actor.closing = None, True
    return _drain(actor, now)


def said_so(actor: Actor, now: float) -> list[Effect]:
    """A call has said that the session ends behind it: before any move, and after whatever fences."""
    effects: list[Effect] = []
    if not actor.closing:
        effects = [*actor.end_move(103, "the session has ended"), *withdraw(actor)]
        actor.move = actor.next_move()
    actor.over = True
    return effects + _drain(actor, now) if actor.state in SERVING_LOCAL else effects


def _drain(actor: Actor, now: float) -> list[Effect]:
    actor.target, actor.moved, actor.began = "", 0, now
    actor.go(S.DRAINING)
    actor.number()
    return []


def close(actor: Actor) -> list[Effect]:
    """DRAINING: nothing runs any more."""
    actor.part, actor.complete = Part(), True
    actor.go(S.RELEASING)
    return [Ask(release(actor), actor.number())]
