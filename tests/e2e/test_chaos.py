"""Calls under every fault at once, on real processes and a real Redis; `make soak-chaos` is the same, larger."""

from collections import Counter
from pathlib import Path

import pytest
from support.chaos import Account, Chaos, Size
from support.tallies import Tally

SIZE = Size(sessions=12, increments=60, moves=16, kills=1, pauses=1, pause_seconds=1.0)


def went_well(account: Account) -> None:
    assert account.acknowledged >= 0.9 * SIZE.sessions * SIZE.increments, account.refused
    assert any(said.endswith("done") for said in account.moves)


async def test_every_acknowledged_increment_is_there_once(tmp_path: Path) -> None:
    """Sessions with `sync` are called while they move, each node is killed and started again, and Redis pauses."""
    account = await Chaos(tmp_path, SIZE, seed=7).run()
    assert account.wrong(may_lose=False) == []
    went_well(account)


async def test_no_more_is_lost_than_was_promised_and_it_is_told(tmp_path: Path) -> None:
    """The same with `checkpoint`: a killed owner loses at most what `session get` said just before, and the next answer says so."""
    account = await Chaos(tmp_path, SIZE, 7, 'local = "checkpoint"\ncalls = 10').run()
    assert account.wrong(may_lose=True) == []
    went_well(account)


def told(*answers: tuple[int, int | None]) -> Tally:
    """A tally after three calls that were promised to be safe but for one, a crash, and these answers."""
    tally = Tally()
    for value in (1, 2, 3):
        tally.ack(value, {}, float(value))
    tally.crash(unsaved=1, acknowledged=3, now=4.0)
    for value, recovered in answers:
        tally.ack(value, {} if recovered is None else {"recovered": {"version": recovered}}, 5.0)
    return tally


@pytest.mark.parametrize(
    ("answers", "may_lose"),
    [
        ([(4, None)], False),
        ([(4, 3)], False),
        ([(3, 2), (4, None)], True),
    ],
)
def test_what_may_happen_is_taken(answers: list[tuple[int, int | None]], may_lose: bool) -> None:
    """Nothing lost, and a promised loss that is told."""
    assert Account([told(*answers)], Counter(), Counter()).wrong(may_lose) == []


@pytest.mark.parametrize(
    ("answers", "may_lose"),
    [
        ([(3, 2)], False),  # with `sync` nothing may be lost
        ([(3, None)], True),  # not told
        ([(1, 0)], True),  # more than was promised
        ([(5, None)], True),  # counted twice
        ([(4, 2)], True),
        ([(4, None), (4, None)], True),
    ],
)
def test_what_must_not_happen_is_found(answers: list[tuple[int, int | None]], may_lose: bool) -> None:
    """A loss that was not promised or not told, and a call that counts twice."""
    assert Account([told(*answers)], Counter(), Counter()).wrong(may_lose) != []
