"""Candidates: one list for all sources, bounded, dialled with growing pauses."""

from hypothesis import given
from hypothesis import strategies as st

from edged.core.candidates import (
    ANNOUNCED_SECONDS,
    MAX_ANNOUNCED,
    MAX_DIALS,
    MAX_PER_HOST,
    SECOND_DIAL,
    Candidates,
)


def pauses(candidates: Candidates, address: str, tries: int) -> list[float]:
    """Seconds between dials that all fail at once."""
    now, found, last = 0.0, [], 0.0
    while len(found) < tries:
        now += 0.05
        if address in candidates.due(now, ()):
            found.append(now - last)
            last = now
            candidates.ended(address, 0.0, 1.0, now)
    return found[1:]


def test_a_seed_is_dialled_for_ever() -> None:
    """After 0.1 s, doubled, never more than 5 s apart."""
    candidates = Candidates("me")
    candidates.seed("a:1")
    found = pauses(candidates, "a:1", 12)
    assert found[0] < 0.2
    assert max(found) < 5.1
    assert found[-1] > 4.9


def test_who_is_connected_is_not_dialled() -> None:
    """By the name that was announced, or that a handshake told."""
    candidates = Candidates("a")
    candidates.announced("b", "b:1", 0.0)
    candidates.seed("c:1")
    assert candidates.due(0.0, ["b"]) == ["c:1"]
    candidates.is_node("c:1", "c")
    candidates.ended("c:1", 100.0, 1.0, 100.0)
    assert candidates.due(200.0, ["c", "b"]) == []
    assert candidates.due(200.0, []) == ["c:1"]


def test_the_lower_name_dials_first() -> None:
    """Two that hear of each other at the same moment do not meet twice."""
    low, high = Candidates("a"), Candidates("b")
    low.announced("b", "b:1", 0.0)
    high.announced("a", "a:1", 0.0)
    assert low.due(0.0, ()) == ["b:1"]
    assert high.due(0.0, ()) == []
    assert high.due(SECOND_DIAL, ()) == ["a:1"]


def test_own_announcements_are_none() -> None:
    """A node hears itself on the LAN."""
    candidates = Candidates("a")
    candidates.announced("a", "a:1", 0.0)
    assert len(candidates) == 0


def test_strangers_cannot_fill_the_list() -> None:
    """Five thousand announcements: a bounded list, eight of one host, and a seed is dialled all the same."""
    candidates = Candidates("me")
    for number in range(5_000):
        candidates.announced(f"n{number}", f"10.0.{number % 200}.1:{number + 1}", 0.0)
    for number in range(50):
        candidates.announced(f"m{number}", f"10.1.0.1:{number + 1}", 0.0)
    candidates.seed("s:1")
    assert len(candidates) <= MAX_ANNOUNCED + 1
    assert candidates.refused >= 5_000 - MAX_ANNOUNCED
    dialled = candidates.due(10.0, ())
    assert "s:1" in dialled
    assert len(dialled) <= MAX_DIALS
    one = Candidates("me")
    for number in range(50):
        one.announced(f"m{number}", f"10.1.0.1:{number + 1}", 0.0)
    assert len(one) == MAX_PER_HOST


def test_what_is_not_announced_any_more_is_forgotten() -> None:
    """After a minute, unless it was heard again."""
    candidates = Candidates("a")
    candidates.announced("b", "b:1", 0.0)
    candidates.announced("c", "c:1", 0.0)
    candidates.announced("c", "c:1", 30.0)
    assert candidates.due(ANNOUNCED_SECONDS, ()) == ["c:1"]


def test_a_remembered_node_is_tried_less_and_less() -> None:
    """One that does not come back costs a dial every five minutes."""
    candidates = Candidates("me")
    candidates.remembered("b", "b:1")
    found = pauses(candidates, "b:1", 14)
    assert 299 < found[-1] < 301


def test_a_member_is_dialled_while_gossip_knows_it() -> None:
    """And no longer; one that is a seed as well stays."""
    candidates = Candidates("a")
    candidates.seed("s:1")
    candidates.members([("b", "b:1", 0.0), ("s", "s:1", 0.0)])
    assert set(candidates.due(5.0, ())) == {"b:1", "s:1"}
    for address in ("b:1", "s:1"):
        candidates.ended(address, 0.0, 1.0, 5.0)
    candidates.members([])
    assert candidates.due(60.0, ()) == ["s:1"]


def test_a_member_that_is_down_is_dialled_now_and_then() -> None:
    """Behind a cut it holds this node to be dead, too, and both may have no seed that lives; once a minute, until it is
    forgotten or has left."""
    candidates = Candidates("a")
    candidates.members([("b", "b:1", 0.0)])
    assert candidates.due(5.0, ()) == ["b:1"]
    candidates.ended("b:1", 60.0, 1.0, 65.0)
    candidates.members([], ["b:1", "never-met:1"])
    found = pauses(candidates, "b:1", 14)
    assert 59 < found[-1] < 61
    assert len(candidates) == 1
    candidates.members([("b", "b:1", 2000.0)])
    assert len(candidates) == 1
    candidates.members([], [])
    assert len(candidates) == 0


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 30)), max_size=200))
def test_never_more_than_eight_at_once(steps: list[tuple[int, int]]) -> None:
    """Whatever is told and however dials end: no address twice, never more than the bound."""
    candidates, dialling, now = Candidates("m"), set(), 0.0
    for kind, number in steps:
        now += 0.5
        address = f"h{number % 7}:{number + 1}"
        if kind == 0:
            candidates.seed(address)
        elif kind == 1:
            candidates.announced(f"n{number}", address, now)
        elif kind == 2:
            candidates.members([(f"n{number}", address, now)])
        elif kind == 3:
            candidates.remembered(f"n{number}", address)
        elif kind == 4 and dialling:
            candidates.ended(dialling.pop(), float(number), 1.0, now)
        fresh = candidates.due(now, ())
        assert not dialling.intersection(fresh)
        dialling.update(fresh)
        assert len(dialling) <= MAX_DIALS
