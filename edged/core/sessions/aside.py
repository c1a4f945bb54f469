"""The record is no longer ours: what becomes of what this memory holds (DESIGN §5.3, reliability §2.2).

Decides whether it is dropped or set aside: acknowledged calls that the record does not have are for a person to look at.
They are never merged: two histories of one session have no order.
"""

from ..effects import Aside, Control, Effect, Said, Timer
from ..transition import S
from .actor import Actor
from .endings import drop, withdraw

ASIDE_SECONDS = 2.0
"""For the copy of a state of many MiB; calls for the new owner that come here wait for it."""

TAKEN = "the session was taken over by another node"


def superseded(actor: Actor) -> list[Effect]:
    """What only this memory held has no effect anywhere; with `sync` none of it was acknowledged."""
    if actor.unsaved <= 0 or actor.rules.durability == "sync" or actor.container is None:
        return drop(actor, TAKEN)
    effects = [*actor.end_move(105, TAKEN), *withdraw(actor)]
    actor.saving = None
    actor.go(S.FENCED)
    actor.go(S.ASIDE)
    token = actor.number()
    snapshot = Control(actor.container, "worker.snapshot", None, token)
    return [*effects, snapshot, Timer(ASIDE_SECONDS, token)]


def snapshot_taken(actor: Actor, said: Said, now: float) -> list[Effect]:
    """ASIDE: the copy, behind all calls that the container had been given."""
    if said.code:
        return drop(actor, f"{TAKEN}; its copy could not be kept: {said.message}")
    copy = Aside(actor.epoch, actor.version, actor.stored, said.blob or b"", actor.window.entries(), actor.takes.schema)
    return [copy, *drop(actor, TAKEN)]


def container_lost(actor: Actor, now: float) -> list[Effect]:
    """ASIDE: there is no copy."""
    return drop(actor, f"{TAKEN}; its container died before its copy was kept")


def out_of_time(actor: Actor, now: float) -> list[Effect]:
    """ASIDE: the container does not answer."""
    return drop(actor, f"{TAKEN}; its copy could not be kept in time")
