"""Node leases: who may serve, and who may take over, by one clock at a time."""

from math import inf

import pytest

from edged.core.leases import FORGOTTEN, SERVE, TAKE, Leases, first_seq
from edged.core.records import Lease, Leased, LeaseTable, Op, ReadLeases, Renew, StoreFailed

TTL = 12.0
TURN = 1.0


class Life:
    """A node's lease, its turns taken by hand; the store answers when the test says so."""

    def __init__(self) -> None:
        self.leases = Leases("a", "boot-1", TTL)
        self.asked: list[tuple[float, Renew]] = []
        self.now = 100.0

    def turn(self, seconds: float = TURN) -> bool:
        """So much later; whether the lease has lapsed meanwhile."""
        self.now += seconds
        lapsed = self.leases.lapsed(self.now)
        ops: list[Op] = self.leases.turn(self.now)
        self.asked += [(self.now, op) for op in ops if isinstance(op, Renew)]
        return lapsed

    def won(self) -> bool:
        """The last renewal is answered well; whether that made the lease good again."""
        at, op = self.asked[-1]
        return self.leases.renewed(at, Leased(True, op.seq), self.now)

    def begun(self) -> "Life":
        self.turn()
        assert self.won()
        return self


def test_it_serves_for_eight_tenths_from_before_the_renewal_was_sent() -> None:
    """The answer may take as long as it likes: what counts is when it was asked for."""
    life = Life()
    life.turn()
    sent = life.now
    for _ in range(3):
        assert not life.turn()
    life.won()
    lapses = [life.now for _ in range(9) if life.turn()]
    assert lapses == [pytest.approx(sent + SERVE * TTL, abs=TURN)]
    assert lapses[0] >= sent + SERVE * TTL
    assert not life.leases.good


def test_it_is_renewed_three_times_in_a_lease_and_never_lapses_while_that_is_answered() -> None:
    """A hundred turns, each renewal answered at once: it stays good."""
    life = Life().begun()
    for _ in range(100):
        before = len(life.asked)
        assert not life.turn()
        if len(life.asked) > before:
            assert not life.won()
    assert len(life.asked) == pytest.approx(100 / (TTL / 3), abs=2)


def test_a_gap_between_two_turns_counts_as_having_been_away() -> None:
    """More than a third of a lease without a turn: only a renewal sent after it makes the lease good again."""
    life = Life().begun()
    life.turn(TTL / 3 + 0.1)
    assert not life.leases.good
    away = life.leases.check_at
    assert away == inf
    assert life.won(), "it was sent after the gap"

    late = Life().begun()
    for _ in range(4):
        late.turn()
    asked = late.asked[-1]
    assert late.turn(TTL / 3 + 0.1)
    assert not late.leases.renewed(asked[0], Leased(True, asked[1].seq), late.now)
    assert not late.leases.good


def test_replies_are_checked_before_the_lease_ends_and_before_an_absence_is_overlooked() -> None:
    """`check_at` is never later than the end of the lease, nor than a third of one after the last turn."""
    life = Life().begun()
    for _ in range(8):
        life.turn()
        if life.leases.good:
            assert life.leases.check_at <= life.now + TTL / 3
            assert life.leases.check_at <= life.asked[0][0] + SERVE * TTL


def test_a_new_term_begins_with_each_lapse() -> None:
    """What was known of a record in one term says nothing in the next."""
    life = Life().begun()
    first = life.leases.term
    life.turn(TTL)
    life.turn()
    assert life.won()
    assert life.leases.term != first


def test_an_unanswered_renewal_is_sent_again_under_its_number() -> None:
    """Had the first been applied, the store says so, and the next number is right."""
    life = Life().begun()
    for _ in range(4):
        life.turn()
    at, first = life.asked[-1]
    life.leases.renewed(at, StoreFailed(None, "no answer"), life.now)
    life.turn(0.2)
    at, second = life.asked[-1]
    assert second == first
    life.leases.renewed(at, Leased(False, first.seq), life.now)
    life.turn(0.2)
    assert life.asked[-1][1].seq == first.seq + 1
    assert life.won() is False
    assert life.leases.good


def test_a_lease_that_went_back_is_renewed_from_where_it_is() -> None:
    """A late renewal of a former life let an old one of this life through again: the store's number counts."""
    life = Life().begun()
    for _ in range(9):
        life.turn()
        life.won()
    at, last = life.asked[-1]
    life.leases.renewed(at, Leased(False, last.seq - 2), life.now)
    life.turn(0.2)
    assert life.asked[-1][1].seq == last.seq - 1


def seen(leases: Leases, at: float, *rows: Lease) -> None:
    leases.lapsed(at)
    assert any(isinstance(op, ReadLeases) for op in leases.turn(at))
    leases.observed(LeaseTable(rows), at)


def test_a_lease_that_stands_still_for_long_enough_may_be_taken_from() -> None:
    """1.25 of its own length from when it was first seen so; any change begins anew."""
    leases = Leases("a", "boot-1", TTL)
    long = Lease("b", "b-1", 7, 20.0)
    seen(leases, 0.0, long)
    seen(leases, TAKE * 20.0 - 0.1, long)
    assert leases.lost == {}
    seen(leases, TAKE * 20.0 + 3, long)
    assert leases.lost["b"].seq == 7
    seen(leases, 50.0, long._replace(seq=8))
    assert leases.lost == {}
    seen(leases, 60.0, long._replace(boot="b-2"))
    seen(leases, 60.0 + TAKE * 20.0 - 1, long._replace(boot="b-2"))
    assert leases.lost == {}


def test_a_forgotten_node_is_lost_only_when_it_does_not_object() -> None:
    """What an operator wrote has to stand as long as a lease does."""
    leases = Leases("a", "boot-1", TTL)
    row = Lease("b", FORGOTTEN, 5, TTL)
    seen(leases, 0.0, row)
    assert leases.lost == {}
    seen(leases, TAKE * TTL, row)
    assert leases.lost["b"].forgotten


def test_nobody_takes_from_itself() -> None:
    """A node's own lease is not among those it watches."""
    leases = Leases("a", "boot-1", TTL)
    seen(leases, 0.0, Lease("a", "boot-0", 1, TTL))
    seen(leases, 100.0, Lease("a", "boot-0", 1, TTL))
    assert leases.lost == {}


def test_lives_count_apart() -> None:
    """A taker names a number: that of one life must not come up in another."""
    ranges = sorted(first_seq(f"boot-{number}") for number in range(200))
    assert all(b - a >= 2**30 for a, b in zip(ranges, ranges[1:], strict=False))


@pytest.mark.parametrize("owner", [0.9, 1.0, 1.1])
@pytest.mark.parametrize("taker", [0.9, 1.0, 1.1])
def test_clocks_that_are_wrong_by_a_tenth_never_overlap(owner: float, taker: float) -> None:
    """The owner has stopped, by true time, before the taker may take, whichever clock is fast."""
    stops = SERVE * TTL / owner
    takes = TAKE * TTL / taker
    assert stops < takes
