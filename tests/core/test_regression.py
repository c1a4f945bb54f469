"""A store that goes back: what is frozen, and what is not."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from edged.core.records import (
    ENDED,
    ENDED_SECONDS,
    SEEN_SECONDS,
    Forget,
    Listed,
    ListSessions,
    Load,
    Loaded,
    ReadLeases,
    Record,
    SessionKey,
    StoreFailed,
    Written,
)
from edged.core.regression import Guard, Point, Regression

KEY = SessionKey("counter", "one")
POINTS = st.tuples(st.integers(0, 3), st.integers(0, 3))


def record(point: Point) -> Record | None:
    """A session at that epoch and version; none at (0, 0)."""
    epoch, version = point
    return Record(epoch, "remote", None, None, version, None, b"", False, 1, 0.0, None) if any(point) else None


def read(guard: Guard, point: Point, key: SessionKey = KEY, now: float = 0.0, *, ended: bool = False) -> Regression | None:
    """This node reads `point`."""
    found = record(point)
    return guard.look(Load(key), Loaded(replace(found, schema=ENDED) if found and ended else found), now)


@given(st.lists(POINTS))
def test_lower_than_ever_seen_is_a_regression(points: list[Point]) -> None:
    """Epochs first, versions within one; the first that is lower freezes the session, and nothing before does."""
    guard = Guard()
    for number, point in enumerate(points):
        highest = max(points[:number], default=(0, 0))
        found = read(guard, point)
        assert found == (Regression(KEY, highest, point) if point < highest else None)
        assert guard.frozen == ({KEY: found} if found else {})
        if found:
            break


def test_what_another_node_has_found_counts_as_well() -> None:
    """A node that had seen less of the session freezes it too, once; accepted, it goes on from what is there."""
    guard, regression = Guard(), Regression(KEY, (1, 7), (1, 5))
    read(guard, (1, 5))
    assert guard.told(regression) and not guard.told(regression)
    assert guard.frozen == {KEY: regression}
    assert guard.accept(KEY) == regression
    assert read(guard, (1, 5)) is None and not guard.frozen


def test_no_more_are_frozen_than_there_is_room_for() -> None:
    """However many others tell of."""
    guard = Guard(limit=2)
    told = [guard.told(Regression(SessionKey("f", str(number)), (0, 2), (0, 1))) for number in range(3)]
    assert told == [True, True, False]


def test_every_answer_that_tells_of_the_record_counts() -> None:
    """Won, lost and forgotten alike; a failed operation and one about no session say nothing."""
    guard = Guard()
    forget = Forget(KEY, 2, 5)
    assert guard.look(forget, Written(False, record((2, 5))), 0.0) is None
    assert guard.look(forget, StoreFailed(None, "?"), 0.0) is None
    assert guard.look(ReadLeases(), Loaded(None), 0.0) is None
    assert guard.look(forget, Written(False, record((2, 4))), 0.0) == Regression(KEY, (2, 5), (2, 4))


def test_a_session_that_was_ended_may_begin_anew() -> None:
    """What this node forgot itself is no regression."""
    guard = Guard()
    read(guard, (2, 5))
    assert guard.look(Forget(KEY, 2, 5), Written(True), 0.0) is None
    assert read(guard, (0, 0)) is None
    assert read(guard, (1, 1)) is None


def test_what_an_operator_accepts_goes_on_from_there() -> None:
    """Accepted, the session's record is the one to be seen from now on."""
    guard = Guard()
    read(guard, (2, 5))
    found = read(guard, (2, 3))
    assert guard.accept(KEY) == found
    assert guard.accept(KEY) is None
    assert read(guard, (2, 3)) is None
    assert read(guard, (2, 2)) == Regression(KEY, (2, 3), (2, 2))


def listed(*rows: tuple[SessionKey, Point]) -> Listed:
    """A page with these sessions."""
    return Listed(tuple((key, found) for key, point in rows if (found := record(point)) is not None))


def test_a_listing_shows_all_that_went_back() -> None:
    """Lower or missing, on the page where it should be; what this node does not know of is of no interest."""
    guard = Guard()
    a, b, c, d = (SessionKey("f", name) for name in "abcd")
    for key in (d, c, b, a):
        read(guard, (1, 5), key)
    first = ListSessions(limit=2)
    assert guard.audit(first, listed((a, (1, 5)), (SessionKey("f", "b0"), (9, 9))), 0.0) == [Regression(b, (1, 5), (0, 0))]
    rest = first._replace(after=SessionKey("f", "b0"))
    gone = [Regression(d, (1, 5), (0, 0)), Regression(c, (1, 5), (1, 4))]
    assert guard.audit(rest, listed((c, (1, 4))), 0.0) == gone
    assert set(guard.frozen) == {b, c, d}
    assert read(guard, (1, 6), a) is None


def test_memory_is_bounded_and_the_refusal_is_not() -> None:
    """The sessions used last are remembered; with no room on the list each read of one that went back is refused."""
    guard = Guard(2)
    keys = [SessionKey("f", str(n)) for n in range(4)]
    for key in keys[:3]:
        read(guard, (1, 2), key)
    assert read(guard, (1, 1), keys[0]) is None
    read(guard, (1, 2), keys[1])
    for key in (keys[0], keys[1]):
        assert read(guard, (1, 0), key) is not None
    read(guard, (1, 2), keys[3])
    for _ in range(2):
        assert read(guard, (1, 1), keys[3]) is not None
    assert list(guard.frozen) == keys[:2]


def test_what_is_left_of_an_ended_session_may_go() -> None:
    """Another node lets go of its record: absent is right then, and the next of that name begins at nothing. A session that had not
    ended has to be there, and one that has does not come back to life."""
    guard = Guard()
    read(guard, (3, 0), ended=True)
    assert read(guard, (0, 0)) is None
    assert read(guard, (0, 1)) is None
    assert read(guard, (0, 0)) == Regression(KEY, (0, 1), (0, 0))
    other = SessionKey("counter", "two")
    read(guard, (3, 0), other, ended=True)
    assert read(guard, (2, 9), other) == Regression(other, (3, 0), (2, 9))


def test_a_session_that_was_not_met_for_long_is_forgotten() -> None:
    """It may have ended, and what was left of it gone, without this node's hearing of it; of one that has ended the time runs from
    its end on, however often it is looked at."""
    guard = Guard()
    ended = SessionKey("counter", "ended")
    read(guard, (2, 5), now=0.0)
    read(guard, (3, 0), ended, 1.0, ended=True)
    read(guard, (3, 0), ended, SEEN_SECONDS, ended=True)
    assert read(guard, (0, 1), now=SEEN_SECONDS + 0.5) is None
    assert read(guard, (0, 1), ended, SEEN_SECONDS + 2.0) is None
    assert read(guard, (0, 0), now=2 * SEEN_SECONDS) == Regression(KEY, (0, 1), (0, 0))
    assert SEEN_SECONDS + 3600 < ENDED_SECONDS
