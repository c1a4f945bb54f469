"""Node leases: how long this node may serve what it owns, and whose sessions may be taken over (DESIGN §5.3).

Decides both by this node's own boottime clock, which is an argument. No two clocks are ever compared: an owner counts
from before it asked for the renewal, an observer from when it saw it, and between 0.8 and 1.25 of a lease lies more
than two clocks that are wrong by a fifth. Letting the store expire leases was the alternative: a step of its wall clock
would end a living one. Refuses to know sessions, and what other nodes say of each other.
"""

from hashlib import blake2b
from math import inf
from typing import NamedTuple

from .records import Leased, LeaseTable, Op, Outcome, ReadLeases, Renew

SERVE = 0.8
"""Of a lease, counted from before its renewal was sent: as long may the owner serve."""

TAKE = 1.25
"""Of a lease, without a renewal, before somebody else may take what it protects."""

RENEWALS = 3
"""A lease is renewed as many times as it lasts."""

READINGS = 6
"""Looks at the others' leases in one: how late a death may be noticed."""

TURNS = 12
"""Turns of the loop in one: a loop that misses four of them was away."""

RETRY_SECONDS = 0.1
"""Before a renewal that failed is tried again: a store that has just come back ends a wait."""

FORGOTTEN = "forgotten"
"""The boot of a node that an operator has declared lost: it is no node's own."""


class Lost(NamedTuple):
    """A node that has not renewed for long enough: `seq` is what its lease has to have still, to take from it."""

    seq: int
    forgotten: bool


class _Seen(NamedTuple):
    boot: str
    seq: int
    ttl: float
    since: float


def first_seq(boot: str) -> int:
    """Far from that of any other life, so that one's number is never taken for another's."""
    return int.from_bytes(blake2b(boot.encode(), digest_size=4).digest()) << 30


class Leases:
    """`turn` often and regularly; `renewed` and `observed` for the answers to what it asks."""

    def __init__(self, node: str, boot: str, ttl: float) -> None:
        self._node = node
        self.boot = boot
        self.ttl = ttl
        # Whether sessions may be served, in which term (a new one after each lapse), and when to look again.
        self.good = False
        self.claimed = False
        """Whether this life has had a lease: before, another node of this name may live, and what it owns is not this one's past."""
        self.term = 0
        self.check_at = inf
        self.lost: dict[str, Lost] = {}
        self._until = self._trusted_from = self._asked_at = self._read_at = -inf
        self._turned: float | None = None
        self._seq = first_seq(boot)
        self._asking = False
        self._retry = False
        self._seen: dict[str, _Seen] = {}

    def lapsed(self, now: float) -> bool:
        """Whether the lease has just ended: its time is over, or the loop was away too long to trust it.

        Where replies are handed out this is asked once `check_at` has come, which costs them one comparison.
        """
        if self._turned is not None and now - self._turned > self.ttl / RENEWALS:
            self._trusted_from, self._until = now, -inf
        self._turned = now
        if now < self._until:
            self.check_at = min(self._until, now + self.ttl / RENEWALS)
            return False
        ended, self.good, self.check_at = self.good, False, inf
        return ended

    def turn(self, now: float) -> list[Op]:
        """What to ask of the store now; `lapsed` was asked before."""
        ops: list[Op] = []
        wait = RETRY_SECONDS if self._retry else self.ttl / RENEWALS
        if now - self._asked_at >= wait or (self._asked_at < self._trusted_from and not self._asking):
            self._asked_at, self._asking, self._retry = now, True, False
            ops.append(Renew(self._node, self.boot, self._seq + 1, self.ttl))
        if now - self._read_at >= self.ttl / READINGS:
            self._read_at = now
            ops.append(ReadLeases())
        self._judge(now)
        return ops

    @property
    def pause(self) -> float:
        """Seconds to the next turn."""
        return self.ttl / TURNS if self.good and not self._retry else RETRY_SECONDS / 2

    def renewed(self, asked_at: float, outcome: Outcome, now: float) -> bool:
        """The answer to the renewal that was asked for at `asked_at`; whether it made the lease good again."""
        if asked_at == self._asked_at:
            self._asking = False
        if not isinstance(outcome, Leased):
            self._retry = True  # under the same number: if it was applied after all, the store says so
            return False
        # As the store has it, though it be lower: a former life's last renewal may have come late, and ours after it.
        self.claimed = self.claimed or outcome.won
        self._seq = outcome.seq if not outcome.won else max(self._seq, outcome.seq)
        if not outcome.won or asked_at < self._trusted_from:
            self._retry = True
            return False
        self._until = max(self._until, asked_at + SERVE * self.ttl)
        if now >= self._until:
            return False
        before, self.good = self.good, True
        self.term += not before
        self.check_at = min(self._until, now + self.ttl / RENEWALS)
        return not before

    def observed(self, outcome: Outcome, now: float) -> None:
        """The answer to a reading: a lease's time without renewal begins when it is first seen so."""
        if not isinstance(outcome, LeaseTable):
            return
        seen, self._seen = self._seen, {}
        for node, boot, seq, ttl in outcome.rows:
            old = seen.get(node)
            same = old is not None and (old.boot, old.seq, old.ttl) == (boot, seq, ttl)
            self._seen[node] = old if same and old is not None else _Seen(boot, seq, ttl, now)
        self._judge(now)

    def _judge(self, now: float) -> None:
        self.lost = {
            node: Lost(seq, boot == FORGOTTEN)
            for node, (boot, seq, ttl, since) in self._seen.items()
            if node != self._node and now - since >= TAKE * ttl
        }

    def next_life(self, node: str, boot: str) -> int | None:
        """The seq of a node's lease as last read, if that is not of its life `boot`, which has had one: a write under it
        applies only while that is still so."""
        row = self._seen.get(node)
        return row.seq if row is not None and row.boot not in (boot, FORGOTTEN) else None

    def seen(self, node: str) -> tuple[str, float] | None:
        """Boot and length of a node's lease, as last read."""
        row = self._seen.get(node)
        return (row.boot, row.ttl) if row is not None else None
