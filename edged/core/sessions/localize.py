"""Localize: remote-state to local-state on this node (DESIGN §5, reliability §2.5).

Decides when the claim is made, what its outcome means, and how it is undone when the container cannot load.
A claim whose outcome is unknown is looked up in the record; until then nobody serves here. Only the record knows of
the last move for certain: if it was made by a node of which nothing was heard, the session has just moved.
"""

from typing import Any

from edged_protocol.errors import Code

from ..alarms import alarms_of
from ..effects import Ask, Control, Due, Effect, Located, Noted, Release, Said, Start, Timer
from ..move_ids import signed
from ..parts import for_container
from ..records import Load, Record, StoreFailed
from ..transition import S
from ..window import Window
from .actor import STEP_DEADLINE, Actor
from .basis import Part
from .endings import give_up, refuse_all
from .fencing import serve as serve_by_lease
from .takeover import fetched_elsewhere
from .wishes import restless
from .writes import NO_RECORD, claim, release

MAX_CLAIMS = 50
"""Claims that others' commits overtook before the move is answered 107. A claim is sent when a commit has just been
heard of; the next one takes a read and a run as well."""


def begin(actor: Actor, now: float) -> list[Effect]:
    """A container first: before it is there nothing is claimed."""
    assert actor.wish is not None
    assert actor.wish.move == "localize"
    actor.asker, actor.dwells = actor.wish.asker, actor.wish.dwells
    actor.move = signed(actor.wish.move_id, actor.node)
    actor.wish = actor.record = None
    actor.began, actor.claims, actor.moved = now, 0, 0
    actor.go(S.STARTING)
    token = actor.number()
    return [Start(token), Timer(STEP_DEADLINE, token)]


def started(actor: Actor, container: Any) -> list[Effect]:
    """STARTING: the container is there."""
    actor.container = container
    return [_fetch(actor)]


def _fetch(actor: Actor) -> Effect:
    actor.term = actor.leases.term
    actor.go(S.FETCHING)
    return Ask(Load(actor.key, ()), actor.number())


def fetched(actor: Actor, outcome: Any, now: float) -> list[Effect]:
    """FETCHING: the record, before the first claim or after one that was not plainly won."""
    if isinstance(outcome, StoreFailed):
        return refuse_all(actor, 106, f"state store: {outcome.reason}")
    record = outcome.record or NO_RECORD
    actor.record = record
    if record.move == actor.move and record.owner_boot == actor.boot:
        return _won(actor, record, record.epoch, now)
    if record.mode == "local":
        return fetched_elsewhere(actor, record)
    if actor.container is None:
        return give_up(actor, 402, "its container died")
    actor.rests.seen(actor.key, record.epoch, now)
    unfit = actor.takes.refusal(record.form)
    if unfit:
        return refuse_all(actor, Code.WRONG_SCHEMA, unfit)
    reason = restless(actor, now) if actor.dwells else None
    return give_up(actor, *reason) if reason is not None else _claim(actor, record)


def _claim(actor: Actor, record: Record) -> list[Effect]:
    """From remote-state; others may commit to it meanwhile."""
    if actor.claims >= MAX_CLAIMS:
        return give_up(actor, 107, "others commit to this session")
    actor.claims += 1
    actor.term = actor.leases.term
    actor.go(S.CLAIMING)
    return [Ask(claim(actor, record), actor.number())]


def claimed(actor: Actor, outcome: Any, now: float) -> list[Effect]:
    """CLAIMING: won; or overtaken or unknown, and the record tells."""
    record = actor.record
    assert record is not None
    if isinstance(outcome, StoreFailed):
        if outcome.applied is False:
            return refuse_all(actor, 106, f"state store: {outcome.reason}")
        return [_fetch(actor)]
    if not outcome.won:
        return _again(actor, record, outcome.current)
    if record.state is None and record.version:
        return [_fetch(actor)]  # claimed on the word of a lost claim, which tells no state
    return _won(actor, record, record.epoch + 1, now)


