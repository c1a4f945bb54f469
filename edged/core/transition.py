"""The states a session can have on one node, and which may follow which (DESIGN §5, reliability §2.5).

The table is the documentation: `sessions.Seat` refuses any step that is not in it. Two paths lead away
from LOCAL (externalize, migrate) and two to it (localize, being the target of a migration).
"""

from enum import StrEnum


class S(StrEnum):
    """Where one session stands on this node."""

    FREE = "free"
    READING = "reading"
    RUNNING = "running"
    COMMITTING = "committing"
    STARTING = "starting"
    FETCHING = "fetching"
    CLAIMING = "claiming"
    RESTORING = "restoring"
    LOCAL = "local"
    INVITING = "inviting"
    DRAINING = "draining"
    FLUSHING = "flushing"
    OFFERING = "offering"
    RELEASING = "releasing"
    DOUBT = "doubt"
    INVITED = "invited"
    SEALING = "sealing"
    SEALED = "sealed"
    GONE = "gone"


NEXT: dict[S, frozenset[S]] = {
    # The store owns the session; this node holds nothing of it.
    S.FREE: frozenset({S.READING, S.RUNNING, S.STARTING, S.INVITED, S.GONE}),
    # Remote-state: one call at a time between the record that was read and the one that is written.
    S.READING: frozenset({S.RUNNING, S.FREE, S.CLAIMING, S.GONE}),
    S.RUNNING: frozenset({S.COMMITTING, S.FREE}),
    S.COMMITTING: frozenset({S.FREE}),
    # Localize: until the claim is won the old mode serves elsewhere; calls queue here.
    S.STARTING: frozenset({S.FETCHING, S.FREE}),
    S.FETCHING: frozenset({S.CLAIMING, S.FREE}),
    S.CLAIMING: frozenset({S.RESTORING, S.FETCHING, S.FREE, S.DOUBT}),
    S.RESTORING: frozenset({S.LOCAL, S.RELEASING}),
    # This node owns the session under `epoch`; only its own container runs calls.
    S.LOCAL: frozenset({S.INVITING, S.DRAINING, S.CLAIMING, S.FREE}),
    S.INVITING: frozenset({S.DRAINING, S.LOCAL, S.CLAIMING, S.FREE}),
    # Leaving: calls queue; before the write is sent anything wrong leads back to LOCAL.
    S.DRAINING: frozenset({S.FLUSHING, S.LOCAL, S.CLAIMING, S.FREE}),
    S.FLUSHING: frozenset({S.OFFERING, S.RELEASING, S.LOCAL, S.CLAIMING, S.FREE}),
    S.OFFERING: frozenset({S.RELEASING, S.LOCAL, S.CLAIMING, S.FREE}),
    S.RELEASING: frozenset({S.FREE, S.LOCAL, S.DOUBT}),
    # A write of ours may or may not have been applied: nobody serves until the record has been read.
    S.DOUBT: frozenset({S.FREE, S.LOCAL, S.RESTORING}),
    # Target of a migration: promises nothing before a record names this node.
    S.INVITED: frozenset({S.SEALING, S.FREE}),
    S.SEALING: frozenset({S.SEALED, S.FREE}),
    S.SEALED: frozenset({S.LOCAL, S.FREE}),
    S.GONE: frozenset(),
}

SERVING_REMOTE = frozenset({S.FREE, S.READING, S.RUNNING, S.COMMITTING})
"""The session is remote-state as far as this node knows."""

OWNING = frozenset({S.LOCAL, S.INVITING, S.DRAINING, S.FLUSHING, S.OFFERING})
"""This node's container holds the state and the record names this node."""
