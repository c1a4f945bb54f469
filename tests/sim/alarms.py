"""The alarms of the session in virtual time: the daemon's `alarms` as a model, around the real decisions of the core.

A call whose number is divisible by ALARMING sets an alarm, which calls with a number of its own: so the state tells
whether each alarm that was set has had its effect, and that none had it twice.
"""

from typing import TYPE_CHECKING, Any

from edged.core import effects as fx
from edged.core.alarms import Alarm, Alarms, Firing, alarms_of, call_id, pause
from edged.core.records import ListAlarms, Listed, Load, Loaded, Record
from edged.core.rendezvous import rank
from edged_protocol.errors import outcome_of

from .history import tokens

if TYPE_CHECKING:
    from .node import Node

ALARMING = 4
OF_ALARM = 0x100
"""Added to a call's number: that of its alarm."""

SCAN_SECONDS = 5.0
GRACE = 2.0
CALL_SECONDS = 10.0
PATIENT = 4
"""Failed tries after which the next one is further off than a world lasts."""


def asked(token: bytes, arrived: float) -> dict[str, Alarm | None]:
    """What a call with that number asks for."""
    number = int.from_bytes(token, "big")
    if number % ALARMING or number >= OF_ALARM:
        return {}
    body = (number + OF_ALARM).to_bytes(2, "big")
    return {str(number): Alarm(str(number), arrived + 0.3 * (number % 7), "incr", body, 0, 0)}


def missing(state: bytes, record: Record | None) -> list[bytes]:
    """Alarms that were set by calls in `state`, and neither had their effect nor are to be tried again much later."""
    seen = set(tokens(state))
    known = alarms_of(record.alarms if record is not None else None)
    excused = {alarm.body for alarm in known.dead} | {a.body for a in known.waiting.values() if a.fails >= PATIENT}
    due = {alarm.body for token in seen for alarm in asked(token, 0.0).values() if alarm is not None}
    return sorted(due - seen - excused)


class AlarmClock:
    """One node's."""

    def __init__(self, node: "Node") -> None:
        self._node = node
        self._planned = 0
        node.mesh.clock.after(node.mesh.chance.random() * SCAN_SECONDS, node.later(self._scan))

    def _scan(self) -> None:
        """Look in the store for what is overdue; it is spared the question when it has nothing."""
        node = self._node
        record = node.mesh.store.record
        if record is not None and record.alarms:
            question = ListAlarms(node.mesh.clock.now - GRACE)
            node.mesh.store.submit(question, node.later(self._overdue), node)
        node.mesh.clock.after(SCAN_SECONDS, node.later(self._scan))

    def _overdue(self, outcome: Any) -> None:
        node = self._node
        for key, record in outcome.rows if isinstance(outcome, Listed) else ():
            owner = node.mesh.nodes.get(record.owner or "")
            if owner is not None and owner is not node and owner.alive:
                continue
            alarms = alarms_of(record.alarms)
            late = node.mesh.clock.now - GRACE * (1 + rank(key, node.name, node.mesh.names))
            if node.alive and alarms.due is not None and alarms.due < late:
                self._look()

    def due(self, at: float | None) -> None:
        """When the first alarm is due, for all that this node knows."""
        self._planned += 1
        number = self._planned
        if at is not None:
            wait = max(0.0, at - self._node.mesh.clock.now)
            look = self._node.later(lambda: self._look() if number == self._planned else None)
            self._node.mesh.clock.after(wait, look)

    def _look(self) -> None:
        node = self._node
        if node.seat is not None and node.seat.local:
            self._fire(node.seat.alarms)
        else:
            node.mesh.store.submit(Load(node.mesh.key, ()), node.later(self._read), node)

    def _read(self, outcome: Any) -> None:
        record = outcome.record if isinstance(outcome, Loaded) else None
        if record is not None and self._node.alive:
            self._fire(alarms_of(record.alarms))

    def _fire(self, alarms: Alarms) -> None:
        now = self._node.mesh.clock.now
        for alarm in alarms.waiting.values():
            if alarm.due <= now:
                firing = _firing("fire", alarm, now + pause(alarm.fails))
                id_ = call_id(self._node.mesh.key, alarm)
                self._call(firing, alarm, id_, lambda answer, alarm=alarm: self._ended(alarm, answer))  # type: ignore[misc]
        later = [alarm.due for alarm in alarms.waiting.values() if alarm.due > now]
        if later:
            self.due(min(later))

    def _call(self, firing: Firing, alarm: Alarm, id_: bytes | None, told: Any) -> None:
        meta = {"alarm": list(firing)}
        self._node.take(told, alarm.method, id_, CALL_SECONDS, alarm.body, meta)

    def _ended(self, alarm: Alarm, answer: fx.Answer) -> None:
        meta = answer.meta or {}
        if answer.code in (0, 301, 302) or meta.get("not_set") or not self._node.alive:
            return
        at = self._node.mesh.clock.now + pause(alarm.fails)
        if outcome_of(answer.code) == "not_run_retry" or meta.get("ran") is False:
            self.due(at)
        else:
            failed = _firing("failed", alarm, at)._replace(code=answer.code, message=answer.message)
            self._call(failed, alarm, None, lambda _: self.due(at))


def _firing(act: Any, alarm: Alarm, at: float) -> Firing:
    return Firing(act, alarm.name, alarm.epoch, alarm.version, alarm.attempt, at)
