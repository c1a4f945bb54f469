"""A session's alarms as values: what stands, what a call's success or failure makes of them, and how they lie on disk."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.core.alarms import (
    MAX_ALARMS,
    MAX_ARGUMENTS,
    MAX_DEAD,
    NONE,
    TRIES,
    Alarm,
    Alarms,
    Firing,
    alarms_of,
    call_id,
    changes_of,
    firing_of,
    pause,
)
from edged.core.records import SessionKey
from edged.core.rendezvous import rank

KEY = SessionKey("clock", "one")
TEA = Alarm("tea", 10.0, "pour", b"\x91\x01", 0, 0)

alarms = st.builds(
    Alarm, st.text(min_size=1, max_size=9), st.floats(0, 1e10), st.text(max_size=9), st.binary(max_size=9),
    st.integers(0, 99), st.integers(0, 99), st.integers(0, 99), st.integers(0, 5), st.integers(0, 500), st.text(max_size=9),
)  # fmt: skip


def fire(alarm: Alarm, act: Any = "fire", at: float = 50.0, **more: Any) -> Firing:
    """What a call says that is made for `alarm`."""
    return Firing(act, alarm.name, alarm.epoch, alarm.version, alarm.attempt, at, **more)


def one() -> Alarms:
    """A session whose call to version 4 of epoch 2 has set `tea`."""
    return NONE.succeeded(None, {"tea": TEA}, 2, 4)


def test_an_alarm_is_set_by_the_call_that_counts() -> None:
    """It stands under the epoch and version that its call led to, and is the first due."""
    assert one().waiting == {"tea": TEA._replace(epoch=2, version=4)}
    assert one().due == 10.0
    assert NONE.due is None


def test_a_call_that_succeeds_takes_its_alarm_out() -> None:
    """Whatever try it was; one that was set anew meanwhile, in that very call too, is another alarm and stays."""
    alarm = one().waiting["tea"]
    late = fire(alarm)._replace(attempt=3)
    assert one().succeeded(late, {}, 2, 5) == NONE
    again = one().succeeded(fire(alarm), {"tea": TEA}, 2, 5)
    assert again.waiting["tea"].version == 5
    assert again.succeeded(fire(alarm), {}, 2, 6) == again


@pytest.mark.parametrize("field", ["name", "epoch", "version", "attempt"])
def test_only_the_alarm_that_is_meant_stands(field: str) -> None:
    """A call made for another setting of the alarm, or for another try, is not run."""
    alarm = one().waiting["tea"]
    assert one().standing(fire(alarm)) == alarm
    other = "other" if field == "name" else 7
    assert one().standing(fire(alarm)._replace(**{field: other})) is None  # type: ignore[arg-type]


def test_a_call_that_fails_is_tried_again_and_then_dead() -> None:
    """Each try has an id of its own; the last leaves a dead letter with the reason and nothing that is due."""
    now, ids = one(), set()
    for fails in range(1, TRIES + 1):
        alarm = now.waiting["tea"]
        ids.add(call_id(KEY, alarm))
        now = now.failed(fire(alarm, at=100.0 * fails), 301, "ValueError: no")
        assert fails == TRIES or (now.due, now.waiting["tea"].fails) == (100.0 * fails, fails)
    assert len(ids) == TRIES
    assert now.due is None
    assert [(dead.name, dead.code, dead.message) for dead in now.dead] == [("tea", 301, "ValueError: no")]


def test_what_cannot_help_is_not_tried_again() -> None:
    """A method that is not there, or arguments that do not fit, are a dead letter at once."""
    assert one().failed(fire(one().waiting["tea"]), 206, "no method").dead[0].fails == 1


def test_a_failure_that_is_told_twice_counts_once() -> None:
    """The second time the alarm is at its next try already."""
    alarm = one().waiting["tea"]
    now = one().edited(fire(alarm, "failed", code=402, message="killed"))
    assert now.waiting["tea"].fails == 1
    assert now.edited(fire(alarm, "failed", code=402, message="killed")) == now


def test_a_dead_letter_is_replayed_or_dropped() -> None:
    """Replayed, it is due at once with all its tries and ids that were never used; a newer one of its name stays."""
    now = one()
    for _ in range(TRIES):
        now = now.failed(fire(now.waiting["tea"]), 301, "no")
    dead = now.dead[0]
    assert now.edited(fire(dead, "drop")) == NONE
    again = now.edited(fire(dead, "replay", at=7.0))
    assert (again.due, again.dead) == (7.0, ())
    assert (again.waiting["tea"].fails, again.waiting["tea"].attempt) == (0, TRIES)
    newer = now.succeeded(None, {"tea": TEA}, 2, 9)
    assert newer.edited(fire(dead, "replay")) == newer
    assert newer.standing(fire(dead, "replay")) is None


def test_alarms_and_dead_letters_are_bounded() -> None:
    """One alarm too many is a dead letter with the reason; of these the oldest go."""
    now = NONE
    for number in range(MAX_ALARMS + MAX_DEAD + 3):
        now = now.succeeded(None, {str(number): TEA._replace(name=str(number))}, 1, number)
    assert len(now.waiting) == MAX_ALARMS
    assert [dead.name for dead in now.dead] == [str(MAX_ALARMS + 3 + n) for n in range(MAX_DEAD)]
    assert {dead.code for dead in now.dead} == {101}


@given(st.lists(alarms, max_size=5, unique_by=lambda alarm: alarm.name), st.lists(alarms, max_size=5))
def test_what_is_packed_is_read(waiting: list[Alarm], dead: list[Alarm]) -> None:
    """All of it, in order; nothing is no bytes."""
    whole = Alarms({alarm.name: alarm for alarm in waiting}, tuple(dead))
    assert alarms_of(whole.packed()) == whole
    assert bool(whole.packed()) == bool(waiting or dead)


@pytest.mark.parametrize("blob", [b"\xc1", b"\x01", b"\x91\x90", b"\x92\x90\x91\x01", b"\x92\x91\x91\xa1a\x90", b"\x92\xc0\x90"])
def test_what_cannot_be_read_is_a_dead_letter(blob: bytes) -> None:
    """A broken record stops no session and no node; a person is told."""
    assert [alarm.code for alarm in alarms_of(blob).dead] == [500]
    assert not alarms_of(blob).waiting


def test_a_full_set_fits_beside_a_move() -> None:
    """The largest alarms and dead letters of one session take less than half of what a frame may hold beside blobs."""
    large = Alarm("n" * 63, 1e10, "m" * 63, bytes(MAX_ARGUMENTS), 2**62, 2**62, 99, 5, 301, "t" * 200)
    whole = Alarms({str(n): large for n in range(MAX_ALARMS)}, (large,) * MAX_DEAD)
    assert len(whole.packed()) < 32 * 1024


def test_an_id_names_one_try_of_one_alarm() -> None:
    """Every part of what is meant changes it, and nothing else does."""
    base = call_id(KEY, TEA)
    others = [TEA._replace(**{name: value}) for name, value in (("name", "x"), ("epoch", 1), ("version", 1), ("attempt", 1))]  # type: ignore[arg-type]
    ids = {base, call_id(SessionKey("clock", "two"), TEA), *(call_id(KEY, other) for other in others)}
    assert len(ids) == 6
    assert call_id(KEY, TEA._replace(due=99.0, fails=3)) == base


def test_the_nodes_agree_on_an_order() -> None:
    """Each session has an order of all nodes, whoever computes it, and not all sessions the same."""
    nodes = ["a", "b", "c"]
    orders = set()
    for number in range(50):
        key = SessionKey("f", str(number))
        ranks = {node: rank(key, node, nodes) for node in nodes}
        assert sorted(ranks.values()) == [0, 1, 2]
        orders.add(tuple(ranks.values()))
    assert len(orders) == 6


def test_pauses_grow() -> None:
    """Four times as long after each failed try."""
    assert [pause(fails) for fails in range(3)] == [1.0, 4.0, 16.0]


def test_what_a_container_asks_for_is_due_from_now() -> None:
    """Seconds become a time; nil takes an alarm out."""
    assert changes_of({"tea": [5, "pour", b"\x91\x01"], "gone": None}, 100.0) == {"tea": TEA._replace(due=105.0), "gone": None}


@pytest.mark.parametrize(
    "said",
    [
        None,
        {str(n): None for n in range(MAX_ALARMS + 1)},
        {"": None},
        {"n" * 64: None},
        {"a\n": None},
        {"a": []},
        {"a": [-1, "m", b""]},
        {"a": [float("nan"), "m", b""]},
        {"a": ["1", "m", b""]},
        {"a": [1, None, b""]},
        {"a": [1, "m", "body"]},
        {"a": [1, "m", bytes(MAX_ARGUMENTS + 1)]},
        {"a": [1e12, "m", b""]},
    ],
)
def test_what_makes_no_sense_is_refused(said: Any) -> None:
    """A container in any language may say anything."""
    with pytest.raises(ValueError, match=r"alarm"):
        changes_of(said, 0.0)


@pytest.mark.parametrize("value", [None, [], ["fire"] * 8, ["burn", "a", 1, 1, 1, 1.0, 0, ""], ["fire", "a", "1", 1, 1, 1.0, 0, ""]])
def test_what_is_no_firing_counts_as_none(value: Any) -> None:
    """A peer's mistake is an ordinary call."""
    assert firing_of(value) is None


def test_a_firing_survives_the_wire() -> None:
    """What was written as an array is read as it was."""
    said = fire(TEA, "failed", code=402, message="killed")
    assert firing_of(list(said)) == said
