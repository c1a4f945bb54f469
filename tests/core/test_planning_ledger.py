"""What a node notes of its sessions: bounded, and true to the last call."""

import pytest

from edged.core.planning import ledger as module
from edged.core.planning.ledger import GONE, Ledger
from edged.core.records import SessionKey

KEY = SessionKey("counter", "a")


def test_a_session_is_as_it_was_called() -> None:
    """Rate, entrance, wish and the time of its move, with the calls the rate rests on."""
    ledger = Ledger()
    for second in range(101):
        ledger.called(KEY, "n2", float(second))
    ledger.wished(KEY, "local", 100.0)
    ledger.moved(KEY, 70.0)
    row = ledger.session(KEY, "local", 100.0, 64)
    assert (row.key, row.mode, row.moved, row.wish, row.size, row.entrance) == (KEY, "local", 70.0, "local", 64, "n2")
    assert 0.95 < row.rate < 1.05
    assert 20 < row.calls <= 100


def test_one_that_is_not_known_has_no_rate() -> None:
    """A local session nobody calls is a row all the same."""
    row = Ledger().session(KEY, "local", 5.0)
    assert (row.rate, row.calls, row.wish) == (0.0, 0.0, None)


def test_sessions_are_forgotten() -> None:
    """Those not called for long when they are asked for, and the oldest when there are too many."""
    ledger = Ledger()
    ledger.called(KEY, "", 0.0)
    ledger.called(SessionKey("counter", "b"), "", 100.0)
    assert list(ledger.remembered(GONE + 50)) == [SessionKey("counter", "b")]
    assert list(ledger.remembered(GONE + 50)) == [SessionKey("counter", "b")]


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The session called longest ago makes room."""
    monkeypatch.setattr(module, "MOST", 3)
    ledger = Ledger()
    for name in "abcad":
        ledger.called(SessionKey("counter", name), "", 1.0)
    assert [key.session for key in ledger.remembered(1.0)] == ["c", "a", "d"]


def test_times_by_function() -> None:
    """Each mean is its own, and those of a function that is gone go with it."""
    ledger = Ledger()
    ledger.ran("counter", "local", 1.0)
    ledger.ran("counter", "remote", 2.0)
    ledger.read("counter", 2.0)
    ledger.committed("counter", 1.0)
    ledger.switched("counter", 4.0)
    assert ledger.times("counter") == (1.0, 2.0, 3.0, 4.0)
    ledger.keep(frozenset({"echo"}))
    assert ledger.times("counter") == (0.0, 0.0, 0.0, 0.0)
