"""The state store of the mesh: the embedded one's compare-and-set, with answers that fail, lie late or tarry."""

from collections.abc import Callable
from random import Random

from edged.core.alarms import alarms_of
from edged.core.records import (
    ListAlarms,
    Listed,
    Load,
    Op,
    Outcome,
    Record,
    SessionKey,
    StoreFailed,
    Write,
)
from edged.core.row import Row
from edged.lab.clock import Clock

from .faults import Faults
from .history import History, whole

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
        self.record: Record | None = None
        self.written: Callable[[Record | None, Record], None] = lambda old, new: None

    @property
    def state(self) -> bytes:
        """What the store would give a new owner."""
        return whole(self.record)

    def submit(self, op: Op, done: Callable[[Outcome], None]) -> None:
        """Ask for `op`; `done` is always called, later."""
        delay = self._chance.random() * 0.02
        if self._faults.hit("store_slow"):
            delay += self._chance.random() * 4
        if self._faults.hit("store_away") and self._chance.random() < 0.1:
            self._away_until = self._clock.now + self._chance.random() * 3
        away = self._clock.now < self._away_until
        if away or self._faults.hit("store_refused"):
            self._clock.after(delay, lambda: done(REFUSED))
        elif self._faults.hit("store_lost"):
            self._clock.after(delay, lambda: done(UNKNOWN))
        elif self._faults.hit("store_applied"):
            self._clock.after(delay, lambda: self._apply(op))
            self._clock.after(delay, lambda: done(UNKNOWN))
        elif self._faults.hit("store_late"):
            self._clock.after(delay, lambda: done(UNKNOWN))
            late = delay + self._chance.choice((0.02, 0.5, 5.0)) * self._chance.random()
            self._clock.after(late, lambda: self._apply(op))
        else:
            self._then(op, delay, done)

    def _then(self, op: Op, delay: float, done: Callable[[Outcome], None]) -> None:
        def applied() -> None:
            outcome = self._apply(op)
            self._clock.after(self._chance.random() * delay, lambda: done(outcome))

        self._clock.after(delay, applied)

    def _apply(self, op: Op) -> Outcome:
        if isinstance(op, Load):
            return self._row.load(op)
        if isinstance(op, ListAlarms):
            due = alarms_of(self.record.alarms).due if self.record is not None else None
            listed = self.record is not None and due is not None and due < op.before
            return Listed(((self._row.key, self.record),)) if listed and self.record else Listed(())
        assert isinstance(op, Write)
        outcome = self._row.write(op, None, 0.0)
        new = self._row.load(Load(op.key, ())).record
        old, self.record = self.record, new
        if new is not None and new != old:
            self._history.committed(old, new)
            self.written(old, new)
        return outcome
