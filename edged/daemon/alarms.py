"""Fires the alarms of sessions: as ordinary calls, from this node to wherever the session is (DESIGN §5).

Decides when to look and when to try again. The node that set an alarm has a timer for it; it may die, so all nodes look
now and then in the store for those that are overdue, each a little later than the one before it in an order of its own
for each session. That two fire the same one does no harm: the call has an id, and the record says whether the alarm
still stands (`core.alarms`). Wall clocks are read here only: a node whose clock is ahead fires the alarms of others early.
Refuses to know how a call finds its session.
"""

import itertools
import logging
import random
import time
from collections.abc import Callable

import trio

from edged.core.alarms import MAX_MESSAGE, Alarm, Alarms, Firing, alarms_of, call_id, pause
from edged.core.records import ListAlarms, Listed, Load, Loaded, Outcome, Record, SessionKey
from edged.core.rendezvous import rank
from edged_protocol import messages as m
from edged_protocol.codec import decode
from edged_protocol.errors import Code, outcome_of
from edged_protocol.limits import MAX_FRAME_TRUSTED

from .relay import Relay
from .stores import Store, ask
from .timers import Handle, Timers

log = logging.getLogger(__name__)

SCAN_SECONDS = 2.0
"""Between two looks for what is overdue; each is one operation of the store."""

SCANNED = 500
"""Sessions of one look, those due longest first."""

GRACE = 2.0
"""Seconds an alarm may be overdue before others than the node with its timer see to it."""

STEP = 2.0
"""Seconds between one node and the next in the order of a session."""

CALL_SECONDS = 60.0
"""For the call of an alarm, waiting included; nobody but this node waits for it."""

MAX_FIRING = 64
"""Calls of alarms under way from one node: they must not crowd out those that somebody waits for."""

FULL_SECONDS = 0.5
"""Until an alarm that found no room is looked at again."""

MAX_TIMERS = 65_536
"""Sessions with a timer here; those beyond are found when they are overdue."""

Told = Callable[[m.Result | m.Error], None]


class Inside:
    """The caller's end of calls that this node makes itself: what the relay asks of a connection."""

    role = "node"
    name = "alarms"
    closed = False

    def __init__(self) -> None:
        self.inflight = 0
        self.heavy = 0
        self.waiting: dict[int, Told] = {}
        self._answers: list[bytes] = []

    def send(self, data: bytes) -> None:
        """A frame for the caller."""
        self._answers.append(data)

    def flush(self) -> None:
        """Hand over what came."""
        answers, self._answers = self._answers, []
        for data in answers:
            assert len(data) <= MAX_FRAME_TRUSTED
            message = decode(data[4:])
            if isinstance(message, m.Result | m.Error) and message.id in self.waiting:
                self.waiting.pop(message.id)(message)


