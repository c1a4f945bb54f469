"""The states a session can have on one node, and which may follow which (DESIGN §5, reliability §2.5).

The table is the documentation: `sessions.Seat` refuses any step that is not in it, and the simulator takes
every one of them. Two paths lead away from LOCAL (externalize, migrate) and two to it (localize, being the
target of a migration). A session whose owner is lost is taken over through RECLAIMING, from what the store has of it.
"""

from enum import StrEnum


class S(StrEnum):
    """Where one session stands on this node."""

    FREE = "free"
    READING = "reading"
    RUNNING = "running"
    COMMITTING = "committing"
    YIELDING = "yielding"
    ASKING = "asking"
    RECLAIMING = "reclaiming"
    STARTING = "starting"
    FETCHING = "fetching"
    CLAIMING = "claiming"
    RESTORING = "restoring"
    LOCAL = "local"
    INVITING = "inviting"
    COPYING = "copying"
    DRAINING = "draining"
    FLUSHING = "flushing"
    OFFERING = "offering"
    RELEASING = "releasing"
    DOUBT = "doubt"
    KEEPING = "keeping"
    REGAINING = "regaining"
    FENCED = "fenced"
    ASIDE = "aside"
    INVITED = "invited"
    SEALING = "sealing"
    SEALED = "sealed"


NEXT: dict[S, frozenset[S]] = {
    # The store owns the session; this node holds nothing of it.
    S.FREE: frozenset({S.READING, S.RUNNING, S.STARTING, S.INVITED}),
    # Remote-state: one call at a time between the record that was read and the one that is written.
    S.READING: frozenset({S.RUNNING, S.COMMITTING, S.YIELDING, S.ASKING, S.RECLAIMING, S.FREE}),
    S.RUNNING: frozenset({S.COMMITTING, S.FREE}),
    S.COMMITTING: frozenset({S.FREE}),
    # The record names a lost node; one that comes before this one may take the session first. Or it is to be local-state
    # here, and this node has no lease yet.
    S.YIELDING: frozenset({S.FREE}),
    # The record names one that has lost the session, to which another node had moved it: that one may still have a copy.
    S.ASKING: frozenset({S.RECLAIMING, S.FREE}),
    # The record names a lost node, or this one, where no container holds the session: it becomes remote-state.
    S.RECLAIMING: frozenset({S.FREE}),
    # Localize: until the claim is known to be won nobody serves here; calls queue.
    S.STARTING: frozenset({S.FETCHING, S.FREE}),
    S.FETCHING: frozenset({S.CLAIMING, S.RESTORING, S.RELEASING, S.ASKING, S.RECLAIMING, S.FREE}),
    S.CLAIMING: frozenset({S.RESTORING, S.FETCHING, S.RELEASING, S.FREE}),
    S.RESTORING: frozenset({S.LOCAL, S.FENCED, S.RELEASING}),
    # This node owns the session under `epoch`; only its own container runs calls.
    S.LOCAL: frozenset({S.INVITING, S.DRAINING, S.FENCED, S.FREE}),
    # A migration under way: calls run as before, between the pieces of the state that leave.
    S.INVITING: frozenset({S.COPYING, S.DRAINING, S.LOCAL, S.FENCED, S.FREE}),
    S.COPYING: frozenset({S.DRAINING, S.LOCAL, S.FENCED, S.FREE}),
    # Leaving: calls queue; before the write is sent anything wrong leads back to LOCAL. Of a session that ends nothing is
    # flushed: its state goes with it.
    S.DRAINING: frozenset({S.FLUSHING, S.RELEASING, S.FENCED, S.FREE}),
    S.FLUSHING: frozenset({S.OFFERING, S.RELEASING, S.LOCAL, S.FENCED, S.FREE}),
    S.OFFERING: frozenset({S.RELEASING, S.LOCAL, S.FENCED, S.FREE}),
    # The write is under way. Back to LOCAL only if it certainly was not applied and never will be.
    S.RELEASING: frozenset({S.FREE, S.LOCAL, S.FENCED, S.DOUBT, S.KEEPING}),
    # It may have been applied, or still be: nobody serves. It is sent again until the record answers.
    S.DOUBT: frozenset({S.RELEASING, S.FENCED, S.FREE, S.KEEPING}),
    # The record names the target, and has less than is here: kept, not served, until the target says that all is safe.
    S.KEEPING: frozenset({S.REGAINING, S.FREE}),
    # The target was lost before that. As with any claim nobody serves here until it is known to be won.
    S.REGAINING: frozenset({S.KEEPING, S.LOCAL, S.FENCED, S.FREE}),
    # The lease lapsed, or a higher epoch was heard of: memory is kept, no reply leaves, until the record was read.
    S.FENCED: frozenset({S.LOCAL, S.ASIDE, S.FREE}),
    # Another node owns the session, and what is here has acknowledged calls that the record has not: it is set aside.
    S.ASIDE: frozenset({S.FREE}),
    # Target of a migration: promises nothing before a record names this node.
    S.INVITED: frozenset({S.SEALING, S.FREE}),
    S.SEALING: frozenset({S.SEALED, S.FREE}),
    S.SEALED: frozenset({S.LOCAL, S.FENCED, S.FREE}),
}

SERVING_REMOTE = frozenset({S.FREE, S.READING, S.RUNNING, S.COMMITTING, S.YIELDING})
"""The session is remote-state as far as this node knows."""

SERVING_LOCAL = frozenset({S.LOCAL, S.INVITING, S.COPYING})
"""This node's container runs the session's calls as they come."""

OWNING = frozenset({*SERVING_LOCAL, S.DRAINING, S.FLUSHING, S.OFFERING})
"""This node's container holds the state and the record names this node."""

HELD_BACK = frozenset({S.FENCED, S.ASIDE})
"""Answers stay here."""

HOLDING = OWNING | HELD_BACK | {S.RELEASING, S.DOUBT}
"""What this node has of the session may be newer than what the store has."""
