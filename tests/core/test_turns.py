"""Whose call is next in a container that several sessions share."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from edged.core.calls import Call
from edged.core.pools import MAX_HELD
from edged.core.turns import Turns

SESSIONS = st.lists(st.sampled_from("abcd"), min_size=1, max_size=60)


def a_call(serial: int, session: str, method: str = "write") -> Call:
    return Call(None, serial, "f", session, method, None, 0.0, 10.0, b"", None)


def calls_of(sessions: str | list[str]) -> list[Call]:
    return [a_call(number, session) for number, session in enumerate(sessions)]


def filled(calls: list[Call]) -> Turns:
    turns = Turns()
    for call in calls:
        turns.add(call)
    return turns


def quick(turns: Turns) -> None:
    """Let it see calls that take microseconds."""
    for number in range(60):
        call = a_call(10_000 + number, "quick")
        turns.add(call)
        turns.give(0.0)
        turns.finished([(call, 1e-6)], 0.0)


def one_by_one(turns: Turns) -> list[Call]:
    """All calls in the order in which they run, each of a second."""
    order: list[Call] = []
    now = 1.0
    while given_ := turns.give(now)[0]:
        [call] = given_
        assert turns.running is call
        assert call.started == now
        now += 1.0
        turns.finished([(call, 1.0)], now)
        order.append(call)
    return order


@given(SESSIONS)
def test_each_session_has_one_call_in_turn(sessions: list[str]) -> None:
    """All run; those of one session in the order in which they came; and between two of a session every other that
    waits has had exactly one."""
    calls = calls_of(sessions)
    order = one_by_one(filled(calls))
    assert sorted(order, key=lambda call: call.serial) == calls
    left = Counter(sessions)
    for session in left:
        own = [call.serial for call in order if call.session == session]
        assert own == sorted(own)
    while left:
        turn, order = order[: len(left)], order[len(left) :]
        assert {call.session for call in turn} == set(left)
        left -= Counter(call.session for call in turn if call.session)


@given(SESSIONS, st.sets(st.integers(0, 59)))
def test_a_call_that_nobody_waits_for_is_dropped_at_its_turn(sessions: list[str], late: set[int]) -> None:
    """Those whose callers were answered meanwhile, by their deadline, never run; all others do."""
    calls = calls_of(sessions)
    turns = filled(calls)
    for call in calls:
        call.answered = call.serial in late
    ran: list[Call] = []
    dropped: list[Call] = []
    while True:
        given_, over = turns.give(1.0)
        dropped += over
        if not given_:
            break
        ran += given_
        turns.finished([(call, 1.0) for call in given_], 2.0)
    assert not any(call.answered for call in ran)
    assert all(call.answered for call in dropped)
    assert len(ran) + len(dropped) == len(calls)


def test_long_calls_are_given_one_at_a_time_and_short_ones_ahead() -> None:
    """Calls of microseconds are given up to the bound, in turn; after a long one there is one at a time again."""
    calls = calls_of(["a"] * 100 + ["b"])
    turns = filled(calls)
    assert turns.give(0.0)[0] == calls[:1]
    assert turns.give(0.0)[0] == []
    turns = Turns()
    quick(turns)
    for call in calls:
        turns.add(call)
    given_ = turns.give(0.0)[0]
    assert len(given_) == MAX_HELD
    assert calls[100] in given_[:2]
    turns.finished([(call, 0.5) for call in given_], 1.0)
    assert len(turns.give(1.0)[0]) == 1


@given(SESSIONS, st.integers(1, 20))
def test_only_the_call_that_runs_has_begun(sessions: list[str], answered: int) -> None:
    """A hard limit counts from when a call is first in its container, whatever its session thinks."""
    turns = Turns()
    quick(turns)
    calls = calls_of(sessions)
    for call in calls:
        turns.add(call)
        call.started = 5.0
    given_ = turns.give(6.0)[0]
    done, left = given_[:answered], given_[answered:]
    turns.finished([(call, None) for call in done], 7.0)
    assert all(call.started for call in done)
    for call in left:
        call.started = 7.0
    turns.behind()
    assert [call.started for call in left] == [7.0] * bool(left) + [0.0] * (len(left) - 1)
    assert turns.running is (left[0] if left else None)


def test_readers_go_by_the_call_that_runs() -> None:
    """Those that wait are handed over, in order and no more than a container may hold; writers keep their turns."""
    turns = Turns()
    writer, after = a_call(0, "a"), a_call(1, "b")
    readers = [a_call(2 + number, "ab"[number % 2], "read") for number in range(2 * MAX_HELD)]
    for call in (writer, after, *readers):
        turns.add(call)
    assert not turns.ahead({"read"}), "nothing runs yet"
    assert turns.give(1.0)[0] == [writer]
    ahead = turns.ahead({"read"})
    assert len(ahead) == MAX_HELD - 1
    assert all(call.method == "read" and not call.started for call in ahead)
    assert turns.running is writer
    turns.finished([(call, 0.0) for call in ahead], 2.0)
    turns.finished([(writer, 1.0)], 2.0)
    assert turns.give(2.0)[0][0] is after


def test_of_a_session_that_leaves_only_the_running_call_stays() -> None:
    """What waits of it is forgotten, what was given ahead is told; the others' calls go on."""
    turns = Turns()
    quick(turns)
    calls = calls_of("abab")
    for call in calls:
        turns.add(call)
    assert turns.give(1.0)[0] == calls
    waits = [a_call(10, "a"), a_call(11, "b")]
    for call in waits:
        turns.add(call)
    assert turns.withdraw("a") == [calls[2]]
    assert turns.running is calls[0]
    turns.finished([(calls[0], 1.0), (calls[1], 1.0), (calls[3], 1.0)], 2.0)
    assert turns.give(2.0)[0] == waits[1:]
    assert turns.give(2.0) == ([], [])
