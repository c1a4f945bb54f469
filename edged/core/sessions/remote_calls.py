"""Remote-state calls: any container runs them, one compare-and-set makes them count (DESIGN §5.1, §5.2).

Decides which waiting call runs next, whether it was seen before, and what its commit's outcome means for it.
A record that was just written serves the next call without being read again: if others commit meanwhile, the
next commit is lost and the call runs again. Reading before every call was the alternative, at twice the cost.
"""

from dataclasses import replace
from typing import Any

from ..alarms import NONE, Firing, alarms_of
from ..calls import Call
from ..effects import Answer, Ask, Effect, Located, Noted, RunPool
from ..records import Load, Loaded, Record, StoreFailed
from ..transition import S
from ..window import Window, attach
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
    too_large,
    too_old,
)
from .endings import drop_expired, next_living, refuse_all
from .starts import local_first
from .takeover import read_elsewhere, start_over
from .wishes import prefer
from .writes import NO_RECORD, close, commit

MAX_TRIES = 3
"""Runs of one remote call that lost their commit before it is answered 107."""


def enqueue(actor: Actor, call: Call) -> list[Effect]:
    """A call waits its turn, or with the one that it repeats."""
    if len(actor.queue) >= actor.rules.queue:
        return [queue_full(call)]
    twin = _twin(actor, call.call_id)
    if twin is None:
        actor.queue.append(call)
        return []
    return [] if attach(twin, call) else [attached_enough(call)]


def _twin(actor: Actor, call_id: bytes | None) -> Call | None:
    if call_id is None:
        return None
    head = actor.head
    if head is not None and head.call_id == call_id:
        return head
    return next((call for call in actor.queue if call.call_id == call_id), None)


def begin(actor: Actor) -> list[Effect]:
    """From FREE: the next call that somebody waits for."""
    effects: list[Effect] = []
    actor.head = head = next_living(actor.queue, effects)
    if head is None:
        actor.record = None
    elif actor.record is not None and head.attempt == 0 and head.alarm is None:
        effects.append(_run(actor, head, actor.record))
    else:
        effects.append(_read(actor, head))
    return effects


def _read(actor: Actor, head: Call) -> Effect:
    actor.go(S.READING)
    return Ask(Load(actor.key, (head.call_id,) if head.call_id else ()), actor.number())


def _run(actor: Actor, head: Call, record: Record) -> Effect:
    actor.go(S.RUNNING)
    actor.record = record
    actor.epoch, actor.version = record.epoch, record.version
    head.mode, head.state, head.deltas, head.form = "remote", record.state or None, record.deltas, record.form
    return RunPool(head)


def has_read(actor: Actor, outcome: Any, now: float) -> list[Effect]:
    """READING: the record, and whether it remembers the call."""
    if isinstance(outcome, StoreFailed):
        return refuse_all(actor, 106, f"state store: {outcome.reason}")
    record = outcome.record or NO_RECORD
    actor.rests.seen(actor.key, record.epoch, now)
    if record.mode == "remote":
        return _judge(actor, record, outcome)
    return read_elsewhere(actor, record)


def _judge(actor: Actor, record: Record, outcome: Loaded) -> list[Effect]:
    head = actor.head
    assert head is not None
    if actor.state_lost and head.alarm is None:
        return _ended(actor, state_lost(actor, head))
    if outcome.results:
        return _ended(actor, remembered(head, outcome.results[0], record.epoch))
    if head.answered:
        return start_over(actor)  # expired while the record was read: it was told that it did not run
    elsewhere = local_first(actor, record)
    if elsewhere is not None:
        return elsewhere
    if head.alarm is not None:
        return _judge_alarm(actor, head, head.alarm, record)
    if head.attempt > 0 and record.floor and head.call_id is not None:
        return _ended(actor, too_old(head))
    return [_run(actor, head, record)]


def _judge_alarm(actor: Actor, head: Call, firing: Firing, record: Record) -> list[Effect]:
    """One that stands is run, whatever the window has forgotten: had it run, it would not stand any more."""
    alarms = alarms_of(record.alarms)
    if alarms.standing(firing) is None:
        return _ended(actor, not_set(head))
    if firing.act == "fire":
        return [_run(actor, head, record)]
    after = alarms.edited(firing)
    actor.record = record
    head.entry = (Answer(head, 0, NIL, "", {"epoch": record.epoch}), None, record.version, None, after)
    actor.go(S.COMMITTING)
    return [Ask(commit(actor, record, record.version, None, None, after), actor.number())]


