"""What every state store must do for owners, alarms, leases and listings: one suite, a parameter per driver."""

from dataclasses import replace
from typing import Any

import trio
from support.stores import KEY, Open, entry, loaded, lost, together, won, write

from edged.core.records import (
    MAX_PAGE,
    Forget,
    Lease,
    Leased,
    LeaseTable,
    ListAlarms,
    Listed,
    ListSessions,
    Loaded,
    Op,
    ReadLeases,
    Renew,
    SessionKey,
    Write,
    Written,
)
from edged.core.sessions.writes import close_at
from edged.daemon.stores import Store, ask

# ---- ownership


def claim(version: int, epoch: int, move: bytes, **fields: Any) -> Write:
    """A change of ownership to node-a at `epoch`."""
    op = write(version + 1, expect_epoch=epoch - 1, epoch=epoch, mode="local", owner="node-a")
    return op._replace(version=version, move=move, durable=True, state=None, **fields)


async def test_a_repeated_change_of_ownership_wins_again(opened: Open) -> None:
    """The same move at the same epoch is won each time, also after commits; it applies once."""
    async with opened() as store:
        await won(store, write(1, entry(1)))
        move = claim(1, 2, b"m" * 16, results=(entry(2),))
        await won(store, move)
        assert await won(store, move) == await won(store, move)
        commit = write(2, entry(3), expect_epoch=2, epoch=2, mode="local", owner="node-a")
        await won(store, commit)
        again = await won(store, move)
        record, results = await loaded(store)
    assert record is not None
    assert again.current == replace(record, state=None)
    assert (record.version, record.move, record.state) == (2, b"m" * 16, b"state 2")
    assert results == (entry(1), entry(2), entry(3))


async def test_another_move_to_the_same_epoch_loses(opened: Open) -> None:
    """Of two claims to one epoch the second loses and sees who has it."""
    async with opened() as store:
        await won(store, write(1))
        await won(store, claim(1, 2, b"m" * 16))
        outcome = await lost(store, claim(1, 2, b"n" * 16)._replace(owner="node-b"))
    assert outcome.current is not None
    assert (outcome.current.owner, outcome.current.move) == ("node-a", b"m" * 16)


async def test_a_move_of_an_older_epoch_is_not_won_again(opened: Open) -> None:
    """A move id repeated for another epoch is an ordinary compare-and-set."""
    async with opened() as store:
        await won(store, write(1))
        await won(store, claim(1, 2, b"m" * 16))
        await lost(store, claim(1, 2, b"m" * 16)._replace(epoch=3))


async def test_exactly_one_of_many_wins_each_version(opened: Open) -> None:
    """Forty writes of one version submitted at once: one wins, and its state is the one kept."""
    ops: list[Op] = [write(1, entry(n), state=b"%d" % n) for n in range(40)]
    async with opened() as store:
        outcomes = await together(store, ops)
        record, results = await loaded(store)
    assert [o.won for o in outcomes if isinstance(o, Written)].count(True) == 1
    assert len(outcomes) == 40
    assert record is not None
    assert results == (entry(int(record.state or b"-1")),)


async def test_concurrent_writers_lose_no_update(opened: Open) -> None:
    """Eight writers that load, add and write until they win: every addition is in the end."""

    async def add(store: Store, number: int) -> None:
        for turn in range(5):
            while True:
                record, _ = await loaded(store)
                have = int(record.state or b"") if record is not None else 0
                version = record.version if record is not None else 0
                call = entry(100 * number + turn)
                op = write(version + 1, call, state=b"%d" % (have + 1))
                outcome = await ask(store, op)
                assert isinstance(outcome, Written)
                if outcome.won:
                    break

    async with opened() as store:
        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(add, store, number)
        record, results = await loaded(store)
    assert record is not None
    assert (record.version, record.state, len(results)) == (40, b"40", 40)


# ---- alarms and leases


async def test_alarms_stay_until_others_take_their_place(opened: Open) -> None:
    """A write that says nothing of alarms keeps them, over a restart too; an empty one leaves none."""
    async with opened() as store:
        await won(store, write(1, alarms=b"a1", due=5.0))
        await won(store, write(2))
        await won(store, write(3, state=None, delta=b"d"))
    async with opened() as store:
        record = (await loaded(store)).record
        assert record is not None
        assert record.alarms == b"a1"
        await won(store, write(4, alarms=b"", due=None))
        await won(store, write(5))
    async with opened() as store:
        record = (await loaded(store)).record
        assert record is not None
        assert not record.alarms


