"""Session locations: pages that end in both knowing the same."""

from hypothesis import given
from hypothesis import strategies as st

from edged.core.locations import MAX_PAGE_BYTES, digests, page, rows_of
from edged.core.records import SessionKey

ROWS = st.dictionaries(st.builds(SessionKey, st.text(max_size=5), st.text(max_size=9)), st.integers(0, 99), max_size=60)


@given(ROWS, ROWS)
def test_one_page_makes_the_other_know(mine: dict[SessionKey, int], theirs: dict[SessionKey, int]) -> None:
    """What differs is told, and nothing of the buckets that are the same."""
    told = rows_of(page(list(mine.items()), digests(theirs.items())))
    assert told is not None
    learnt = dict(told)
    assert learnt.items() <= mine.items()
    assert {**{key: epoch for key, epoch in theirs.items() if mine.get(key) == epoch}, **learnt} == mine
    assert page(list(mine.items()), digests(mine.items())) == []


def test_many_sessions_take_several_pages() -> None:
    """Each page is bounded; asked again with what is known then, all of them arrive."""
    mine = [(SessionKey("function", f"session-{n:040}"), n) for n in range(3_000)]
    known: dict[SessionKey, int] = {}
    pages = 0
    while pages < 64:
        told = rows_of(page(mine, digests(known.items()))) or []
        assert sum(len(key.session) for key, _ in told) <= MAX_PAGE_BYTES
        known.update(told)
        if not told:
            break
        pages += 1
    assert known == dict(mine)
    assert 1 < pages < 10


@given(st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=20))
def test_anything_else_is_no_page(value: object) -> None:
    """Another node may send what it likes."""
    rows = rows_of(value)
    assert rows is None or all(type(epoch) is int for _, epoch in rows)
