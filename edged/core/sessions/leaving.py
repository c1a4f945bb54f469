"""Leaving local-state: externalize, and the source's side of a migration (DESIGN §5, reliability §2.5).

Decides each step from the wish to the write that ends the ownership. Until that write is sent, anything wrong
means that this node serves on, its queue in order. From then on only the record tells. A write whose outcome
is unknown may be applied at any later time, so it is sent again until the record has moved: to serve on
because the record still names us was the alternative, and had two owners when the first write arrived.
"""

from typing import Any

from ..effects import Ask, Control, Due, Effect, Forward, Located, Noted, Release, Said, Tell, Timer
from ..records import Load, StoreFailed
from ..transition import S
from .actor import STEP_DEADLINE, Actor
from .basis import Part
from .checkpoints import reconcile, take, taken
from .endings import superseded
from .local_calls import admit_waiting, open_gate
from .writes import release

DOUBT_POLL = 0.5
"""Seconds between two looks at the record while a write's outcome is unknown."""


def begin(actor: Actor, now: float) -> list[Effect]:
    """From LOCAL: a migration asks its target first, which needs a container."""
    assert actor.wish is not None
    move, actor.asker, actor.target, actor.move = actor.wish
    actor.wish = None
    actor.began, actor.moved = now, 0
    if move != "migrate":
        actor.target = ""
        return _drain(actor, now)
    actor.go(S.INVITING)
    token = actor.number()
    invite = Tell(actor.target, "session.invite", _names(actor), None, token)
    return [invite, Timer(STEP_DEADLINE, token)]


def _names(actor: Actor) -> dict[str, Any]:
    return {
        "function": actor.key.function,
        "session": actor.key.session,
        "epoch": actor.epoch,
        "version": actor.version,
        "move": actor.move,
    }


def accepted(actor: Actor, code: int, message: str, now: float) -> list[Effect]:
    """INVITING: the target has a container, or says why not."""
    if code:
        return back(actor, code, f"{actor.target}: {message}", now)
    return _drain(actor, now)


def _drain(actor: Actor, now: float) -> list[Effect]:
    """No new call starts; those in the container end, or its hard limit ends it."""
    actor.go(S.DRAINING)
    actor.began = now
    actor.number()
    return []


def flush_when_idle(actor: Actor, now: float) -> list[Effect]:
    """DRAINING: once nothing runs. A checkpoint under way ends first: the write has to expect its version."""
    if actor.own or actor.saving is not None:
        return []
    actor.go(S.FLUSHING)
    return _flush(actor)


def _flush(actor: Actor) -> list[Effect]:
    token = actor.number()
    if actor.target:
        flush = Control(actor.container, "worker.snapshot", None, token)
    else:
        flush = take(actor, token, upload=True)
    return [flush, Timer(STEP_DEADLINE, token)]


def flushed(actor: Actor, said: Said, now: float) -> list[Effect]:
    """FLUSHING: what the store does not have; to a target the whole state, before anything is written."""
    if said.code:
        return back(actor, said.code, said.message, now)
    part = taken(actor, said)
    if part is None:
        return _flush(actor)
    actor.part = part
    if not actor.target:
        return _release(actor)
    actor.moved = len(part.state or b"")
    actor.go(S.OFFERING)
    token = actor.number()
    params = _names(actor)
    params["results"] = [list(entry) for entry in actor.window.entries()]
    params["floor"] = actor.window.floor
    params["alarms"] = actor.alarms.packed()
    offer = Tell(actor.target, "session.offer", params, actor.part.state, token)
    return [offer, Timer(STEP_DEADLINE, token)]


def sealed(actor: Actor, code: int, message: str, now: float) -> list[Effect]:
    """OFFERING: the target has it all, and promises nothing."""
    if code:
        return back(actor, code, f"{actor.target}: {message}", now)
    return _release(actor)


def _release(actor: Actor) -> list[Effect]:
    actor.go(S.RELEASING)
    return [Ask(release(actor), actor.number())]


def released(actor: Actor, outcome: Any, now: float) -> list[Effect]:
    """RELEASING: the outcome of the write, if there is one."""
    if not isinstance(outcome, StoreFailed):
        return left(actor, now) if outcome.won else _look(actor)
    harmless = outcome.applied is False and not actor.doubtful
    if harmless and actor.container is not None:
        return back(actor, 106, f"state store: {outcome.reason}", now)
    # An undone claim has no container to serve on with: it only waits for the store.
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
    return [*reconcile(actor, record, outcome.results), *_release(actor)]


def left(actor: Actor, now: float) -> list[Effect]:
    """The record names somebody else now; what waited goes there."""
    node = actor.target.partition("/")[0]
    actor.epoch += 1
    actor.stored = actor.version
    actor.changes.save(actor.changes.mark)
    effects = open_gate(actor)
    if node:
        effects.append(Tell(node, "session.commit", _names(actor), None, 0))
    effects += [_moved(actor, node, now), *actor.end_move(0, "")]
    effects.append(Located(node or None, actor.epoch))
    if actor.container is not None:
        effects.append(Release(actor.container))
    if not node and actor.alarms.due is not None:
        effects.append(Due(actor.alarms.due))
    actor.forget()
    actor.changed = now
    actor.go(S.FREE)
    if node:
        effects += [Forward(call, node) for call in actor.waiting()]
    return effects


def _moved(actor: Actor, node: str, now: float) -> Noted:
    pause = round((now - actor.began) * 1000, 3)
    about = {"epoch": actor.epoch, "pause_ms": pause, "bytes": actor.moved}
    if node:
        return Noted("session.migrated", {"to": node, **about})
    return Noted("session.externalized", about)


def back(actor: Actor, code: int, reason: str, now: float) -> list[Effect]:
    """Anything wrong before the write: the old mode serves on, its queue in order."""
    actor.part = Part()
    actor.go(S.LOCAL)
    effects = actor.end_move(code, reason)
    return effects + admit_waiting(actor, now)


def out_of_time(actor: Actor, now: float) -> list[Effect]:
    """INVITING, FLUSHING, OFFERING: whoever was asked does not answer."""
    return back(actor, 401, "no answer in time", now)
