"""Whether this node may be called what it is called: its name is claimed once, before anything is done under it (DESIGN §5.3).

Decides when the name is this life's, and when another node lives under it. The name is free when nobody has a lease under it, when
an operator has declared it lost, when its lease is of a life that has certainly ended (`past`), or when it has stood still for as long
as a taker waits. A lease that changes while it is watched is renewed by somebody who lives. The claim is a compare-and-set on what was
seen, so that of two that begin at once one loses, and then sees a lease that has changed. Whichever came first keeps the name.
To ask the mesh alone was the alternative: what it remembers of a node may be of a dead one. Refuses to know how it is known which
lives have ended, and the sessions.
"""

from enum import Enum

from .leases import FORGOTTEN, RETRY_SECONDS, TAKE, TURNS, first_seq
from .records import Lease, Leased, LeaseTable, Op, Outcome, ReadLeases, Renew, StoreFailed


class Verdict(Enum):
    """What is known so far."""

    OPEN = "open"
    MINE = "mine"
    TAKEN = "taken"


class Claim:
    """`turn`, then `answered` with the outcome, again and again until the verdict is no longer OPEN."""

    def __init__(self, node: str, boot: str, ttl: float, past: frozenset[str]) -> None:
        self._node = node
        self._boot = boot
        self._ttl = ttl
        self._past = past
        self._looked = False
        self._row: Lease | None = None
        self._since = 0.0
        self._over: int | None = None
        self._failed = False
        self.verdict = Verdict.OPEN

    def turn(self) -> Op:
        """What to ask of the store now."""
        if self._over is None:
            return ReadLeases()
        return Renew(self._node, self._boot, first_seq(self._boot), self._ttl, self._over)

    @property
    def pause(self) -> float:
        """Seconds to the next turn: a claim follows at once on what was read."""
        if self._over is not None and not self._failed:
            return 0.0
        return RETRY_SECONDS if self._failed or not self._watching else self._ttl / TURNS

    @property
    def _watching(self) -> bool:
        return self._looked and not _free(self._row, self._past)

    @property
    def inherits(self) -> list[str]:
        """The former life, if there is one, whose lease there is until the claim is made."""
        return [self._row.boot] if self._row is not None and self._row.boot in self._past else []

    def left(self, now: float) -> float:
        """Seconds for which the lease that is watched has to stand still yet; 0: none is."""
        if self._row is None or not self._watching:
            return 0.0
        return max(0.0, self._since + TAKE * self._row.ttl - now)

    def answered(self, outcome: Outcome, now: float) -> Verdict:
        """The outcome of what `turn` asked."""
        assert self.verdict is Verdict.OPEN
        self._failed = isinstance(outcome, StoreFailed)
        if isinstance(outcome, LeaseTable):
            self.verdict = self._seen(next((row for row in outcome.rows if row.node == self._node), None), now)
        elif isinstance(outcome, Leased):
            # Its own number says that an earlier try was applied whose answer was lost.
            won = outcome.won or outcome.seq == first_seq(self._boot)
            self._over = None
            self.verdict = Verdict.MINE if won else Verdict.OPEN
        return self.verdict

    def _seen(self, row: Lease | None, now: float) -> Verdict:
        if row is not None and row.boot == self._boot:
            return Verdict.MINE
        changed = not self._looked or row != self._row
        free = _free(row, self._past)
        if self._looked and changed and not free:
            return Verdict.TAKEN
        self._since = now if changed else self._since
        self._looked, self._row = True, row
        still = row is not None and now - self._since >= TAKE * row.ttl
        self._over = (0 if row is None else row.seq) if free or still else None
        return Verdict.OPEN


def _free(row: Lease | None, past: frozenset[str]) -> bool:
    """Whether nobody who lives can have it."""
    return row is None or row.boot == FORGOTTEN or row.boot in past
