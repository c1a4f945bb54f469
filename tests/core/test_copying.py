"""A state on its way: pieces, credit, rounds, and the rule that ends them."""

import pytest

from edged.core.sessions.copying import CHUNK, MAX_ROUNDS, WINDOW, Copy, judge


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
    copy.read(said(1, 0, 1), bytes(6 * CHUNK + 1))
    sent = []
    while (piece := copy.next_piece(len(sent) + 1)) is not None:
        sent.append(piece)
    assert [number for number, _ in sent] == [1, 2, 3, 4]
    assert all(len(one.data) == CHUNK and one.more for _, one in sent)
    assert not copy.hungry
    assert not copy.arrived
    for token in range(1, 4):
        assert copy.credit(token)
        numbered = copy.next_piece(WINDOW + token)
        assert numbered is not None
    assert (len(numbered[1].data), numbered[1].more) == (1, False)
    assert not copy.credit(1), "a credit counts once"
    for token in range(4, WINDOW + 4):
        assert copy.credit(token)
    assert copy.hungry
    assert copy.arrived
    assert copy.sent == copy.acked == 6 * CHUNK + 1


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