def _again(actor: Actor, record: Record, current: Record | None) -> list[Effect]:
    """Overtaken by a commit: the next claim follows at once, before the next commit can; to read the state first would
    lose to a session that is called without a break."""
    if current is None or current.epoch != record.epoch or actor.container is None:
        return [_fetch(actor)]
    actor.record = current
    return _claim(actor, current)


def _won(actor: Actor, record: Record, epoch: int, now: float) -> list[Effect]:
    """This node owns the session: the container gets the state, and the window what the store remembers.

    Only now is that complete: an outcome that changes nothing (301) is committed without a new version, so the
    claim wins over one that came after the record was read.
    """
    actor.epoch = epoch
    actor.version = actor.stored = record.version
    actor.rests.seen(actor.key, epoch, now)
    if actor.container is None:
        return undo(actor, 402, "its container died")
    unfit = actor.takes.refusal(record.form)
    if unfit:
        return undo(actor, Code.WRONG_SCHEMA, unfit)
    actor.go(S.RESTORING)
    actor.missing = 2
    token = actor.number()
    return [_load(actor, record, token), Ask(Load(actor.key, None), token), Timer(STEP_DEADLINE, token)]


def _load(actor: Actor, record: Record, token: int) -> Control:
    actor.record = record
    params: dict[str, Any] = {"download": True}
    older = record.form not in (0, actor.takes.schema)
    if older:
        params["schema"] = record.form
    blob, params["parts"] = for_container(record.state, record.deltas, actor.deltas and not older)
    return Control(actor.container, "worker.load", blob, token, params)


def restored(actor: Actor, said: Said, now: float) -> list[Effect]:
    """RESTORING: the container has the state, or cannot take it."""
    if said.code:
        return undo(actor, said.code, said.message)
    assert actor.record is not None
    actor.basis.loaded(actor.record, said.result.get("serial"))
    return _one_more(actor, now)


def remembers(actor: Actor, outcome: Any, now: float) -> list[Effect]:
    """RESTORING: what the store remembers of calls."""
    if isinstance(outcome, StoreFailed):
        return undo(actor, 106, f"state store: {outcome.reason}")
    record = outcome.record
    if record is None or record.epoch != actor.epoch:
        return undo(actor, 107, "the session was taken over by another node")
    actor.window = Window(actor.rules.dedup, outcome.results, record.floor)
    actor.alarms = alarms_of(record.alarms)
    return _one_more(actor, now)


def _one_more(actor: Actor, now: float) -> list[Effect]:
    actor.missing -= 1
    return [] if actor.missing else serve(actor, now)


def undo(actor: Actor, code: int, reason: str) -> list[Effect]:
    """The claim is won but cannot be used: back to remote-state, with the state that the store has."""
    actor.kept_out = reason
    effects = actor.end_move(code, reason)
    if actor.container is not None:
        effects.append(Release(actor.container))
    actor.container = None
    actor.part, actor.complete = Part(), True
    actor.target = ""
    actor.go(S.RELEASING)
    return [*effects, Ask(release(actor), actor.number())]


def serve(actor: Actor, now: float) -> list[Effect]:
    """The record names this node and its container has the state."""
    effects: list[Effect] = [*actor.end_move(0, ""), Located(actor.node, actor.epoch)]
    if actor.state is S.RESTORING:  # of a migration the source tells
        effects.append(Noted("session.localized", {"epoch": actor.epoch}))
    actor.record, actor.kept_out = None, ""
    if actor.alarms.due is not None:
        effects.append(Due(actor.alarms.due))
    return effects + serve_by_lease(actor, now)


def restoring_lost(actor: Actor, now: float) -> list[Effect]:
    """RESTORING: the container died over the state."""
    return undo(actor, 402, "its container died while loading the state")


def out_of_time(actor: Actor, now: float) -> list[Effect]:
    """RESTORING: the container does not answer."""
    return undo(actor, 401, "the container did not load the state in time")
