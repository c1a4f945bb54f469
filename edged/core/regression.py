"""Whether the state store has gone back (reliability Δ2): it lost writes that it had acknowledged.

Decides which sessions are frozen: those whose record is lower than this node has seen it, until an operator
accepts what the store has now. Refuses to know how a store comes to that: restored from a copy, failed over to a
replica that lagged, emptied. Each node remembers what it was told itself, and tells the others what it finds: calls may
enter through one that had to do with less of the session. A counter in the store was the
alternative, and cannot say which sessions lost something. What it does not see: a session that no node which
still runs had to do with within SEEN_SECONDS, and one that was written anew up to where it had been before anybody looked.
"""

from collections import OrderedDict
from typing import NamedTuple

from .records import (
    MAX_PAGE,
    SEEN_SECONDS,
    Forget,
    Listed,
    ListSessions,
    Load,
    Loaded,
    Op,
    Outcome,
    Record,
    SessionKey,
    Write,
    Written,
)

MAX_SEEN = 16_384
"""Sessions remembered, those last used: some 4 MiB. As many again may be frozen."""

Point = tuple[int, int]
"""Epoch and version: an absent record has (0, 0)."""


class _Sight(NamedTuple):
    """How a session was met last; of one that has ended, `at` is when that was seen first."""

    point: Point
    ended: bool
    at: float


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
        self._seen: OrderedDict[SessionKey, _Sight] = OrderedDict()
        self.frozen: dict[SessionKey, Regression] = {}
        """Sessions that neither read nor write, the oldest finding first."""

    def look(self, op: Op, outcome: Outcome, now: float) -> Regression | None:
        """What is wrong with the record that `outcome` tells of, if anything is. `now`: of a clock that goes on in suspend."""
        if not isinstance(op, Load | Write | Forget) or not isinstance(outcome, Loaded | Written):
            return None
        if isinstance(op, Forget) and isinstance(outcome, Written) and outcome.won:
            self._seen.pop(op.key, None)
            return None
        record = outcome.record if isinstance(outcome, Loaded) else outcome.current
        return self._compare(op.key, record, now)

    def audit(self, op: ListSessions, listed: Listed, now: float) -> list[Regression]:
        """What a page of all sessions shows to have gone back: those that it should have and has not, too."""
        self._forget_old(now)
        rows = dict(listed.rows)
        more = len(listed.rows) >= min(op.limit, MAX_PAGE)
        checked = [key for key in self._seen if op.after is None or key > op.after]
        if more:
            checked = [key for key in checked if key <= listed.rows[-1][0]]
        found = [self._compare(key, rows.get(key), now) for key in checked]
        return [regression for regression in found if regression is not None]

    def _compare(self, key: SessionKey, record: Record | None, now: float) -> Regression | None:
        self._forget_old(now)
        seen, found = self._seen.get(key), (record.epoch, record.version) if record is not None else (0, 0)
        if seen is None or found >= seen.point:
            if record is not None:
                self._remember(key, record, seen, now)
            return None
        if record is None and seen.ended:  # what was left of it has had its time
            del self._seen[key]
            return None
        regression = Regression(key, seen.point, found)
        self.told(regression)
        return regression

    def told(self, regression: Regression) -> bool:
        """Freeze what this node, or another one, has found; whether that is news."""
        key = regression.key
        if key in self.frozen or len(self.frozen) >= self._limit:
            return False
        self.frozen[key] = regression
        self._seen.pop(key, None)
        return True

    def _forget_old(self, now: float) -> None:
        while self._seen and now - next(iter(self._seen.values())).at > SEEN_SECONDS:
            self._seen.popitem(last=False)

    def _remember(self, key: SessionKey, record: Record, seen: _Sight | None, now: float) -> None:
        point = record.epoch, record.version
        if seen is not None and record.ended and (seen.ended, seen.point) == (True, point):
            return
        self._seen[key] = _Sight(point, record.ended, now)
        self._seen.move_to_end(key)
        if len(self._seen) > self._limit:
            self._seen.popitem(last=False)

    def accept(self, key: SessionKey) -> Regression | None:
        """An operator takes what the store has: the session goes on from there. What was frozen, if it was."""
        return self.frozen.pop(key, None)
