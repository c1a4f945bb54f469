"""A state on its way: pieces, credit, rounds, and the rule that ends them."""

import pytest

from edged.core.sessions.arrival import Arrival
from edged.core.sessions.copying import CHUNK, MAX_ROUNDS, RESUME_SECONDS, WINDOW, Copy, judge
from edged.core.sessions.pacing import FIRST, SHARE, SPAN, Pace


@pytest.mark.parametrize("sent", [0, 1000, 10_000])
@pytest.mark.parametrize("left", [0, 100, 799, 801, 9000])
@pytest.mark.parametrize("rounds", [1, MAX_ROUNDS - 1, MAX_ROUNDS])
@pytest.mark.parametrize("pause", [0.1, 1.0])
def test_a_round_is_followed_by_what_helps(sent: int, left: int, rounds: int, pause: float) -> None:
    """Another round while more than a piece is left and rounds shrink by a fifth, of eight at most; then the session is
    frozen if the pause is allowed, else the move ends."""
    verdict = judge(left, sent, rounds, chunk=100, pause=pause, allowed=0.5)
    if left > 100 and left <= 0.8 * sent and rounds < MAX_ROUNDS:
        assert verdict == "again"
    else:
        assert verdict == ("freeze" if pause <= 0.5 else "not_converging")


def said(serial: int, left: int, head: int) -> dict[str, object]:
    """A container's answer."""
    return {"serial": serial, "left": left, "head": head, "digest": b"d"}


def test_no_more_is_sent_than_there_is_credit_for() -> None:
    """At most four pieces of at most 256 KiB are unanswered; each answer lets one more leave, and only then is the
    container asked again."""
    copy = Copy(0.0)
    copy.freeze()
    copy.read(said(1, 0, 1), bytes(6 * CHUNK + 1))
    sent = []
    while (piece := copy.next_piece(len(sent) + 1, 0.0)) is not None:
        sent.append(piece)
    assert [number for number, _ in sent] == [1, 2, 3, 4]
    assert all(len(one.data) == CHUNK and one.more for _, one in sent)
    assert not copy.hungry
    assert not copy.arrived
    for token in range(1, 4):
        assert copy.credit(token, 0.1) == 0.0
        numbered = copy.next_piece(WINDOW + token, 0.1)
        assert numbered is not None
        last = numbered[1]
    assert (len(last.data), last.more) == (1, False)
    assert not copy.flies(1), "a credit counts once"
    for token in range(4, WINDOW + 4):
        copy.credit(token, 0.2)
    assert copy.hungry
    assert copy.arrived
    assert copy.sent == 6 * CHUNK + 1


def test_a_round_ends_where_the_state_was_when_it_began() -> None:
    """What changes meanwhile belongs to the next round; frozen, the copy is whole when nothing is behind."""
    copy = Copy(0.0)
    copy.read(said(-3, 500, 0), b"a")
    assert not copy.round_read
    copy.read(said(0, 300, 7), b"b")
    assert copy.round_read
    copy.next_round()
    assert not copy.round_read
    copy.read(said(7, 0, 7), b"c")
    assert copy.round_read
    copy.freeze()
    assert not copy.caught_up
    copy.read(said(8, 0, 8), None)
    assert copy.caught_up


def test_what_a_connection_took_along_leaves_once_more_under_its_number() -> None:
    """A piece that was not answered is sent again, behind it the next; the target takes neither twice nor with a gap."""
    copy, arrival = Copy(0.0), Arrival("s")
    copy.read(said(1, 0, 1), bytes(2 * FIRST))
    first = copy.next_piece(1, 0.0)
    assert first is not None
    assert copy.broke(1, 1.0)
    again = copy.next_piece(2, 1.5)
    assert again == first
    assert arrival.is_next(first[0])
    assert arrival.has(again[0])
    copy.credit(2, 1.6)
    following = copy.next_piece(3, 1.7)
    assert following is not None
    assert not arrival.has(following[0])
    assert not arrival.is_next(following[0] + 1), "a gap"
    assert arrival.is_next(following[0])
    assert (copy.sent, copy.breaks) == (3 * FIRST, 1)


def test_a_connection_that_stays_away_ends_the_copy() -> None:
    """A flap is ten seconds at most, counted from the first piece that was lost; one that arrives ends it."""
    copy = Copy(0.0)
    copy.read(said(1, 0, 1), bytes(2 * FIRST))
    for token, now, goes_on in ((1, 5.0, True), (2, 5.0 + RESUME_SECONDS / 2, True), (3, 5.0 + RESUME_SECONDS, False)):
        assert copy.next_piece(token, now) is not None
        assert copy.broke(token, now) is goes_on
    copy.next_piece(4, 16.0)
    copy.credit(4, 16.1)
    copy.next_piece(5, 16.2)
    assert copy.broke(5, 30.0)


@pytest.mark.parametrize("rate", [1e5, 1e6, 1e7, 1e8])
@pytest.mark.parametrize("way", [0.0005, 0.05])
def test_a_state_takes_a_quarter_of_the_link_in_pieces_that_are_soon_over(rate: float, way: float) -> None:
    """Whatever the link carries, and however long it is."""
    pace, now, busy, rested = Pace(CHUNK), 0.0, 0.0, 0.0
    for number in range(100):
        size = pace.size
        assert FIRST <= size <= CHUNK
        pace.left(now)
        now += way + size / rate
        rest = pace.arrived(size, now)
        now += rest
        if number >= 10:
            assert size / rate <= 1.1 * max(SPAN, FIRST / rate)
            busy, rested = busy + size / rate, rested + rest + way
    assert busy / (busy + rested) < 1.1 * SHARE
