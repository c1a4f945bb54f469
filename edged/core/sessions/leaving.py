"""Leaving local-state, whereto ever: what `externalize` and `migrate` have in common (DESIGN §5, reliability §2.5).

Decides how a session stops and what the write that ends the ownership means. Until that write is sent, anything wrong
means that this node serves on, its queue in order. From then on only the record tells. A write whose outcome
is unknown may be applied at any later time, so it is sent again until the record has moved: to serve on
because the record still names us was the alternative, and had two owners when the first write arrived.
"""

from typing import Any

from ..effects import Ask, Due, Effect, Forward, Located, Noted, Release, Tell, Timer
from ..records import Load, StoreFailed
from ..transition import S
from .actor import Actor
from .aside import superseded
from .basis import Part
from .checkpoints import reconcile
from .endings import withdraw
from .fencing import serve
from .kept import keep
from .local_calls import open_gate
from .writes import release

DOUBT_POLL = 0.5
"""Seconds between two looks at the record while a write's outcome is unknown."""


def drain(actor: Actor, now: float) -> list[Effect]:
    """No new call starts; those in the container end, or its hard limit ends it."""
    actor.go(S.DRAINING)
    actor.began = now
    actor.number()
    return []


def is_idle(actor: Actor) -> bool:
    """DRAINING: nothing runs. A checkpoint under way ends first: the write has to expect its version."""
    return not actor.own and actor.saving is None


def let_out(actor: Actor) -> list[Effect]:
    """The write that ends the ownership."""
    actor.go(S.RELEASING)
    return [Ask(release(actor), actor.number())]


def released(actor: Actor, outcome: Any, now: float) -> list[Effect]:
    """RELEASING: the outcome of the write, if there is one."""
    if not isinstance(outcome, StoreFailed):
        return left(actor, now) if outcome.won else _look(actor)
    harmless = outcome.applied is False and not actor.doubtful
    if harmless and actor.container is not None and not actor.over:
        return back(actor, 106, f"state store: {outcome.reason}", now)
    # An undone claim has no container to serve on with, and one that has ended no state: they only wait for the store.
    actor.doubtful = not harmless
    actor.go(S.DOUBT)
    return [Timer(DOUBT_POLL, actor.number())]


def _look(actor: Actor) -> list[Effect]:
    actor.doubtful = True
    actor.go(S.DOUBT)
    return look(actor, 0.0)


def look(actor: Actor, now: float) -> list[Effect]:
    """DOUBT: read the record, and which of our outcomes it has."""
    return [Ask(Load(actor.key, actor.changes.ids()), actor.number())]


def looked(actor: Actor, outcome: Any, now: float) -> list[Effect]:
    """DOUBT: ours and applied; still at our epoch, so again; or somebody else's by now."""
    record = None if isinstance(outcome, StoreFailed) else outcome.record
    if record is None:
        return [Timer(DOUBT_POLL, actor.number())]
    if record.epoch == actor.epoch + 1 and record.move == actor.move:
        return left(actor, now)
    if record.epoch != actor.epoch:
        return superseded(actor)
    return [*reconcile(actor, record, outcome.results), *let_out(actor)]


def left(actor: Actor, now: float) -> list[Effect]:
    """The record names somebody else now; what waited goes there."""
    node, ended = actor.target.partition("/")[0], actor.closing or actor.over
    actor.epoch += 1
    if ended:
        actor.version = 0
    if actor.complete or ended:
        actor.stored = actor.version
        actor.changes.save(actor.changes.mark)
    effects = open_gate(actor)
    if node:
        effects.append(Tell(node, "session.commit", actor.names(), None, 0))
    effects += [_ended(actor) if ended else _moved(actor, node, now), *actor.end_move(0, "")]
    effects.append(Located(node or None, actor.epoch))
    if node and not actor.complete and not actor.after.thanked and actor.container is not None:
        effects += [Forward(call, node) for call in actor.waiting()]
        actor.rests.seen(actor.key, actor.epoch, now)
        return effects + keep(actor, now)
    if actor.container is not None:
        effects.append(Release(actor.container))
    if not node and actor.alarms.due is not None:
        effects.append(Due(None if ended else actor.alarms.due))
    actor.forget()
    actor.rests.seen(actor.key, actor.epoch, now)
    actor.go(S.FREE)
    if node:
        effects += [Forward(call, node) for call in actor.waiting()]
    return effects


def _ended(actor: Actor) -> Noted:
    return Noted("session.ended", {"epoch": actor.epoch, "cause": "function" if actor.over else "operator"})


def _moved(actor: Actor, node: str, now: float) -> Noted:
    pause = round((now - actor.began) * 1000, 3)
    about = {"epoch": actor.epoch, "pause_ms": pause, "bytes": actor.moved}
    if actor.copy is not None:
        about |= {"rounds": actor.copy.rounds, "breaks": actor.copy.breaks}
    if node:
        return Noted("session.migrated", {"to": node, **about})
    return Noted("session.externalized", about)


def back(actor: Actor, code: int, reason: str, now: float) -> list[Effect]:
    """Anything wrong before the write: the old mode serves on, its queue in order."""
    effects = actor.end_move(code, reason)
    effects += withdraw(actor)
    actor.part = Part()
    return effects + serve(actor, now)


def out_of_time(actor: Actor, now: float) -> list[Effect]:
    """INVITING, COPYING, FLUSHING, OFFERING: whoever was asked does not answer."""
    return back(actor, 401, "no answer in time", now)
