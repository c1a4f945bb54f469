"""Which records have been left alone for their time to live: by two clocks, of which neither may end what is in use."""

from dataclasses import replace

import pytest

from edged.core import expiry as module
from edged.core.alarms import Alarm, Alarms
from edged.core.expiry import WATCHED_SECONDS, Expiry
from edged.core.records import ENDED, Record, SessionKey
from edged.core.sessions.writes import NO_RECORD

KEY = SessionKey("f", "s")
TTL = 1000.0


def record(updated: float = 0.0, version: int = 1, schema: int = 1, alarms: bytes | None = None) -> Record:
    return replace(NO_RECORD, epoch=1, version=version, updated=updated, schema=schema, alarms=alarms)


def looked(expiry: Expiry, row: Record, wall: float, now: float) -> bool:
    """A round that meets one session; whether it is to end."""
    expiry.begin()
    found = expiry.look([(KEY, row)], wall, now)
    assert found in ([], [(KEY, (row.epoch, row.version))])
    return bool(found)


def test_a_session_that_is_left_alone_expires() -> None:
    """When both clocks say so: nothing written for its time to live, and seen to stand still."""
    expiry = Expiry(TTL)
    assert not looked(expiry, record(), TTL - 1, 0.0)
    assert not looked(expiry, record(), TTL, 1.0)
    assert not looked(expiry, record(), TTL + 59, 60.0)
    assert looked(expiry, record(), TTL + 60, 1.0 + WATCHED_SECONDS)


def test_a_clock_that_jumps_spares_what_is_in_use() -> None:
    """A year ahead: a session that is written to before this node's eyes begins to be watched anew."""
    expiry, year = Expiry(TTL), 365 * 86_400.0
    for step in range(100):
        assert not looked(expiry, record(version=step), year, 30.0 * step)
    assert looked(expiry, record(version=99), year, 30.0 * 99 + WATCHED_SECONDS)


def test_a_short_time_to_live_is_watched_no_longer_than_it_lasts() -> None:
    """Two seconds mean two seconds."""
    expiry = Expiry(2.0)
    assert not looked(expiry, record(), 2.0, 0.0)
    assert looked(expiry, record(), 4.0, 2.0)


def test_a_session_that_was_gone_meanwhile_is_watched_anew() -> None:
    """What one round did not meet is forgotten: it was held by a container, or ended."""
    expiry = Expiry(TTL)
    assert not looked(expiry, record(), TTL, 0.0)
    expiry.begin()
    assert not looked(expiry, record(), TTL, 100.0)
    assert looked(expiry, record(), TTL, 160.0)


@pytest.mark.parametrize("spared", [record(schema=ENDED), record(alarms=Alarms({"a": Alarm("a", 9e9, "", b"", 1, 1)}).packed())])
def test_what_has_ended_or_waits_for_an_alarm_does_not_expire(spared: Record) -> None:
    """The one is over, the other in use; a dead letter holds nobody."""
    expiry = Expiry(TTL)
    assert not any(looked(expiry, spared, 1e9, 100.0 * step) for step in range(5))
    dead = record(alarms=Alarms({}, (Alarm("a", 0.0, "", b"", 1, 1),)).packed())
    assert [looked(expiry, dead, 1e9, 1000.0 + 100.0 * step) for step in range(2)] == [False, True]


def test_what_has_ended_is_let_go_after_its_time() -> None:
    """By the same two clocks; sessions that live are none of it."""
    expiry = Expiry(TTL, ended=True)
    assert not looked(expiry, record(schema=ENDED), TTL - 1, 0.0)
    assert not looked(expiry, record(schema=ENDED), TTL, 1.0)
    assert looked(expiry, record(schema=ENDED), TTL + 60, 1.0 + WATCHED_SECONDS)
    assert not any(looked(expiry, record(), 1e9, 100.0 * step) for step in range(2, 5))


def test_what_is_watched_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those beyond the bound have their turn when the first have gone."""
    monkeypatch.setattr(module, "MOST_WATCHED", 2)
    expiry = Expiry(TTL)
    rows = [(SessionKey("f", str(n)), record()) for n in range(3)]
    ends: list[str] = []
    for step in range(4):
        expiry.begin()
        found = expiry.look([row for row in rows if row[0].session not in ends], 1e9, 100.0 * step)
        ends += [key.session for key, _ in found]
    assert ends == ["0", "1", "2"]