async def test_alarms_may_be_compared_and_set(opened: Open) -> None:
    """A write that expects other alarms than are there loses, whatever the version; one that expects them wins."""
    async with opened() as store:
        await lost(store, write(1, alarms=b"a", had_alarms=b"x"))
        await won(store, write(1, alarms=b"a", had_alarms=b""))
        same = write(1, alarms=b"b", had_alarms=b"a", expect_epoch=1, expect_version=1)
        await won(store, same)
        await lost(store, same)
        await lost(store, write(2, alarms=b"c", had_alarms=b""))
        await won(store, write(2, had_alarms=b"b"))
        record = (await loaded(store)).record
        assert record is not None
        assert (record.version, record.alarms) == (2, b"b")


async def test_due_sessions_are_listed_by_their_time(opened: Open) -> None:
    """Those due before a time come in its order, with their alarms and no state; a page is bounded."""
    keys = [SessionKey("f", f"s{number}") for number in range(5)]
    async with opened() as store:
        for number, key in enumerate(keys):
            await won(store, write(1, key=key, alarms=b"%d" % number, due=1.7e9 + 10.0 - number))
        await won(store, write(1, key=SessionKey("f", "none")))
    async with opened() as store:
        found = await ask(store, ListAlarms(1.7e9 + 9.0))
        assert isinstance(found, Listed)
        assert [(key, record.alarms, record.state) for key, record in found.rows] == [
            (keys[number], b"%d" % number, None) for number in (4, 3, 2)
        ]
        first = await ask(store, ListAlarms(1.8e9, 1))
        assert isinstance(first, Listed)
        assert [key for key, _ in first.rows] == [keys[4]]
        assert await ask(store, ListAlarms(1.7e9)) == Listed(())


async def test_the_listing_follows_what_is_due(opened: Open) -> None:
    """A later time moves a session, none takes it out, as does its end; a write that loses changes nothing."""
    async with opened() as store:
        await won(store, write(1, alarms=b"a", due=10.0))
        await won(store, write(2, alarms=b"a", due=20.0))
        await lost(store, write(2, alarms=b"x", due=1.0))
        await won(store, write(3))
        assert await ask(store, ListAlarms(20.0)) == Listed(())
        found = await ask(store, ListAlarms(21.0))
        assert isinstance(found, Listed) and [key for key, _ in found.rows] == [KEY]
        await won(store, write(4, alarms=b"dead", due=None))
        assert await ask(store, ListAlarms(1e12)) == Listed(())
        await won(store, write(5, alarms=b"a", due=10.0))
        await ask(store, Forget(KEY, 1, 5))
        assert await ask(store, ListAlarms(1e12)) == Listed(())
        await won(store, write(1))
        assert await ask(store, ListAlarms(1e12)) == Listed(())


async def test_a_lease_is_a_compare_and_set(opened: Open) -> None:
    """A lease is renewed only by the next seq of its boot, or begun anew by another boot: which of two such is said by
        the seq they have seen."""
    async with opened() as store:
        steps = [
            (Renew("a", "boot-1", 5, 15.0), Leased(True, 5)),
            (Renew("a", "boot-1", 6, 15.0), Leased(True, 6)),
            (Renew("a", "boot-1", 6, 15.0), Leased(False, 6)),
            (Renew("a", "boot-1", 8, 15.0), Leased(False, 6)),
            (Renew("a", "boot-2", 1, 3.0), Leased(True, 1)),
            (Renew("a", "boot-2", 2, 3.0), Leased(True, 2)),
            (Renew("b", "boot-9", 1, 3.5, 7), Leased(False, 0)),
            (Renew("b", "boot-9", 1, 3.5, 0), Leased(True, 1)),
            (Renew("b", "boot-8", 5, 3.5, 0), Leased(False, 1)),
            (Renew("b", "boot-9", 2, 3.5, 0), Leased(True, 2)),
            (Renew("b", "boot-8", 5, 3.5, 2), Leased(True, 5)),
            (Renew("b", "boot-9", 1, 3.5, 2), Leased(False, 5)),
            (Renew("b", "boot-9", 1, 3.5, 5), Leased(True, 1)),
        ]
        for op, expect in steps:
            assert await ask(store, op) == expect
        rows = (Lease("a", "boot-2", 2, 3.0), Lease("b", "boot-9", 1, 3.5))
        assert await ask(store, ReadLeases()) == LeaseTable(rows)


