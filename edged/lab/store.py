"""The state store in virtual time: the embedded one's compare-and-set, at a distance, with an account of its bytes."""

from collections.abc import Callable

from edged.core.records import (
    Lease,
    Leased,
    LeaseTable,
    Load,
    Loaded,
    Op,
    Outcome,
    ReadLeases,
    Record,
    Renew,
    SessionKey,
    Write,
)
from edged.core.row import Row, renews

from .clock import Clock

OVERHEAD = 160
"""Bytes of a question and its answer beside the state: key, numbers, framing."""


class Store:
    """`submit` answers after `delay` seconds and the time that the state takes on the way."""

    def __init__(self, clock: Clock, delay: float, speed: float) -> None:
        self._clock = clock
        self._delay = delay
        self._speed = speed
        self._rows: dict[SessionKey, Row] = {}
        self._leases: dict[str, Lease] = {}
        self.bytes = 0
        self.operations = 0

    def submit(self, op: Op, done: Callable[[Outcome], None]) -> None:
        """Ask for `op`; `done` is always called, later."""
        sent = len(op.state or op.delta or b"") if isinstance(op, Write) else 0
        self._clock.after(self._delay / 2 + self._seconds(sent), self._apply, op, sent, done)

    def _apply(self, op: Op, sent: int, done: Callable[[Outcome], None]) -> None:
        outcome = self._outcome(op)
        came = _size(outcome.record) if isinstance(outcome, Loaded) and outcome.record else 0
        self.count(sent + came)
        back = self._delay / 2 + self._seconds(came)
        if back:
            self._clock.after(back, done, outcome)
        else:
            done(outcome)

    def _outcome(self, op: Op) -> Outcome:
        if isinstance(op, ReadLeases):
            return LeaseTable(tuple(self._leases.values()))
        if isinstance(op, Renew):
            return self._renew(op)
        assert isinstance(op, Load | Write)
        row = self._rows.get(op.key)
        if row is None:
            row = self._rows[op.key] = Row(op.key)
        if isinstance(op, Load):
            return row.load(op)
        lease = self._leases.get(op.lease[0]) if op.lease is not None else None
        return row.write(op, lease.seq if lease is not None else None, 0.0)

    def _renew(self, op: Renew) -> Outcome:
        have = self._leases.get(op.node)
        if have is not None and not renews(op, have):
            return Leased(False, have.seq)
        self._leases[op.node] = Lease(op.node, op.boot, op.seq, op.ttl)
        return Leased(True, op.seq)

    def standing(self, key: SessionKey) -> tuple[int, str | None]:
        """A session's epoch, and the node on which it is local, without asking: for calls that are not the sessions' own."""
        row = self._rows.get(key)
        return (row.record.epoch, row.record.owner) if row is not None and row.record is not None else (0, None)

    def count(self, size: int) -> None:
        """One more question and its answer, which carried `size` bytes of state."""
        self.operations += 1
        self.bytes += OVERHEAD + size

    def _seconds(self, size: int) -> float:
        return size / self._speed if self._speed else 0.0


def _size(record: Record) -> int:
    return len(record.state or b"") + sum(map(len, record.deltas))
