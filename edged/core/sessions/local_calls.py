"""Local-state calls: the session's own container runs them, in the order of their arrival (DESIGN §5.2).

Decides what a call id seen before gets, when an answer may leave (`sync`: when the store has it), and what
becomes of the calls when the container dies.
"""

from collections import deque
from typing import Any

from edged_protocol.errors import Code

from ..alarms import Alarms, Firing
from ..calls import Call
from ..effects import Answer, Effect, RunOwn
from ..transition import HELD_BACK, S
from ..window import Verdict
from .actor import Actor
from .answers import (
    NIL,
    alarms_after,
    alarms_now,
    attached_enough,
    kept,
    not_set,
    queue_full,
    remembered,
    said,
    state_lost,
    told_again,
    too_old,
)
from .closing import said_so
from .endings import drop, next_living
from .wishes import prefer


def admit(actor: Actor, call: Call, now: float) -> list[Effect]:
    """A call for the container; held there, so that the next one is already at hand."""
    own = actor.own
    if len(own) >= actor.rules.queue:
        return [queue_full(call)]
    if actor.state_lost and call.alarm is None:
        return [state_lost(actor, call)]
    verdict = actor.window.admit(call)
    if verdict is Verdict.RUN and call.alarm is not None:
        refusal = _judge_alarm(actor, call, call.alarm)
        if refusal is not None:
            actor.window.abandon(call)
            return refusal
    actor.called = now
    if verdict is Verdict.RUN:
        call.mode, call.container = "local", actor.container
        call.started = 0.0 if own else now
        own.append(call)
        return [RunOwn(call, actor.container)]
    return _known(actor, call, verdict)


def _judge_alarm(actor: Actor, call: Call, firing: Firing) -> list[Effect] | None:
    """None: it stands, and is to be run. An earlier try of it that still runs may be the one that counts."""
    if actor.alarms.standing(firing) is None:
        return [not_set(call)]
    if any(other.alarm is not None and other.alarm[1:4] == firing[1:4] for other in actor.own):
        return [Answer(call, 103, b"", "an earlier try of this alarm still runs", {"retry_after_ms": 1000})]
    if firing.act == "fire":
        return None
    actor.changes.note(actor.version, None)
    effects = _set(actor, actor.alarms.edited(firing))
    return [*effects, *_gate(actor, Answer(call, 0, NIL, "", {"epoch": actor.epoch}))]


def _set(actor: Actor, alarms: Alarms) -> list[Effect]:
    before, actor.alarms, actor.alarmed = actor.alarms, alarms, True
    return alarms_now(alarms, before)


def _known(actor: Actor, call: Call, verdict: Verdict) -> list[Effect]:
    if verdict is Verdict.ATTACHED:
        return []
    if verdict is Verdict.FORGOTTEN:
        return [too_old(call)]
    if verdict is Verdict.TOO_MANY:
        return [attached_enough(call)]
    assert call.call_id is not None
    entry = actor.window.remembered(call.call_id)
    assert entry is not None
    return _gate(actor, remembered(call, entry, actor.epoch, told_again(actor, call)))


def admit_waiting(actor: Actor, now: float) -> list[Effect]:
    """The container serves: what waited for it, in order."""
    effects: list[Effect] = []
    waiting = deque(actor.waiting())
    while (call := next_living(waiting, effects)) is not None:
        effects += admit(actor, call, now)
    return effects


def answered(
    actor: Actor, call: Call, code: int, body: bytes, message: str, meta: dict[str, Any], now: float
) -> list[Effect]:
    """The container ran a call, or refused it."""
    own = actor.own
    own.remove(call)
    if own and not own[0].started and own[0].container is not None:
        own[0].started = now
    if actor.over and code == Code.MOVING:
        return _behind_the_end(actor, call)
    says = said(actor, call, meta)
    shared = bool(meta.get("shared"))
    effects: list[Effect] = []
    if (code == 0 and (not shared or call.alarm is not None)) or code == 301:
        actor.version += code == 0 and not shared
        entry = actor.window.settle(call, code, kept(code, body, message), actor.version)
        actor.changes.note(actor.version, entry)
        if call.alarm is not None or "alarms" in meta:
            effects = _set(actor, alarms_after(actor.alarms, call, code, message, meta, actor.epoch, actor.version))
    else:
        actor.window.abandon(call)
    # A reader may have begun before calls that were answered since.
    seen = meta.get("version") if shared else None
    says["epoch"], says["version"] = actor.epoch, seen if type(seen) is int else actor.version
    effects += _gate(actor, Answer(call, code, body, message, says))
    if meta.get("end") is True and code == 0 and not shared:
        return effects + said_so(actor, now)
    prefer(actor, meta.get("prefer") or call.prefer, now)
    return effects


def _behind_the_end(actor: Actor, call: Call) -> list[Effect]:
    """It came before the end was known, and is one of the session that begins anew."""
    actor.window.abandon(call)
    call.started, call.container = 0.0, None
    actor.queue.append(call)
    return []


def _gate(actor: Actor, answer: Answer) -> list[Effect]:
    """With `sync` an answer leaves when the store has all that it may rest on; none leaves behind the fence."""
    changes = actor.changes
    if (actor.rules.durability != "sync" or changes.all_saved) and actor.state not in HELD_BACK:
        return [answer]
    actor.held.append((changes.mark, answer))
    return []


def open_gate(actor: Actor) -> list[Effect]:
    """The store has more than it had, or the session is served again: the answers that waited for it."""
    effects: list[Effect] = []
    if actor.state in HELD_BACK:
        return effects
    sync = actor.rules.durability == "sync"
    while actor.held and (not sync or actor.held[0][0] <= actor.changes.saved):
        effects.append(actor.held.popleft()[1])
    return effects


def container_lost(actor: Actor, now: float) -> list[Effect]:
    """The state is what the store has; the call that ran is unknown, those that had not begun wait again: all of them
    where the container ran another session's call."""
    actor.recovered = actor.stored
    behind = list(actor.own)[1 if actor.own and actor.own[0].started else 0 :]
    for call in reversed(behind):
        call.started, call.container = 0.0, None
        actor.queue.appendleft(call)
        actor.own.pop()
    effects = drop(actor, "the session's container died")
    assert actor.state is S.FREE
    return effects
