"""The copy that the source of a migration keeps, until its target says that all of it is safe (reliability §2.5, step 7 to 9).

Decides how long it is kept, and when it is claimed back: if the target was lost with the session and the record still has
what it had before, this copy is the newest there is. The claim is a takeover like any other, on the record and the lease of
the lost node; only that it begins with more than the store has. To write the whole state with the release was the
alternative: the pause would grow with the state.
"""

from typing import Any

from ..calls import Call
from ..effects import Ask, Done, Effect, Forward, Noted, Tell, Timer
from ..move_ids import signed
from ..records import Load, Record, StoreFailed
from ..transition import S
from .actor import Actor
from .checkpoints import reconcile
from .endings import let_go
from .localize import serve
from .remote_calls import enqueue
from .takeover import lost_node
from .writes import claim

KEPT_FOR = 30.0
"""Seconds for a target that lives and says nothing; longer where a lease is, whose end has to be seen first."""

LEASES = 2
"""Of a lease, for the same."""

LOOK = 0.5
"""Seconds between two looks at what became of the target."""


def keep(actor: Actor, now: float) -> list[Effect]:
    """The record names the target, and has less than is here."""
    actor.copy, actor.after.regains, actor.began = None, False, now
    actor.go(S.KEEPING)
    return [Timer(LOOK, actor.number())]


def _target(actor: Actor) -> str:
    return actor.target.partition("/")[0]


def _lost_seq(actor: Actor) -> int | None:
    """Of the target's lease, if it has run out, or is one of a later life."""
    node, _, boot = actor.target.partition("/")
    lost = lost_node(actor, node)
    return lost.seq if lost is not None else actor.leases.next_life(node, boot)


def watch(actor: Actor, now: float) -> list[Effect]:
    """KEEPING: whether the target was lost, or has been silent for long enough."""
    seq = _lost_seq(actor)
    if seq is not None or actor.after.regains:
        return _regain(actor, seq if seq is not None else actor.after.lost_seq)
    held = _target(actor) in actor.leases.lost  # for an operator to decide
    if not held and now - actor.began >= max(KEPT_FOR, LEASES * actor.leases.ttl):
        return let_go(actor)
    return [Timer(LOOK, actor.number())]


def arrived(actor: Actor, call: Call) -> list[Effect]:
    """KEEPING: a call goes to the target, unless the session comes back."""
    seq = _lost_seq(actor)
    if seq is None and not actor.after.regains:
        return [Forward(call, _target(actor))]
    effects = enqueue(actor, call)
    return effects if actor.after.regains else effects + _regain(actor, seq)


def asked(actor: Actor, asker: Any, move: bytes, lost_seq: int | None) -> list[Effect]:
    """Another node would take the session over, the target's own next life perhaps: then there is no lease to respect."""
    known = move == actor.move and actor.container is not None
    if not known or actor.state not in (S.RELEASING, S.DOUBT, S.KEEPING, S.REGAINING):
        return [Done(asker, 103, "no copy is kept here", {})]
    told: list[Effect] = [Done(asker, 0, "", {})]
    return told + _regain(actor, lost_seq) if actor.state is S.KEEPING and not actor.after.regains else told


def thanked(actor: Actor, move: bytes) -> list[Effect]:
    """The target has all of it, as safe as its function wants; it may know of the write before this node does."""
    if move != actor.move:
        return []
    actor.after.thanked = True
    return let_go(actor) if actor.state is S.KEEPING else []


def thank(actor: Actor) -> list[Effect]:
    """Where it came by migration: the source may let go what it has once the store has that too, or here is all there is."""
    owed = actor.after.owed
    if owed is None or (actor.stored < owed.version and actor.rules.durability != "none"):
        return []
    actor.after.owed = None
    return [Tell(owed.source, "session.done", {**actor.key._asdict(), "move": owed.move}, None, 0)]


# Back


def _regain(actor: Actor, lost_seq: int | None) -> list[Effect]:
    """KEEPING: the record first, if this node may own anything now."""
    actor.after.regains, actor.after.lost_seq = True, lost_seq
    token = actor.number()
    return [Ask(Load(actor.key, actor.changes.ids()), token)] if actor.leases.good else [Timer(LOOK, token)]


def looked(actor: Actor, outcome: Any, now: float) -> list[Effect]:
    """KEEPING: claimed already; still the target's, with less than is here; or nothing that this copy could help."""
    if isinstance(outcome, StoreFailed):
        return [Timer(LOOK, actor.number())]
    record = outcome.record
    if record is not None and record.move == _claim_id(actor) and record.owner_boot == actor.boot:
        actor.go(S.REGAINING)
        return _won(actor, record.epoch, now)
    named = record is not None and (record.epoch, record.move) == (actor.epoch, actor.move)
    if record is None or not named or record.version >= actor.version:
        return let_go(actor)
    return [*reconcile(actor, record, outcome.results), *_claim(actor, record)]


def _claim_id(actor: Actor) -> bytes:
    """The same for each try, so that a repeated one is harmless."""
    return signed(actor.move, actor.node)


def _claim(actor: Actor, record: Record) -> list[Effect]:
    actor.go(S.REGAINING)
    actor.term = actor.leases.term
    write = claim(actor, record)._replace(move=_claim_id(actor))
    if actor.after.lost_seq is not None:
        write = write._replace(lease=(_target(actor), actor.after.lost_seq))
    return [Ask(write, actor.number())]


def regained(actor: Actor, outcome: Any, now: float) -> list[Effect]:
    """REGAINING: won; or nobody knows; or the target lives, or somebody else was first."""
    if isinstance(outcome, StoreFailed) or not outcome.won:
        actor.after.regains = isinstance(outcome, StoreFailed)
        actor.go(S.KEEPING)
        if actor.container is None:
            return let_go(actor)
        return [Timer(LOOK, actor.number())]
    return _won(actor, actor.epoch + 1, now)


def _won(actor: Actor, epoch: int, now: float) -> list[Effect]:
    """Served again, as if the session had never left; what the target may have answered meanwhile went with it."""
    source, actor.target, actor.after.regains = _target(actor), "", False
    if actor.container is None:
        return let_go(actor)  # the record names this node, where nothing holds it: whoever asks next takes it over
    actor.epoch, actor.recovered = epoch, actor.version
    actor.save_due = not actor.changes.all_saved
    actor.rests.seen(actor.key, epoch, now)
    about = {"owner": source, "epoch": epoch, "version": actor.version, "stored": actor.stored}
    return [Noted("session.regained", about), *serve(actor, now)]


def container_lost(actor: Actor, now: float) -> list[Effect]:
    """KEEPING: there is no copy any more."""
    return let_go(actor)
