"""When a node fires the alarms of sessions, and what it makes of the answers: real decisions, with a relay, store and clock
that only note what they are told."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from edged.core.alarms import NONE, Alarm, Alarms, call_id
from edged.core.records import Listed, Load, Loaded, Record, SessionKey
from edged.core.routing import Router
from edged.daemon import alarms
from edged.daemon.alarms import GRACE, MAX_FIRING, AlarmClock, Inside
from edged_protocol import messages as m
from edged_protocol.codec import encode

KEY = SessionKey("clock", "one")
NOW = 1.7e9


def one(due: float, name: str = "tea") -> Alarm:
    return Alarm(name, due, "pour", b"\x90", 2, 4)


class Plan:
    """An action that was planned."""

    def __init__(self, when: float, action: Callable[[], None]) -> None:
        self.when, self.action, self.cancelled = when, action, False

    def cancel(self) -> None:
        self.cancelled = True


class Rig:
    """An alarm clock of node `a`, and all that it asks of others."""

    def __init__(self) -> None:
        self.plans: list[Plan] = []
        self.calls: list[m.Invoke] = []
        self.asked: list[Any] = []
        self.inside: Inside
        self.router = Router("a")
        self.router.serves(["clock"], ["clock"])
        self.relay = SimpleNamespace(
            router=self.router, peers={}, seats={}, draining=False, settle=lambda: None, entrance=SimpleNamespace(take=self._take)
        )
        store = SimpleNamespace(submit=lambda op, done: self.asked.append((op, done)))
        timers = SimpleNamespace(call_at=self._plan)
        self.clock = AlarmClock("a", self.relay, store, timers)  # type: ignore[arg-type]

    def _take(self, link: Any, messages: list[m.Invoke], now: float) -> None:
        (message,) = messages
        self.inside = link
        self.calls.append(message)

    def _plan(self, when: float, action: Callable[[], None]) -> Plan:
        self.plans.append(Plan(when, action))
        return self.plans[-1]

    def look(self, *waiting: Alarm) -> None:
        """The newest plan comes due; the store has these alarms."""
        self.plans[-1].action()
        op, done = self.asked.pop()
        assert isinstance(op, Load)
        done(Loaded(record(*waiting)))

    def answer(self, message: m.Result | m.Error) -> None:
        self.inside.send(encode(message._replace(id=self.calls[-1].id)))
        self.inside.flush()


def record(*waiting: Alarm, **fields: Any) -> Record:
    blob = Alarms({alarm.name: alarm for alarm in waiting}).packed()
    values = {"mode": "remote", "owner": None, "owner_boot": None, **fields}
    return Record(2, version=4, move=None, state=b"", floor=False, schema=1, updated=0.0, alarms=blob, **values)  # type: ignore[arg-type]


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Rig:
    monkeypatch.setattr(alarms, "_now", lambda: NOW)
    monkeypatch.setattr(alarms.trio, "current_time", lambda: 100.0)
    return Rig()


def test_what_is_due_is_called_with_its_id_and_the_rest_later(rig: Rig) -> None:
    """One call for each alarm that is due; the next look is for the next one."""
    rig.clock.due(KEY, NOW + 5)
    assert rig.plans[0].when == 105.0
    tea, later = one(NOW - 1), one(NOW + 30, "later")
    rig.look(tea, later)
    [call] = rig.calls
    assert (call.function, call.session, call.method, call.body) == (*KEY, "pour", b"\x90")
    assert call.call_id == call_id(KEY, tea)
    assert call.meta == {"alarm": ["fire", "tea", 2, 4, 0, NOW + 1, 0, ""]}
    assert rig.plans[-1].when == 130.0


def test_of_a_session_that_is_here_memory_counts(rig: Rig) -> None:
    """The store may be behind, and is not asked."""
    tea = one(NOW)
    rig.relay.seats[KEY] = SimpleNamespace(local=True, alarms=Alarms({"tea": tea}))
    rig.clock.due(KEY, NOW)
    rig.plans[-1].action()
    assert [call.call_id for call in rig.calls] == [call_id(KEY, tea)]
    rig.relay.seats[KEY].alarms = NONE
    rig.clock.due(KEY, NOW)
    rig.plans[-1].action()
    assert len(rig.calls) == 1 and not rig.asked


@pytest.mark.parametrize(
    "answer", [m.Result(0, b""), m.Error(0, 301, "no"), m.Error(0, 302, ""), m.Error(0, 201, "", {"not_set": True})]
)
def test_what_the_session_knows_is_left_to_it(rig: Rig, answer: Any) -> None:
    """Whether it counted, failed or does not stand: nothing more is called or planned from here."""
    rig.clock.due(KEY, NOW)
    rig.look(one(NOW))
    rig.answer(answer)
    assert (len(rig.calls), len(rig.plans)) == (1, 1)


@pytest.mark.parametrize("answer", [m.Error(0, 101, ""), m.Error(0, 401, "", {"ran": False}), m.Error(0, 204, "")])
def test_what_was_not_run_is_tried_again_under_its_id(rig: Rig, answer: Any) -> None:
    """With growing pauses; the try is not counted."""
    rig.clock.due(KEY, NOW)
    for pause in (1.0, 4.0, 16.0, 16.0):
        rig.look(one(NOW))
        rig.answer(answer)
        assert rig.plans[-1].when == 100.0 + pause
    assert len({call.call_id for call in rig.calls}) == 1


@pytest.mark.parametrize("code", [206, 401, 402, 403])
def test_what_may_have_run_and_what_cannot_is_told_to_the_session(rig: Rig, code: int) -> None:
    """As a failed try, in a call that runs nothing."""
    rig.clock.due(KEY, NOW)
    rig.look(one(NOW))
    rig.answer(m.Error(0, code, "why"))
    told = rig.calls[-1]
    assert told.call_id is None
    assert told.meta == {"alarm": ["failed", "tea", 2, 4, 0, NOW + 1, code, "why"]}
    rig.answer(m.Result(0, b""))
    assert rig.plans[-1].when == 101.0


def test_too_many_calls_under_way_wait(rig: Rig) -> None:
    """They must not crowd out those that somebody waits for."""
    for number in range(MAX_FIRING):
        key = SessionKey("clock", str(number))
        rig.clock.due(key, NOW)
        rig.look(one(NOW))
    rig.clock.due(KEY, NOW)
    rig.plans[-1].action()
    assert not rig.asked
    assert rig.plans[-1].when > 100.0


def overdue(rig: Rig, seconds: float, **fields: Any) -> bool:
    """Whether a look in the store that finds an alarm so long overdue plans anything now."""
    count = len(rig.plans)
    rig.clock._overdue(Listed(((KEY, record(one(NOW - seconds), **fields)),)))
    return len(rig.plans) > count


def test_an_alarm_whose_node_died_is_found(rig: Rig) -> None:
    """When it is overdue, though this node has a timer of its own for a later one; not while a try waits to be repeated."""
    assert not overdue(rig, GRACE - 0.5)
    assert overdue(rig, GRACE + 0.5)
    rig.clock.due(KEY, NOW + 3600)
    assert overdue(rig, GRACE + 0.5)
    rig.look(one(NOW))
    rig.answer(m.Error(0, 101, ""))
    assert not overdue(rig, GRACE + 0.5)


def test_nodes_look_after_a_session_in_turn(rig: Rig) -> None:
    """Of several nodes each waits longer than the one before it; one in doubt is passed over; without the function none."""
    for name in ("b", "c", "d"):
        rig.router.peer(name, ["clock"])
    waits = [seconds for seconds in (2.5, 4.5, 6.5, 8.5) if overdue(rig, seconds)]
    assert waits == [seconds for seconds in (2.5, 4.5, 6.5, 8.5) if seconds >= waits[0]]
    for name in ("b", "c", "d"):
        rig.router.doubt(name, True)
    assert overdue(rig, 2.5)
    rig.router.serves([], ["clock"])
    assert not overdue(rig, 100.0)


def test_a_session_that_lives_elsewhere_is_left_to_its_node(rig: Rig) -> None:
    """As long as that is there; its memory may know better than the store."""
    rig.relay.peers["b"] = object()
    assert not overdue(rig, 100.0, mode="local", owner="b", owner_boot="x")
    rig.router.doubt("b", True)
    assert overdue(rig, 100.0, mode="local", owner="b", owner_boot="x")
    del rig.relay.peers["b"]
    rig.router.doubt("b", False)
    assert overdue(rig, 100.0, mode="local", owner="b", owner_boot="x")
