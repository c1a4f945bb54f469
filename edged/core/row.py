"""One session as the writer has it in memory: whether a write applies, and what it changes.

Decides every compare-and-set of the embedded store (DESIGN §5), without a database: the writer is
the only one who touches the file, so what it read once stays true. Asking SQL for each decision was
the alternative; it costs five statements a write instead of an eighth of one.
"""

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from .records import (
    ENDED,
    MAX_DELTAS,
    Entry,
    Forget,
    Lease,
    Load,
    Loaded,
    Record,
    Renew,
    SessionKey,
    Write,
    Written,
)

OVERHEAD = 1024
"""Bytes a row is counted with beside its state and bodies: about what Python needs for it."""


AS_IT_WAS: Final = "as it was"
"""Of when a session is due: the file has it."""


class Slot(NamedTuple):
    """Where a remembered result lies: `number` names its place in the file, `seq` its age."""

    number: int
    seq: int
    entry: Entry


def expected(op: Write | Forget, record: Record | None) -> bool:
    """Whether the record has the epoch and version `op` expects; an absent one has (0, 0)."""
    have = (record.epoch, record.version) if record is not None else (0, 0)
    return have == (op.expect_epoch, op.expect_version)


def changed_alarms(op: Write, record: Record | None) -> bool:
    """Whether the record has other alarms than `op` expects."""
    have = (record.alarms or b"") if record is not None else b""
    return op.had_alarms is not None and op.had_alarms != have


def repeated(op: Write, record: Record | None) -> bool:
    """Whether this very change of ownership was applied before."""
    return (
        op.move is not None
        and record is not None
        and record.move == op.move
        and record.epoch == op.epoch
    )


def renews(op: Renew, lease: Lease | None) -> bool:
    """Whether `op` replaces `lease`: that of its own life by the next number, that of another life if it is the one meant."""
    if lease is not None and lease.boot == op.boot:
        return lease.seq == op.seq - 1
    return op.over is None or op.over == (0 if lease is None else lease.seq)


class Row:
    """A session: record (without state), state, window, and what of it is not yet in the file."""

    __slots__ = (
        "_bodies",
        "_free",
        "_seq",
        "_slots",
        "apart",
        "changed",
        "deltas",
        "dirty",
        "due",
        "id",
        "key",
        "record",
        "state",
        "whole",
        "written",
    )

    def __init__(
        self,
        key: SessionKey,
        id_: int = 0,
        record: Record | None = None,
        state: bytes | None = None,
        slots: Sequence[Slot] = (),
        deltas: Sequence[bytes] = (),
        apart: bool = False,
    ) -> None:
        self.key = key
        self.id = id_
        self.record = record
        self.state = state
        self.deltas = list(deltas)
        # What the file has: parts of this session, the state as it is here, and so many of its deltas.
        self.apart, self.whole, self.written = apart, True, len(self.deltas)
        self.dirty = False
        self.due: float | Literal["as it was"] | None = AS_IT_WAS
        self.changed: dict[int, Slot | None] = {}
        self._slots = {slot.entry.call_id: slot for slot in slots}
        self._bodies = sum(len(slot.entry.body or b"") for slot in slots)
        self._seq = slots[-1].seq + 1 if slots else 0
        numbers = {slot.number for slot in slots}
        self._free = [n for n in range(max(numbers, default=-1)) if n not in numbers]

    @property
    def size(self) -> int:
        """Bytes this row holds in memory, about."""
        states = len(self.state or b"") + sum(map(len, self.deltas))
        return OVERHEAD + states + self._bodies + 256 * len(self._slots)

    def load(self, op: Load) -> Loaded:
        """The record with its state, and the results asked for."""
        if op.ask is None:
            found = tuple(slot.entry for slot in self._slots.values())
        else:
            found = tuple(self._slots[i].entry for i in op.ask if i in self._slots)
        return Loaded(self._whole(), found)

    def _whole(self) -> Record | None:
        r = self.record
        if r is None or (self.state is None and not self.deltas):
            return r
        return Record(
            r.epoch,
            r.mode,
            r.owner,
            r.owner_boot,
            r.version,
            r.move,
            self.state,
            r.floor,
            r.schema,
            r.updated,
            r.alarms,
            tuple(self.deltas),
        )

    def write(self, op: Write, lease_seq: int | None, updated: float) -> Written:
        """Apply `op` if it may; `lease_seq` is the seq of the lease it names, None without one."""
        if repeated(op, self.record):
            return Written(True, self.record)
        duplicate = next((self._slots[e[0]].entry for e in op.results if e[0] in self._slots), None)
        fenced = op.lease is not None and op.lease[1] != lease_seq
        fenced = fenced or changed_alarms(op, self.record)
        if duplicate is not None or fenced or not expected(op, self.record):
            return Written(False, self.record, duplicate)
        if op.delta is not None and op.state is None and len(self.deltas) >= MAX_DELTAS:
            raise ValueError(f"{MAX_DELTAS} deltas lie on the state already")
        self._apply(op, updated)
        return Written(True, self.record)

    def forget(self, op: Forget) -> Written:
        """Drop everything, if the record is the expected one."""
        if not expected(op, self.record):
            return Written(False, self.record)
        if self.record is not None:
            self.record = self.state = None
            self.deltas.clear()
            self.whole, self.written = False, 0
            self.due = None
            self._trim(0, 0)
            self.dirty = True
        return Written(True)

    def _apply(self, op: Write, updated: float) -> None:
        old = self.record
        trimmed = self._remember(op)
        if op.state is not None:
            self.state, self.whole, self.written = op.state, False, 0
            self.deltas.clear()
        if op.delta is not None:
            self.deltas.append(op.delta)
        self.record = Record(
            op.epoch,
            op.mode,
            op.owner,
            op.owner_boot,
            op.version,
            op.move if op.move is not None or old is None else old.move,
            None,
            trimmed or (old is not None and old.floor),
            _schema(op, old),
            updated,
            op.alarms if op.alarms is not None or old is None else old.alarms,
        )
        if op.alarms is not None:
            self.due = op.due
        self.dirty = True

    def _remember(self, op: Write) -> bool:
        """Append the results and keep the limits; whether something had to go."""
        fresh = {entry.call_id: entry for entry in op.results}
        bodies = sum(len(entry.body or b"") for entry in fresh.values())
        # Room is made first, so that a full window writes each new result over the oldest one.
        trimmed = self._trim(max(0, op.keep - len(fresh)), max(0, op.keep_bytes - bodies))
        for entry in fresh.values():
            self._add(entry)
        return self._trim(op.keep, op.keep_bytes) or trimmed

    def _add(self, entry: Entry) -> None:
        number = self._free.pop() if self._free else len(self._slots)
        slot = Slot(number, self._seq, entry)
        self._seq += 1
        self._slots[entry.call_id] = self.changed[number] = slot
        self._bodies += len(entry.body or b"")

    def _trim(self, keep: int, keep_bytes: int) -> bool:
        """Drop the oldest results beyond the limits; whether there were any."""
        trimmed = False
        while len(self._slots) > keep or self._bodies > keep_bytes:
            slot = self._slots.pop(next(iter(self._slots)))
            self._bodies -= len(slot.entry.body or b"")
            self._free.append(slot.number)
            self.changed[slot.number] = None
            trimmed = True
        return trimmed


def _schema(op: Write, old: Record | None) -> int:
    """It belongs to the state: a write that brings none does not change it, unless one of the two is no session."""
    if op.state is None and old is not None and ENDED not in (op.schema, old.schema):
        return old.schema
    return op.schema