async def test_a_takeover_needs_the_lease_it_watched(opened: Open) -> None:
    """A write bound to a lease applies only while that lease has that seq."""
    async with opened() as store:
        await won(store, write(1))
        await lost(store, claim(1, 2, b"m" * 16, lease=("a", 1)))
        await ask(store, Renew("a", "boot", 1, 15.0))
        await ask(store, Renew("a", "boot", 2, 15.0))
        await lost(store, claim(1, 2, b"m" * 16, lease=("a", 1)))
        await won(store, claim(1, 2, b"m" * 16, lease=("a", 2)))


# ---- listing and forgetting


async def test_sessions_are_listed_in_order_and_in_pages(opened: Open) -> None:
    """Pages follow each other by key without a gap, without states, for all or one function."""
    keys = [SessionKey(f, s) for f in ("a", "b") for s in ("1", "10", "2", "é")]
    async with opened() as store:
        await together(store, [write(1, entry(1), key=key) for key in reversed(keys)])
        whole = await ask(store, ListSessions())
        assert isinstance(whole, Listed)
        assert [key for key, _ in whole.rows] == keys
        assert all(r.state is None and r.version == 1 for _, r in whole.rows)
        found: list[SessionKey] = []
        for size in (3, 3, 2):
            page = await ask(store, ListSessions(None, found[-1] if found else None, 3))
            assert isinstance(page, Listed)
            assert len(page.rows) == size
            found += [key for key, _ in page.rows]
        assert found == keys
        one = await ask(store, ListSessions("b", SessionKey("b", "10")))
        assert isinstance(one, Listed)
        assert [key for key, _ in one.rows] == keys[6:]


async def test_a_page_is_bounded(opened: Open) -> None:
    """However many are asked for, one answer holds at most MAX_PAGE sessions."""
    keys = [SessionKey("f", f"{n:05}") for n in range(MAX_PAGE + 1)]
    async with opened() as store:
        await together(store, [write(1, key=key) for key in keys])
        page = await ask(store, ListSessions(limit=10 * MAX_PAGE))
        assert isinstance(page, Listed)
        assert [key for key, _ in page.rows] == keys[:MAX_PAGE]


async def test_a_session_can_be_forgotten(opened: Open) -> None:
    """Forgetting is a compare-and-set too; afterwards the session is new, its results gone."""
    async with opened() as store:
        await won(store, write(1, entry(1)))
        assert (await lost(store, Forget(KEY, 1, 2))).current is not None
        assert await won(store, Forget(KEY, 1, 1)) == Written(True)
        assert await loaded(store) == Loaded(None)
        assert await ask(store, ListSessions()) == Listed(())
        assert await lost(store, Forget(KEY, 1, 1)) == Written(False)
        await won(store, write(1, entry(2)))
        record, results = await loaded(store)
    assert record is not None
    assert (record.floor, results) == (False, (entry(2),))


async def test_a_session_that_ends_keeps_its_epoch_and_its_outcomes(opened: Open) -> None:
    """What is left has nothing of the session but a higher epoch and what a retry asks for; it begins again from there."""
    move = b"m" * 16
    async with opened() as store:
        await won(store, write(1, entry(1), state=b"s" * 3000, alarms=b"a", due=5.0))
        await won(store, write(2, entry(2), state=None, delta=b"d"))
        record = (await loaded(store)).record
        assert record is not None
        assert await lost(store, close_at(KEY, replace(record, alarms=b"others"), move))
        await won(store, close_at(KEY, record, move))
        await won(store, close_at(KEY, record, move))
        assert await ask(store, ListAlarms(9.0)) == Listed(())
    async with opened() as store:
        record, results = await loaded(store)
        assert record is not None and record.ended
        assert (record.epoch, record.version, record.mode, record.floor) == (2, 0, "remote", False)
        assert (record.state, record.deltas, record.alarms) == (b"", (), b"")
        assert results == (entry(1), entry(2))
        again = write(1, entry(3), expect_epoch=2, expect_version=0, epoch=2)
        await won(store, again)
        record, _ = await loaded(store)
        assert record is not None and not record.ended
        assert (record.epoch, record.version, record.state) == (2, 1, b"state 1")


async def test_a_session_may_end_without_its_outcomes(opened: Open) -> None:
    """A retry is told then that they are forgotten."""
    async with opened() as store:
        await won(store, write(1, entry(1)))
        record = (await loaded(store)).record
        assert record is not None
        await won(store, close_at(KEY, record, b"m" * 16, outcomes=False))
        record, results = await loaded(store)
    assert record is not None
    assert (results, record.floor, record.ended) == ((), True, True)
