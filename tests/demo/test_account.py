"""The demo's account: it says OFF whenever a count, a record or the way to the store is off."""

from collections.abc import Callable
from typing import Any

import pytest


class Books:
    """The books of a run in which everything is right: two sessions, 100 and 3 calls."""

    def __init__(self) -> None:
        from account import Carried, Final, Ledger

        arm = Ledger(
            "arm-monitor/arm-7", asked=100, values=list(range(1, 101)), abnormal=9, moves=4
        )
        parts = Ledger("counter/arm-7", asked=3, values=[2, 1, 3])
        self.ledgers = {"arm": arm, "parts": parts}
        self.finals = {
            arm.name: Final(100, 100, 4, "remote", 9),
            parts.name: Final(3, 3, 0, "remote"),
        }
        self.carried = Carried(0.02, 0.041, 40, 90, 90, 9000, 9000, 3, 3, 3)

    def final(self, name: str, **fields: Any) -> None:
        """Change what the mesh says of a session in the end."""
        key = self.ledgers[name].name
        self.finals[key] = self.finals[key]._replace(**fields)

    def off(self) -> list[str]:
        """The checks that fail."""
        from account import verdict

        ledgers = list(self.ledgers.values())
        checks = verdict(ledgers, self.finals, self.carried)
        return [check.name for check in checks if not check.ok]


COUNTED, VERSION = "every call counted exactly once", "the store's version is the number of calls"
ALARMS, EPOCH = "every abnormal reading is in the state", "no epoch ever went back"
REMOTE, MOVES = "all sessions are remote-state again", "each switch and migration is one epoch"
WAY, CARRIED = (
    "the store is reached through the proxy only",
    "the proxy carried every remote-state call",
)
FASTER = "no remote-state call was faster than the line"


def test_right_books_are_right() -> None:
    """Values in any order, each once, and records that agree: nothing is off."""
    assert Books().off() == []


def lost_answer(books: Books) -> None:
    """A call was asked and took effect, its answer never came."""
    books.ledgers["parts"].asked = 4
    books.final("parts", state=4, version=4)


def lost_effect(books: Books) -> None:
    """An acknowledged call is gone from the state."""
    books.final("parts", state=2)


def value_told_twice(books: Books) -> None:
    """Two calls were told the same value."""
    books.ledgers["parts"].values = [1, 2, 2]


def effect_twice(books: Books) -> None:
    """One call took effect twice, and was acknowledged once."""
    books.ledgers["parts"].values = [1, 2, 4]
    books.final("parts", state=4)


def wrong_value(books: Books) -> None:
    """A value that no correct run has, though the number of values is right."""
    books.ledgers["parts"].values = [1, 2, 7]


def no_calls(books: Books) -> None:
    """A session without any call proves nothing."""
    books.ledgers["parts"].asked, books.ledgers["parts"].values = 0, []
    books.final("parts", state=0, version=0)


def never_moved(books: Books) -> None:
    """Nothing was moved, and the records agree: that shows nothing."""
    books.ledgers["arm"].moves = 0
    books.final("arm", epoch=0)


@pytest.mark.parametrize(
    "spoil", [lost_answer, lost_effect, value_told_twice, effect_twice, wrong_value, no_calls]
)
def test_a_count_that_is_off_is_seen(spoil: Callable[[Books], None]) -> None:
    """Each way in which calls can be lost or doubled makes the count fail."""
    books = Books()
    spoil(books)
    assert COUNTED in books.off()


@pytest.mark.parametrize(
    ("spoil", "lost", "doubled", "wrong"),
    [
        (lost_answer, 1, 0, 0),
        (lost_effect, 1, 0, 0),
        (value_told_twice, 0, 1, 0),
        (effect_twice, 0, 1, 1),
        (wrong_value, 0, 0, 1),
    ],
)
def test_lost_and_doubled_are_told_apart(
    spoil: Callable[[Books], None], lost: int, doubled: int, wrong: int
) -> None:
    """The figures name what happened."""
    from account import count

    books = Books()
    spoil(books)
    ledger = books.ledgers["parts"]
    said = count(ledger, books.finals[ledger.name].state)
    assert (said.lost, said.doubled, said.wrong) == (lost, doubled, wrong)


@pytest.mark.parametrize(
    ("check", "spoil"),
    [
        (VERSION, lambda books: books.final("arm", version=99)),
        (VERSION, lambda books: books.finals.pop("counter/arm-7")),
        (ALARMS, lambda books: books.final("arm", alarms=8)),
        (ALARMS, lambda books: books.final("arm", alarms=None)),
        (EPOCH, lambda books: setattr(books.ledgers["arm"], "backwards", 1)),
        (REMOTE, lambda books: books.final("parts", mode="local")),
        (MOVES, lambda books: books.final("arm", epoch=5)),
        (MOVES, lambda books: books.final("parts", epoch=1)),
        (MOVES, lambda books: setattr(books.ledgers["arm"], "moves", 3)),
        (MOVES, never_moved),
    ],
)
def test_records_and_moves_are_compared(check: str, spoil: Callable[[Books], None]) -> None:
    """What the store says of a session must agree with what its callers know."""
    books = Books()
    spoil(books)
    assert check in books.off()


@pytest.mark.parametrize(
    ("check", "fields"),
    [
        (WAY, {"at_cloud": 4}),
        (WAY, {"through_proxy": 2}),
        (CARRIED, {"frames_up": 39}),
        (CARRIED, {"frames_down": 39}),
        (CARRIED, {"remote_calls": 0}),
        (CARRIED, {"frames_up": 0, "frames_down": 0, "bytes_up": 0, "bytes_down": 0}),
        (FASTER, {"fastest_remote": 0.019}),
    ],
)
def test_a_way_around_the_proxy_is_seen(check: str, fields: dict[str, Any]) -> None:
    """A store that is not 20 ms away, or was not asked, makes the demo fail."""
    books = Books()
    books.carried = books.carried._replace(**fields)
    assert books.off() == [check]
