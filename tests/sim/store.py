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
        self._fails = any(kind.startswith("store_") for kind in faults.drawn)
        self._away_until = 0.0
        self.leases: dict[str, Lease] = {}
        self.record: Record | None = None
        self.written: Callable[[Record | None, Record], None] = lambda old, new: None
        self.kept: Callable[[Record | None], dict[str, bytes]] = lambda record: {}

    @property
    def state(self) -> bytes:
        """What the store would give a new owner."""
        return whole(self.record)

    def heal(self) -> None:
        """Answer at once again."""
        self._away_until = 0.0

    def submit(self, op: Op, done: Callable[[Outcome], None], node: "Node") -> None:
        """Ask for `op`; `done` is always called, later."""
        delay = self._chance.random() * 0.02
        if self._clock.now < node.cut_until:
            self._clock.after(delay, done, REFUSED)
        elif not self._fails or not self._went_wrong(op, done, node.boot, delay):
            self._clock.after(delay, self._answer, op, done, node.boot, delay)

    def _went_wrong(self, op: Op, done: Callable[[Outcome], None], by: str, delay: float) -> bool:
        """Whether one of the faults of this world came between."""
        hit, chance, after = self._faults.hit, self._chance, self._clock.after
        if hit("store_away") and chance.random() < 0.1:
            self._away_until = self._clock.now + chance.random() * 3
        if self._clock.now < self._away_until or hit("store_refused"):
            after(delay, done, REFUSED)
        elif hit("store_lost"):
            after(delay, done, UNKNOWN)
        elif hit("store_applied"):
            after(delay, self._apply, op, by)
            after(delay, done, UNKNOWN)
        elif hit("store_late"):
            after(delay, done, UNKNOWN)
            after(delay + chance.choice((0.02, 0.5, 5.0)) * chance.random(), self._apply, op, by)
        elif hit("store_slow"):
            slow = delay + chance.random() * 4
            after(slow, self._answer, op, done, by, slow)
        else:
            return False
        return True

    def _answer(self, op: Op, done: Callable[[Outcome], None], by: str, delay: float) -> None:
        outcome = self._apply(op, by)
        self._clock.after(self._chance.random() * delay, done, outcome)

    def _apply(self, op: Op, by: str) -> Outcome:
        if isinstance(op, Load):
            return self._row.load(op)
        if isinstance(op, ReadLeases):
            return LeaseTable(tuple(self.leases.values()))
        if isinstance(op, Renew):
            return self._renew(op)
        if isinstance(op, ListAlarms):
            due = alarms_of(self.record.alarms).due if self.record is not None else None
            listed = self.record is not None and due is not None and due < op.before
            return Listed(((self._row.key, self.record),)) if listed and self.record else Listed(())
        assert isinstance(op, Write)
        lease = self.leases.get(op.lease[0]) if op.lease is not None else None
        outcome = self._row.write(op, lease.seq if lease is not None else None, 0.0)
        new, results = self._row.load(Load(op.key, None))
        old, self.record = self.record, new
        if new is not None and new != old:
            self._history.committed(old, new, by, self.kept(old))
            self._history.remembered(new, {entry.call_id for entry in results})
            self.written(old, new)
        return outcome

    def _renew(self, op: Renew) -> Outcome:
        have = self.leases.get(op.node)
        if have is not None and not renews(op, have):
            return Leased(False, have.seq)
        self.leases[op.node] = Lease(op.node, op.boot, op.seq, op.ttl)
        return Leased(True, op.seq)
