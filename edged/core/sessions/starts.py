"""Sessions that have to be local-state before their call runs: new ones of functions that say `[modes] start = "local"`, and
all of functions that allow nothing else (DESIGN §8).

Decides whether that is so, and what becomes of the calls when no container can be had: remote-state will do where it is
allowed. To run the first call remote-state and localize then was the alternative; a function that allows only local-state
would have run where it must not.
"""

from ..effects import Effect, Timer
from ..records import Record
from ..transition import S
from .actor import Actor, Wish
from .endings import refuse_all
from .takeover import start_over

LEASE_SECONDS = 0.5
"""For a lease to come where the store has just answered: of a node that has started, or was paused."""

NO_LEASE = "the node has no lease in the state store"


def local_first(actor: Actor, record: Record) -> list[Effect] | None:
    """READING: the way to local-state, or why there is none; None: the call runs on `record`."""
    if not _has_to(actor, record):
        return None
    reason, actor.kept_out = actor.kept_out, ""
    if actor.leases.good and reason in ("", NO_LEASE):
        actor.wish = actor.wish or Wish("localize", None, "", actor.next_move())
        return start_over(actor)
    if not reason:
        actor.kept_out = NO_LEASE
        actor.go(S.YIELDING)
        return [Timer(LEASE_SECONDS, actor.number())]
    return None if "remote" in actor.rules.allow else refuse_all(actor, 104, reason)


def _has_to(actor: Actor, record: Record) -> bool:
    rules = actor.rules
    if "local" not in rules.allow:
        return False
    new = record.epoch == 0 and record.version == 0
    return "remote" not in rules.allow or (new and rules.start == "local")