class AlarmClock:
    """`run` for ever; `due` is told when the first alarm of a session is."""

    def __init__(self, node: str, relay: Relay, store: Store, timers: Timers) -> None:
        self._node = node
        self._relay = relay
        self._store = store
        self._timers = timers
        self._inside = Inside()
        self._ids = itertools.count(1)
        self._planned: dict[SessionKey, Handle] = {}
        self._refused: dict[SessionKey, int] = {}

    async def run(self) -> None:
        """Look for what is overdue."""
        while True:
            await trio.sleep(SCAN_SECONDS * random.uniform(0.8, 1.2))  # noqa: S311 - so that nodes do not ask at once
            outcome = await ask(self._store, ListAlarms(_now() - GRACE, SCANNED))
            if isinstance(outcome, Listed):
                self._overdue(outcome)

    def _overdue(self, found: Listed) -> None:
        late = _now() - GRACE
        for key, record in found.rows:
            if self._elsewhere(record):
                continue  # its node knows better: the store may be behind what its memory has
            nodes = [node for node in self._relay.router.nodes_for(key.function) if not self._relay.router.doubted(node)]
            alarms = alarms_of(record.alarms)
            mine = late - STEP * rank(key, self._node, nodes) if self._node in nodes else float("-inf")
            if key in self._refused and key in self._planned:
                continue  # tried, and to be tried again
            if alarms.due is not None and alarms.due < mine:
                self.due(key, 0.0)
        self._relay.settle()

    def _elsewhere(self, record: Record) -> bool:
        """Whether the session is local-state on another node that is there."""
        owner = record.owner if record.mode == "local" else None
        return owner is not None and owner in self._relay.peers and not self._relay.router.doubted(owner)

    def due(self, key: SessionKey, at: float | None) -> None:
        """When the first alarm of a session is due; None: it has none."""
        old = self._planned.pop(key, None)
        if old is not None:
            old.cancel()
        if at is not None and len(self._planned) < MAX_TIMERS:
            when = trio.current_time() + max(0.0, at - _now())
            self._planned[key] = self._timers.call_at(when, lambda: self._look(key))

    def _look(self, key: SessionKey) -> None:
        """Something of this session is due, or was once: the owner knows from memory, the others ask the store."""
        self._planned.pop(key, None)
        seat = self._relay.seats.get(key)
        if self._relay.draining or len(self._inside.waiting) >= MAX_FIRING:
            self.due(key, _now() + FULL_SECONDS)
        elif seat is not None and seat.local:
            self._fire(key, seat.alarms)
        else:
            self._store.submit(Load(key, ()), lambda outcome: self._read(key, outcome))

    def _read(self, key: SessionKey, outcome: Outcome) -> None:
        record: Record | None = outcome.record if isinstance(outcome, Loaded) else None
        if record is not None:
            self._fire(key, alarms_of(record.alarms))

    def _fire(self, key: SessionKey, alarms: Alarms) -> None:
        now, later = _now(), []
        for alarm in alarms.waiting.values():
            if alarm.due > now:
                later.append(alarm.due)
            else:
                firing = _firing("fire", alarm, now + pause(alarm.fails))
                id_ = call_id(key, alarm)
                self._call(key, firing, alarm, id_, lambda message, alarm=alarm: self._ended(key, alarm, message))  # type: ignore[misc]
        if later:
            self.due(key, min(later))
        self._relay.settle()

    def _call(self, key: SessionKey, firing: Firing, alarm: Alarm, id_: bytes | None, told: Told) -> None:
        number = next(self._ids)
        self._inside.waiting[number] = told
        timeout = int(CALL_SECONDS * 1000)
        invoke = m.Invoke(number, *key, alarm.method, id_, timeout, alarm.body, {"alarm": list(firing)})
        self._relay.entrance.take(self._inside, [invoke], trio.current_time())  # type: ignore[arg-type]

    def _ended(self, key: SessionKey, alarm: Alarm, message: m.Result | m.Error) -> None:
        """A failed handler is the session's own affair, and so is an alarm that does not stand any more."""
        if not isinstance(message, m.Error) or _settled(message):
            self._refused.pop(key, None)
        elif _not_run(message):
            self._later(key)
        else:
            log.warning("alarm %s of %s/%s: %s %s", alarm.name, *key, message.code, message.message)
            at = _now() + pause(alarm.fails)
            failed = _firing("failed", alarm, at)._replace(code=message.code, message=message.message[:MAX_MESSAGE])
            self._call(key, failed, alarm, None, lambda _: self.due(key, at))

    def _later(self, key: SessionKey) -> None:
        """It was not run: there is no room, the session's node or the store is away, or the function was removed."""
        if key not in self._refused and len(self._refused) >= MAX_TIMERS:
            self._refused.clear()
        self._refused[key] = times = self._refused.get(key, 0) + 1
        self.due(key, _now() + pause(min(times, 3)) / 4)

    async def edit(self, key: SessionKey, act: str, alarm: Alarm) -> m.Result | m.Error:
        """`replay` or `drop` a dead letter; the answer of the node that did it."""
        came = trio.Event()
        answers: list[m.Result | m.Error] = []

        def told(message: m.Result | m.Error) -> None:
            answers.append(message)
            came.set()

        self._call(key, _firing(act, alarm, _now()), alarm, None, told)
        self._relay.settle()
        await came.wait()
        return answers[0]


def _settled(message: m.Error) -> bool:
    """Whether the session knows how that try ended."""
    return message.code in (Code.FUNCTION_ERROR, Code.ALREADY_DONE) or bool((message.meta or {}).get("not_set"))


def _not_run(message: m.Error) -> bool:
    """Whether the same try may be made again."""
    removed = message.code == Code.NO_SUCH_FUNCTION
    return removed or outcome_of(message.code) == "not_run_retry" or (message.meta or {}).get("ran") is False


def _firing(act: str, alarm: Alarm, at: float) -> Firing:
    return Firing(act, alarm.name, alarm.epoch, alarm.version, alarm.attempt, at)  # type: ignore[arg-type]


def _now() -> float:
    return time.time()  # noqa: TID251 - alarms are due by the wall clock: they outlive every other one
