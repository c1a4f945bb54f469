"""The fence at the owner: whether a local session may be served now (DESIGN §5.3, reliability §2.2).

Decides what a lapsed lease means, what has to be known before the session is served again, and what a higher epoch that
somebody spoke of means: such talk is a hint, so the record is read, and nobody serves meanwhile. To go on at once with
the next renewal was the alternative: somebody may have taken over before it.
"""

from typing import Any

from ..effects import Ask, Effect, Timer
from ..records import Load, StoreFailed
from ..transition import S
from .actor import Actor
from .answers import fenced
from .aside import superseded
from .basis import Part
from .checkpoints import reconcile
from .endings import withdraw
from .local_calls import admit_waiting, open_gate

VERIFY_POLL = 0.5
"""Seconds between two tries to read the record."""


def may_serve(actor: Actor) -> bool:
    """By the lease: the record was seen to name this node in its present term; or the function does not wait for it."""
    leases = actor.leases
    return actor.term == leases.term if leases.good else actor.rules.on_partition != "fence"


def serve(actor: Actor, now: float) -> list[Effect]:
    """The container has the state, and the record named this node: what waits is served, or the record read again."""
    if may_serve(actor):
        actor.called = max(actor.called, now)
        actor.go(S.LOCAL)
        return [*open_gate(actor), *admit_waiting(actor, now)]
    return _fence(actor)


def lapsed(actor: Actor, now: float) -> list[Effect]:
    """OWNING: this node could not renew its lease, or was away."""
    if may_serve(actor):
        return []
    effects = _fence(actor)
    return effects + [fenced(call) for call in actor.waiting()]


def lapsed_again(actor: Actor, now: float) -> list[Effect]:
    """FENCED: an answer to what was asked before is worth nothing any more. Where the function does not wait for a lease,
    it is served as before the renewal: its record could not be read, and may not be for as long as this node is cut off."""
    if not may_serve(actor):
        actor.number()
        return [fenced(call) for call in actor.waiting()]
    if actor.hinted:
        return []
    actor.number()
    return serve(actor, now)


def renewed(actor: Actor, now: float) -> list[Effect]:
    """OWNING: served without a lease; somebody may own the session by now."""
    return [] if may_serve(actor) else _fence(actor)


def higher_epoch(actor: Actor, now: float) -> list[Effect]:
    """OWNING: somebody speaks of a higher epoch than ours."""
    effects = _fence(actor)
    actor.hinted = True
    return effects if actor.leases.good else effects + verify(actor, now)


def _fence(actor: Actor) -> list[Effect]:
    effects = actor.end_move(105, "the lease of this node has lapsed")
    effects += withdraw(actor)
    actor.part = Part()
    actor.target = ""
    actor.go(S.FENCED)
    actor.number()
    return effects + (verify(actor, 0.0) if actor.leases.good else [])


def verify(actor: Actor, now: float) -> list[Effect]:
    """FENCED: read the record; what it says holds for the term in which it was asked for."""
    actor.term = actor.leases.term
    return [Ask(Load(actor.key, actor.changes.ids()), actor.number())]


def verified(actor: Actor, outcome: Any, now: float) -> list[Effect]:
    """FENCED: still ours, somebody else's, or no answer yet."""
    if isinstance(outcome, StoreFailed):
        return [Timer(VERIFY_POLL, actor.number())]
    actor.hinted = False
    record = outcome.record
    if record is None or (record.epoch, record.owner_boot) != (actor.epoch, actor.boot):
        return superseded(actor)
    effects = reconcile(actor, record, outcome.results)
    if may_serve(actor):
        return effects + serve(actor, now)
    return effects  # the next renewal asks again
