"""How what waits here ends when it cannot be served here (DESIGN §5, §10).

Decides who is told what; nothing that waits is left without an answer or another node to get one from.
"""

from collections import deque

from ..calls import Call
from ..effects import Answer, Done, Due, Effect, Forward, Located, Noted, Release, Tell
from ..records import Record
from ..transition import S
from .actor import Actor


def next_living(queue: deque[Call], effects: list[Effect]) -> Call | None:
    """Take the first call that somebody still waits for: itself, or a retry attached to it.

    One whose deadline has passed is let go, by an answer that nobody hears any more.
    """
    while queue:
        call = queue.popleft()
        if not call.answered:
            return call
        drop_expired(call, queue, effects)
    return None


def drop_expired(call: Call, queue: deque[Call], effects: list[Effect]) -> None:
    """Of the retries attached to an expired call the first that is waited for takes its place."""
    attached, call.attached = [c for c in call.attached if not c.answered], []
    if attached:
        attached[0].attached = attached[1:]
        queue.appendleft(attached[0])
    effects.append(Answer(call, 401, b"", "the deadline has passed", {"ran": False}))


def let_go(actor: Actor) -> list[Effect]:
    """Nothing of the session is held here any more; its container is freed."""
    effects: list[Effect] = [Release(actor.container)] if actor.container is not None else []
    if actor.arrival is not None:
        effects += [Done(asker, 103, "the move has ended", {}) for asker in actor.arrival.restoring.values()]
    actor.forget()
    actor.go(S.FREE)
    return effects


def refuse_all(actor: Actor, code: int, message: str) -> list[Effect]:
    """Neither the move under way nor any call that waits can go on."""
    effects = actor.end_move(code, message)
    calls = actor.waiting()
    effects += let_go(actor)
    effects += [Answer(call, code, b"", message, None) for call in calls]
    return effects


def send_away(actor: Actor, record: Record) -> list[Effect]:
    """The session is local elsewhere: what waits goes there."""
    owner = record.owner or ""
    effects = actor.end_move(103, f"the session is local on {owner}")
    effects.append(Located(owner, record.epoch))
    calls = actor.waiting()
    effects += let_go(actor)
    effects += [Forward(call, owner) for call in calls]
    return effects


def give_up(actor: Actor, code: int, message: str) -> list[Effect]:
    """The move ends before anything was claimed; calls that wait go the way they find."""
    actor.kept_out = message
    return [*actor.end_move(code, message), *let_go(actor)]


def withdraw(actor: Actor) -> list[Effect]:
    """The target of the migration under way, if there is one, may forget what it has."""
    copy, actor.copy = actor.copy, None
    return [] if copy is None else [Tell(actor.target, "session.withdraw", actor.names(), None, 0)]


def drop(actor: Actor, message: str) -> list[Effect]:
    """Leave ownership without a write; whoever asks next reads the record."""
    lost = [*actor.own, *(answer.call for _, answer in actor.held)]
    effects: list[Effect] = [Answer(call, 402, b"", message, None) for call in lost]
    effects += actor.end_move(105, message)
    effects += withdraw(actor)
    effects.append(Noted("session.dropped", {"reason": message, "calls_lost": actor.unsaved}))
    if actor.alarms.due is not None:
        effects.append(Due(actor.alarms.due))  # of the record's alarms this node knows at least about when
    return [*effects, *let_go(actor)]
