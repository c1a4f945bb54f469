"""Checkpoints: when the state of a local session goes to the store, and what a failed one means (DESIGN §5.4).

Decides when the next one is due. One is under way at a time and each carries everything so far, so a lost
answer costs nothing: the next write learns from the record what the last one did. To take a refused write for
a takeover whenever the version is another one was the alternative: it would throw away a living session.
"""

from typing import Any

from ..calls import Call
from ..effects import Ask, Control, Effect, Noted, Said, Timer
from ..records import Load, Record, StoreFailed
from .actor import STEP_DEADLINE, Actor, Saving
from .aside import superseded
from .basis import Part
from .endings import drop
from .local_calls import open_gate
from .writes import checkpoint

DUE = -1
"""Token of the timer that makes a checkpoint due."""

STALE = 107
"""The container no longer knows what changed since then; the whole state is as good."""

WATCH = -2
"""Token of the timer that looks after a container which does not answer."""


def save_if_due(actor: Actor, now: float) -> list[Effect]:
    """Begin a checkpoint, or see to it that there will be one."""
    rules = actor.rules
    if actor.changes.all_saved or actor.saving is not None or rules.durability == "none":
        return []
    many = rules.durability == "sync" or actor.unsaved >= rules.checkpoint_calls
    if actor.save_due or (many and not actor.save_failed):
        return _begin(actor)
    return _later(actor)


def due(actor: Actor) -> None:
    """The timer of `_later` ran out."""
    actor.save_timer = actor.save_failed = False
    actor.save_due = True


def _later(actor: Actor) -> list[Effect]:
    if actor.save_timer:
        return []
    actor.save_timer = True
    return [Timer(actor.rules.checkpoint_seconds, DUE)]


def _begin(actor: Actor) -> list[Effect]:
    actor.save_due = False
    token = actor.fresh()
    behind = actor.own[-1] if actor.own else None
    actor.saving = Saving(token, "snapshot", behind)
    return [take(actor, token), *_watch(actor, token)]


def take(actor: Actor, token: int, **params: Any) -> Control:
    """Ask the container for what the store does not have: a delta where that is known and short, else the state."""
    since = actor.basis.since(actor.rules.deltas_from) if actor.deltas else None
    if since is None:
        return Control(actor.container, "worker.snapshot", None, token, params)
    limits = {"since": since, "limit": actor.basis.room, "digest": False}
    return Control(actor.container, "worker.delta", None, token, {**params, **limits})


def taken(actor: Actor, said: Said) -> Part | None:
    """What the answer to `take` brings to the store; None: ask again, it is no delta any more."""
    serial = said.result.get("serial")
    if "left" not in said.result:
        return Part(state=said.blob, serial=serial)
    if said.result["left"]:
        actor.basis.forget()
        return None
    return Part(delta=said.blob, serial=serial)


def _failed(actor: Actor, problem: str) -> list[Effect]:
    """The next try waits: a store that is away is not asked again with every call."""
    actor.saving = None
    actor.save_failed = True
    said, actor.save_problem = actor.save_problem, problem
    noted: list[Effect] = [] if said == problem else [Noted("session.unsaved", {"reason": problem})]
    return noted + _later(actor)


# The container's part


def snapshot_taken(actor: Actor, said: Said) -> list[Effect]:
    """The container answered; all calls before that were answered before."""
    if said.code:
        actor.basis.forget()
        if actor.over:  # the container has let go of it
            actor.saving = None
            return []
        if actor.rules.durability == "sync" and said.code != STALE:
            # What was answered is in the store; what waits for it will never be, and asking again changes nothing.
            return drop(actor, f"its state cannot be stored: {said.message}")
        return _failed(actor, said.message)
    part = taken(actor, said)
    if part is None:
        return _begin(actor)
    token = actor.fresh()
    actor.saving = Saving(token, "write", None, actor.version, actor.changes.mark, part)
    return [Ask(checkpoint(actor, part), token)]


def _watch(actor: Actor, token: int) -> list[Effect]:
    """One timer for all checkpoints of a while: with `sync` there are as many as calls."""
    if actor.watched:
        return []
    actor.watched = token
    return [Timer(STEP_DEADLINE, WATCH)]


def look_after(actor: Actor) -> list[Effect]:
    """A container that has not answered for long is asked again later; what it says then is late."""
    saving, watched = actor.saving, actor.watched
    actor.watched = 0
    if saving is None or saving.step != "snapshot":
        return []
    if saving.token != watched or _runs(actor, saving.behind):
        return _watch(actor, saving.token)
    return _failed(actor, "the container does not answer")


def _runs(actor: Actor, behind: Call | None) -> bool:
    """Whether the container still has a call to run before it comes to the checkpoint."""
    return behind is not None and behind in actor.own


# The store's part


def stored(actor: Actor, outcome: Any) -> list[Effect]:
    """The answer to the write of a checkpoint, or to the question what became of an earlier one."""
    saving = actor.saving
    assert saving is not None
    if isinstance(outcome, StoreFailed):
        if outcome.applied is None:
            actor.basis.forget()
        return _failed(actor, f"state store: {outcome.reason}")
    if saving.step == "check":
        return _checked(actor, outcome.record, outcome.results)
    if not outcome.won:
        return _refused(actor, outcome.current)
    actor.saving = None
    actor.save_problem = ""
    actor.stored = saving.version
    actor.basis.wrote(saving.part)
    actor.changes.save(saving.mark)
    return open_gate(actor)


def _refused(actor: Actor, current: Record | None) -> list[Effect]:
    """Of our epoch nobody writes but us: then it was an earlier checkpoint, applied after all."""
    if current is None or current.epoch != actor.epoch:
        return superseded(actor)
    token = actor.fresh()
    actor.saving = Saving(token, "check", None)
    return [Ask(Load(actor.key, actor.changes.ids()), token)]


def _checked(actor: Actor, record: Record | None, results: Any) -> list[Effect]:
    actor.saving = None
    if record is None or record.epoch != actor.epoch:
        return superseded(actor)
    actor.save_due = True
    return reconcile(actor, record, results)


def reconcile(actor: Actor, record: Record, results: Any) -> list[Effect]:
    """The record is ours and has what our last write but one, or the one before, put there."""
    actor.stored = record.version
    actor.basis.forget()
    actor.changes.found(record.version, results)
    return open_gate(actor)
