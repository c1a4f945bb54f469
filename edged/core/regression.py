"""Whether the state store has gone back (reliability Δ2): it lost writes that it had acknowledged.

Decides which sessions are frozen: those whose record is lower than this node has seen it, until an operator
accepts what the store has now. Refuses to know how a store comes to that: restored from a copy, failed over to a
replica that lagged, emptied. Each node remembers what it was told itself; a counter in the store was the
alternative, and cannot say which sessions lost something. What it does not see: a session that no node which
still runs had to do with, and one that was written anew up to where it had been before anybody looked.
"""

from collections import OrderedDict
from typing import NamedTuple

from .records import (
    MAX_PAGE,
    Forget,
    Listed,
    ListSessions,
    Load,
    Loaded,
    Op,
    Outcome,
    SessionKey,
    Write,
    Written,
)

MAX_SEEN = 16_384
"""Sessions remembered, those last used: some 4 MiB. As many again may be frozen."""

Point = tuple[int, int]
"""Epoch and version: an absent record has (0, 0)."""


class Regression(NamedTuple):
    """A session that is frozen: what this node had seen of it, and what the store has."""

    key: SessionKey
    seen: Point
    found: Point

    @property
    def reason(self) -> str:
        """For whoever asks for the session."""
        seen, found = (f"epoch {epoch} version {version}" for epoch, version in (self.seen, self.found))
        return f"the store went back from {seen} to {found}: the session is frozen until `edgectl session accept`"


class Guard:
    """`look` at every answer of the store, in the order of the answers."""

    def __init__(self, limit: int = MAX_SEEN) -> None:
        self._limit = limit
        self._seen: OrderedDict[SessionKey, Point] = OrderedDict()
        self.frozen: dict[SessionKey, Regression] = {}
        """Sessions that neither read nor write, the oldest finding first."""

    def look(self, op: Op, outcome: Outcome) -> Regression | None:
        """What is wrong with the record that `outcome` tells of, if anything is."""
        if not isinstance(op, Load | Write | Forget) or not isinstance(outcome, Loaded | Written):
            return None
        if isinstance(op, Forget) and isinstance(outcome, Written) and outcome.won:
            self._seen.pop(op.key, None)
            return None
        record = outcome.record if isinstance(outcome, Loaded) else outcome.current
        return self._compare(op.key, (record.epoch, record.version) if record is not None else (0, 0))

    def audit(self, op: ListSessions, listed: Listed) -> list[Regression]:
        """What a page of all sessions shows to have gone back: those that it should have and has not, too."""
        rows = {key: (record.epoch, record.version) for key, record in listed.rows}
        more = len(listed.rows) >= min(op.limit, MAX_PAGE)
        checked = [key for key in self._seen if op.after is None or key > op.after]
        if more:
            checked = [key for key in checked if key <= listed.rows[-1][0]]
        found = [self._compare(key, rows.get(key, (0, 0))) for key in checked]
        return [regression for regression in found if regression is not None]

    def _compare(self, key: SessionKey, found: Point) -> Regression | None:
        seen = self._seen.get(key, (0, 0))
        if found >= seen:
            self._remember(key, found)
            return None
        regression = Regression(key, seen, found)
        if len(self.frozen) < self._limit:
            self.frozen[key] = regression
            del self._seen[key]
        return regression

    def _remember(self, key: SessionKey, found: Point) -> None:
        if found == (0, 0):
            return
        self._seen[key] = found
        self._seen.move_to_end(key)
        if len(self._seen) > self._limit:
            self._seen.popitem(last=False)

    def accept(self, key: SessionKey) -> Regression | None:
        """An operator takes what the store has: the session goes on from there. What was frozen, if it was."""
        return self.frozen.pop(key, None)
