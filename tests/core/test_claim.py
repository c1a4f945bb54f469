"""A node's name: who may have it, whatever the store answers and whoever else wants it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.core.claim import Claim, Verdict
from edged.core.leases import FORGOTTEN, RENEWALS, SERVE, TAKE, first_seq
from edged.core.records import (
    Lease,
    Leased,
    LeaseTable,
    Op,
    Outcome,
    ReadLeases,
    Renew,
    StoreFailed,
)
from edged.core.row import renews

TTL = 12.0
SELF, OLD, OTHER = "00000002-aa", "00000001-aa", "00000009-bb"


class Shelf:
    """A store of leases."""

    def __init__(self, *rows: Lease) -> None:
        self.rows = {row.node: row for row in rows}

    def do(self, op: Op) -> Outcome:
        if isinstance(op, ReadLeases):
            return LeaseTable(tuple(self.rows.values()))
        assert isinstance(op, Renew)
        have = self.rows.get(op.node)
        if not renews(op, have):
            return Leased(False, have.seq if have else 0)
        self.rows[op.node] = Lease(op.node, op.boot, op.seq, op.ttl)
        return Leased(True, op.seq)


def a_claim(boot: str = SELF, past: str = OLD) -> Claim:
    return Claim("n", boot, TTL, frozenset({past}))


def seconds_to(claim: Claim, shelf: Shelf, limit: float = 100.0) -> float:
    """How long it takes to a verdict, by its own clock."""
    now = 1000.0
    while claim.answered(shelf.do(claim.turn()), now) is Verdict.OPEN and now < 1000.0 + limit:
        now += claim.pause
    return now - 1000.0


@pytest.mark.parametrize(
    ("rows", "waits"),
    [
        ([], 0.0),
        ([Lease("m", OTHER, 5, TTL)], 0.0),
        ([Lease("n", OLD, 5, TTL)], 0.0),
        ([Lease("n", FORGOTTEN, 5, TTL)], 0.0),
        ([Lease("n", SELF, first_seq(SELF), TTL)], 0.0),
        ([Lease("n", OTHER, 5, TTL)], TAKE * TTL),
        ([Lease("n", OTHER, 5, 2 * TTL)], TAKE * 2 * TTL),
    ],
)
def test_it_waits_only_for_a_lease_that_may_be_somebodys(rows: list[Lease], waits: float) -> None:
    """None, its own past's, one given up by an operator and its own: at once. Any other: for as long as a taker waits, by
    the length that its owner gave it."""
    claim, shelf = a_claim(), Shelf(*rows)
    took = seconds_to(claim, shelf)
    assert claim.verdict is Verdict.MINE
    assert waits <= took <= waits + TTL / 6
    assert shelf.rows["n"].boot == SELF


@pytest.mark.parametrize("before", [[], [Lease("n", OLD, 5, TTL)], [Lease("n", OTHER, 5, TTL)], [Lease("n", FORGOTTEN, 5, TTL)]])
def test_a_lease_that_changes_is_somebodys(before: list[Lease]) -> None:
    """Whatever was there when it looked first: one that is renewed, or appears, is of a node that lives."""
    claim = a_claim()
    assert claim.answered(LeaseTable(tuple(before)), 0.0) is Verdict.OPEN
    shelf = Shelf(Lease("n", OTHER, 6, TTL))
    if isinstance(claim.turn(), Renew):
        assert claim.answered(shelf.do(claim.turn()), 0.1) is Verdict.OPEN
    assert claim.answered(shelf.do(claim.turn()), 0.2) is Verdict.TAKEN
    assert shelf.rows["n"].boot == OTHER


def test_a_late_renewal_of_its_own_past_is_no_other_node() -> None:
    """What was on its way when the former life was killed arrives after the look: the claim is made again, over that."""
    claim, shelf = a_claim(), Shelf(Lease("n", OLD, 5, TTL))
    claim.answered(shelf.do(claim.turn()), 0.0)
    shelf.rows["n"] = Lease("n", OLD, 6, TTL)
    assert seconds_to(claim, shelf) < 1
    assert claim.verdict is Verdict.MINE


def test_a_claim_whose_answer_was_lost_is_known_again() -> None:
    """Applied, the answer lost: the repetition and the reading both tell that the name is this life's."""
    claim, shelf = a_claim(), Shelf()
    claim.answered(shelf.do(claim.turn()), 0.0)
    shelf.do(claim.turn())
    assert claim.answered(StoreFailed(None, "lost"), 0.1) is Verdict.OPEN
    assert claim.pause > 0
    assert claim.answered(shelf.do(claim.turn()), 0.2) is Verdict.MINE


def test_a_store_that_is_away_decides_nothing() -> None:
    """However long: neither does the lease run out meanwhile unless it is seen unchanged, nor is anything claimed."""
    claim, shelf = a_claim(), Shelf(Lease("n", OTHER, 5, TTL))
    claim.answered(shelf.do(claim.turn()), 0.0)
    for second in range(1, 100):
        assert claim.answered(StoreFailed(None, "away"), float(second)) is Verdict.OPEN
        assert isinstance(claim.turn(), ReadLeases)
    shelf.rows["n"] = Lease("n", OTHER, 30, TTL)
    assert claim.answered(shelf.do(claim.turn()), 100.0) is Verdict.TAKEN


class Life:
    """One that wants the name, by a clock of its own; once it has it, it renews as a node does."""

    def __init__(self, number: int, rate: float, starts: float) -> None:
        self.boot = f"{number:08d}-cc"
        self.claim = Claim("n", self.boot, TTL, frozenset())
        self.rate = rate
        self.due = starts
        self.seq = first_seq(self.boot)
        self.failed = False
        self.until = -1.0
        """By true time: as long it serves."""

    def turn(self, shelf: Shelf, now: float, fails: bool) -> None:
        away = self.failed = fails and not self.failed
        if self.claim.verdict is Verdict.MINE:
            self.due = now + TTL / RENEWALS / self.rate
            if not away and shelf.do(Renew("n", self.boot, self.seq + 1, TTL)).won:  # type: ignore[union-attr]
                self.seq, self.until = self.seq + 1, now + SERVE * TTL / self.rate
            return
        sent = now
        outcome = StoreFailed(None, "away") if away else shelf.do(self.claim.turn())
        if self.claim.answered(outcome, now * self.rate) is Verdict.MINE:
            self.until = sent + SERVE * TTL / self.rate
        self.due = now + max(self.claim.pause, 0.01) / self.rate


lives = st.lists(st.tuples(st.sampled_from([0.9, 1.0, 1.1]), st.floats(0, 40)), min_size=2, max_size=4)


@given(lives, st.sets(st.integers(0, 400), max_size=60))
def test_never_two_have_it_while_the_store_answers_both(wanted: list[tuple[float, float]], away: set[int]) -> None:
    """Two to four of one name that begin whenever they like, with clocks wrong by a tenth, while single operations fail, never two of one in a row: one
    has the name, and as long as it renews nobody else ever gets it."""
    shelf, all_of = Shelf(), [Life(n, rate, starts) for n, (rate, starts) in enumerate(wanted, 1)]
    steps = 0
    while steps < 400:
        life = min((one for one in all_of if one.claim.verdict is not Verdict.TAKEN), key=lambda one: one.due)
        now = life.due
        life.turn(shelf, now, steps in away)
        serving = [one for one in all_of if one.until > now]
        assert len(serving) <= 1
        steps += 1
    assert [one.claim.verdict for one in all_of].count(Verdict.MINE) == 1
    assert {one.claim.verdict for one in all_of} <= {Verdict.MINE, Verdict.TAKEN}