def _ended(actor: Actor, answer: Answer) -> list[Effect]:
    actor.head = None
    actor.go(S.FREE)
    return [answer]


def answered(
    actor: Actor, call: Call, code: int, body: bytes, message: str, meta: dict[str, Any], blob: Any
) -> list[Effect]:
    """RUNNING: a container of the pool ran the call."""
    record = actor.record
    assert record is not None
    if code not in (0, 301):
        return _ended(actor, Answer(call, code, body, message, meta))
    if blob is not None and len(blob) > actor.rules.max_state:
        return _ended(actor, too_large(actor, call, len(blob)))
    says = said(actor, call, meta)
    says["epoch"] = record.epoch
    shared = bool(meta.get("shared"))
    if (shared and call.alarm is None) or (code and call.call_id is None):
        says["version"] = record.version
        return _ended(actor, Answer(call, code, body, message, says))
    says["version"] = version = record.version + (code == 0 and not shared)
    entry = Window(1).settle(call, code, kept(code, body, message), version)
    after = None
    if call.alarm is not None or "alarms" in meta:
        after = alarms_after(alarms_of(record.alarms), call, code, message, meta, record.epoch, version)
    write = commit(actor, record, version, blob, entry, after, call.writes)
    if meta.get("end") is True and code == 0 and not shared:
        write, after = close(write, actor.next_move())._replace(had_alarms=record.alarms or b""), NONE
        actor.over = True
    call.entry = (Answer(call, code, body, message, says), blob, version, meta.get("prefer"), after)
    actor.go(S.COMMITTING)
    return [Ask(write, actor.number())]


def committed(actor: Actor, outcome: Any, now: float) -> list[Effect]:
    """COMMITTING: the call counted, lost a race, or nobody knows."""
    head, record = actor.head, actor.record
    assert head is not None
    assert record is not None
    over, actor.over = actor.over, False
    # It holds the answer, and that the call: together they would wait for the collector, with both their bodies.
    written, head.entry = head.entry, None
    if isinstance(outcome, StoreFailed):
        actor.record = None
        code = 106 if outcome.applied is False else 401
        return _ended(actor, Answer(head, code, b"", f"state store: {outcome.reason}", None))
    if not outcome.won:
        actor.record = None
        return _lost_race(actor, head, record, outcome)
    answer, blob, version, wanted, alarms = written
    if over:
        return [*_ended(actor, answer), *_has_ended(actor, record, now)]
    if blob is not None:
        record = replace(record, state=blob, deltas=(), schema=head.writes)
    actor.record = replace(record, version=version)
    actor.version = version
    effects = _ended(actor, answer)
    if alarms is not None:
        effects += alarms_now(alarms, alarms_of(record.alarms))
        actor.record = replace(actor.record, alarms=alarms.packed())
    prefer(actor, wanted or head.prefer, now)
    return effects


def _has_ended(actor: Actor, record: Record, now: float) -> list[Effect]:
    """The call that just counted was the session's last one: the next begins it again."""
    actor.record, actor.version = None, 0
    actor.epoch = record.epoch + 1
    actor.rests.seen(actor.key, actor.epoch, now)
    noted = Noted("session.ended", {"epoch": actor.epoch, "cause": "function"})
    return [noted, Located(None, actor.epoch), *alarms_now(NONE, alarms_of(record.alarms))]


def _lost_race(actor: Actor, head: Call, record: Record, outcome: Any) -> list[Effect]:
    if outcome.duplicate is not None:
        epoch = outcome.current.epoch if outcome.current is not None else record.epoch
        return _ended(actor, remembered(head, outcome.duplicate, epoch))
    head.tries += 1
    if head.tries >= MAX_TRIES:
        retry = {"retry_after_ms": 20}
        return _ended(actor, Answer(head, 107, b"", "others commit to this session", retry))
    return start_over(actor)


def lost(actor: Actor, call: Call, code: int, message: str) -> list[Effect]:
    """RUNNING: the pool could not run the call, or its container died.

    The next one waits for a read, so that a pool that refuses at once is not asked again within this step.
    """
    actor.record = None
    if not call.answered:
        return _ended(actor, Answer(call, code, b"", message, None))
    effects: list[Effect] = []  # it expired in the pool's queue; a retry attached to it may have time left
    drop_expired(call, actor.queue, effects)
    actor.head = None
    actor.go(S.FREE)
    return effects
