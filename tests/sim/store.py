"""The state store of the mesh: the embedded one's compare-and-set, with answers that fail, lie late or tarry."""

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from edged.core.alarms import alarms_of
from edged.core.records import (
    Lease,
    Leased,
    LeaseTable,
    ListAlarms,
    Listed,
    Load,
    Op,
    Outcome,
    ReadLeases,
    Record,
    Renew,
    SessionKey,
    StoreFailed,
    Write,
)
from edged.core.row import Row, renews
from edged.lab.clock import Clock

from .faults import Faults
from .history import History, whole

if TYPE_CHECKING:
    from .node import Node

UNKNOWN = StoreFailed(None, "no answer")
REFUSED = StoreFailed(False, "refused")


class Store:
    """One session's row. `record` is the truth that the checks compare with."""

    def __init__(
        self, key: SessionKey, clock: Clock, chance: Random, faults: Faults, history: History
    ) -> None:
        self._row = Row(key)
        self._clock = clock
        self._chance = chance
        self._faults = faults
        self._history = history
        self._away_until = 0.0
        self.leases: dict[str, Lease] = {}
        self.record: Record | None = None
        self.written: Callable[[Record | None, Record], None] = lambda old, new: None

    @property
    def state(self) -> bytes:
        """What the store would give a new owner."""
        return whole(self.record)

    def heal(self) -> None:
        """Answer at once again."""
        self._away_until = 0.0

    def submit(self, op: Op, done: Callable[[Outcome], None], node: "Node") -> None:
        """Ask for `op`; `done` is always called, later."""
        by = node.boot
        delay = self._chance.random() * 0.02
        if self._faults.hit("store_slow"):
            delay += self._chance.random() * 4
        if self._faults.hit("store_away") and self._chance.random() < 0.1:
            self._away_until = self._clock.now + self._chance.random() * 3
        away = self._clock.now < max(self._away_until, node.cut_until)
        if away or self._faults.hit("store_refused"):
            self._clock.after(delay, lambda: done(REFUSED))
        elif self._faults.hit("store_lost"):
            self._clock.after(delay, lambda: done(UNKNOWN))
        elif self._faults.hit("store_applied"):
            self._clock.after(delay, lambda: self._apply(op, by))
            self._clock.after(delay, lambda: done(UNKNOWN))
        elif self._faults.hit("store_late"):
            self._clock.after(delay, lambda: done(UNKNOWN))
            late = delay + self._chance.choice((0.02, 0.5, 5.0)) * self._chance.random()
            self._clock.after(late, lambda: self._apply(op, by))
        else:
            self._then(op, by, delay, done)

    def _then(self, op: Op, by: str, delay: float, done: Callable[[Outcome], None]) -> None:
        def applied() -> None:
            outcome = self._apply(op, by)
            self._clock.after(self._chance.random() * delay, lambda: done(outcome))

        self._clock.after(delay, applied)

    def _apply(self, op: Op, by: str) -> Outcome:
        if isinstance(op, Load):
            return self._row.load(op)
        if isinstance(op, ListAlarms):
            due = alarms_of(self.record.alarms).due if self.record is not None else None
            listed = self.record is not None and due is not None and due < op.before
            return Listed(((self._row.key, self.record),)) if listed and self.record else Listed(())
        if isinstance(op, ReadLeases):
            return LeaseTable(tuple(self.leases.values()))
        if isinstance(op, Renew):
            return self._renew(op)
        assert isinstance(op, Write)
        lease = self.leases.get(op.lease[0]) if op.lease is not None else None
        outcome = self._row.write(op, lease.seq if lease is not None else None, 0.0)
        new = self._row.load(Load(op.key, ())).record
        old, self.record = self.record, new
        if new is not None and new != old:
            self._history.committed(old, new, by)
            self.written(old, new)
        return outcome

    def _renew(self, op: Renew) -> Outcome:
        have = self.leases.get(op.node)
        if have is not None and not renews(op, have):
            return Leased(False, have.seq)
        self.leases[op.node] = Lease(*op)
        return Leased(True, op.seq)
