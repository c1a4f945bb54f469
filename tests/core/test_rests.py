"""Since when sessions rest."""

from edged.core.records import SessionKey
from edged.core.rests import MOST, Rests

KEY = SessionKey("f", "s")


def test_a_session_that_never_moved_has_always_rested() -> None:
    """Epoch 0 is no move, however often it is seen."""
    rests = Rests()
    rests.seen(KEY, 0, 5.0)
    assert rests.since(KEY) == float("-inf")


def test_it_rests_since_its_epoch_was_first_seen() -> None:
    """The same epoch, or an older one heard late, is no new move; a higher one is."""
    rests = Rests()
    rests.seen(KEY, 3, 5.0)
    rests.seen(KEY, 3, 6.0)
    rests.seen(KEY, 2, 7.0)
    assert rests.since(KEY) == 5.0
    rests.seen(KEY, 4, 8.0)
    assert rests.since(KEY) == 8.0
    assert rests.left(KEY, 5.0, 10.0) == 3.0


def test_who_knew_of_it_earlier_is_right() -> None:
    """Another node that has known the session at this epoch for longer is believed, one that has for less is not."""
    rests = Rests()
    rests.seen(KEY, 3, 5.0)
    rests.seen(KEY, 3, 2.0)
    rests.seen(KEY, 3, 4.0)
    assert rests.known(KEY) == (3, 2.0)


def test_what_is_remembered_is_bounded() -> None:
    """The session that moved longest ago is forgotten, and rests anew when it is met again."""
    rests = Rests()
    for number in range(MOST + 1):
        rests.seen(SessionKey("f", str(number)), 1, float(number))
    assert rests.since(SessionKey("f", "0")) == float("-inf")
    rests.seen(SessionKey("f", "0"), 1, 1e9)
    assert rests.since(SessionKey("f", "0")) == 1e9
