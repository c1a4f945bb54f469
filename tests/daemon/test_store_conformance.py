"""What every state store must do with records, results and restarts: one suite, a parameter per driver."""

from dataclasses import replace

import pytest
from support.stores import KEY, Open, entry, loaded, lost, together, won, write

from edged.core.records import (
    ENDED,
    MAX_DELTAS,
    MAX_INTEGER,
    Entry,
    Forget,
    Leased,
    Listed,
    ListSessions,
    Load,
    Loaded,
    Op,
    ReadLeases,
    Record,
    Renew,
    SessionKey,
    StoreFailed,
    Written,
)
from edged.daemon.stores import ask

# ---- records


async def test_a_session_nobody_wrote_is_absent(opened: Open) -> None:
    """Loading an unknown session gives no record and no results."""
    async with opened() as store:
        assert await loaded(store) == Loaded(None, ())


async def test_what_was_written_is_loaded(opened: Open) -> None:
    """Every field of a write comes back, and `current` is the record without its state."""
    op = write(
        1,
        entry(1, b"out"),
        epoch=7,
        mode="local",
        owner="node-a",
        owner_boot="boot-1",
        move=b"m" * 16,
        schema=3,
    )
    async with opened() as store:
        outcome = await won(store, op)
        record, results = await loaded(store)
    assert record is not None
    assert record.updated > 0
    expect = Record(
        7, "local", "node-a", "boot-1", 1, b"m" * 16, b"state 1", False, 3, record.updated, None
    )
    assert record == expect
    assert outcome.current == replace(record, state=None)
    assert results == (entry(1, b"out"),)


@pytest.mark.parametrize("size", [5, 3000])
async def test_deltas_lie_on_the_state_until_it_is_written_anew(opened: Open, size: int) -> None:
    """A load gives the state as it was written last and the deltas since, in order, over a restart too."""
    whole = b"w" * size
    async with opened() as store:
        await won(store, write(1, state=whole))
        for version in (2, 3):
            outcome = await won(store, write(version, state=None, delta=b"d%d" % version))
            assert outcome.current is not None
            assert outcome.current.deltas == ()
    async with opened() as store:
        await won(store, write(4, state=None, delta=b"d4" * 2000))
        record = (await loaded(store)).record
        assert record is not None
        assert (record.state, record.deltas) == (whole, (b"d2", b"d3", b"d4" * 2000))
        await won(store, write(5, state=None))
        await won(store, write(6, state=whole[::-1], delta=b"d6"))
    async with opened() as store:
        record = (await loaded(store)).record
        assert record is not None
        assert (record.version, record.state, record.deltas) == (6, whole[::-1], (b"d6",))


async def test_a_delta_needs_no_state_and_no_record_before_it(opened: Open) -> None:
    """The first write of a session may be a delta; what it lies on is then nothing."""
    async with opened() as store:
        await won(store, write(1, state=None, delta=b"d"))
    async with opened() as store:
        record = (await loaded(store)).record
        assert record is not None
        assert (record.state, record.deltas) == (None, (b"d",))


async def test_a_write_that_does_not_apply_leaves_no_delta(opened: Open) -> None:
    """A lost compare-and-set, a repeated move and a duplicate put nothing on the state."""
    async with opened() as store:
        await won(store, write(1, entry(1), move=b"m" * 16))
        await lost(store, write(3, state=None, delta=b"late"))
        await won(store, write(1, move=b"m" * 16, state=None, delta=b"again"))
        await lost(store, write(2, entry(1), state=None, delta=b"twice"))
        record = (await loaded(store)).record
        assert record is not None
        assert record.deltas == ()


async def test_deltas_are_bounded(opened: Open) -> None:
    """One more than MAX_DELTAS is refused as certainly not applied, and a state makes room again."""
    async with opened() as store:
        await won(store, write(1))
        for version in range(2, MAX_DELTAS + 2):
            await won(store, write(version, state=None, delta=b"d"))
        full = MAX_DELTAS + 2
        outcome = await ask(store, write(full, state=None, delta=b"d", alarms=b"a"))
        assert isinstance(outcome, StoreFailed)
        assert outcome.applied is False
        await won(store, write(full))
        await won(store, write(full + 1, state=None, delta=b"d"))


async def test_a_session_that_ended_leaves_no_delta_behind(opened: Open) -> None:
    """One that begins anew under the same key has neither the state nor the deltas of the old one."""
    async with opened() as store:
        await won(store, write(1, state=b"s" * 3000))
        await won(store, write(2, state=None, delta=b"d"))
        await ask(store, Forget(KEY, 1, 2))
        await won(store, write(1, state=None))
    async with opened() as store:
        record = (await loaded(store)).record
        assert record is not None
        assert (record.state, record.deltas) == (None, ())


@pytest.mark.parametrize(("epoch", "version"), [(0, 0), (0, 1), (1, 0), (1, 2), (2, 1)])
async def test_a_write_that_expects_another_record_changes_nothing(
    opened: Open, epoch: int, version: int
) -> None:
    """Compare-and-set: unless epoch and version are both as expected, nothing applies."""
    async with opened() as store:
        await won(store, write(1, entry(1)))
        before = await loaded(store)
        op = write(2, entry(2), expect_epoch=epoch, expect_version=version)
        outcome = await lost(store, op)
        assert before.record is not None
        assert outcome == Written(False, replace(before.record, state=None))
        assert await loaded(store) == before


async def test_a_write_to_an_absent_record_must_expect_nothing(opened: Open) -> None:
    """A record that is gone is not made again by who still expects it."""
    async with opened() as store:
        assert await lost(store, write(2)) == Written(False)
        assert await loaded(store) == Loaded(None)


async def test_no_state_keeps_the_state(opened: Open) -> None:
    """A write without a state commits its results and leaves the state."""
    async with opened() as store:
        await won(store, write(1))
        await won(store, write(2, entry(2), state=None))
        record, results = await loaded(store)
    assert record is not None
    assert (record.version, record.state, results) == (2, b"state 1", (entry(2),))


async def test_the_schema_belongs_to_the_state(opened: Open) -> None:
    """A write without a state changes it only where a session ends, or begins again; with one it is that state's."""
    steps = [(b"x", 2, 2), (None, 1, 2), (b"y", 3, 3), (None, 5, 3), (b"", ENDED, ENDED), (None, 4, 4), (None, ENDED, ENDED), (b"z", 1, 1)]
    async with opened() as store:
        found = []
        for version, (state, schema, _) in enumerate(steps, 1):
            await won(store, write(version, state=state, schema=schema))
            record = (await loaded(store)).record
            found.append(record and record.schema)
    assert found == [after for _, _, after in steps]


async def test_an_empty_state_is_a_state(opened: Open) -> None:
    """Empty bytes replace the state; only None keeps it."""
    async with opened() as store:
        await won(store, write(1))
        await won(store, write(2, state=b""))
        record, _ = await loaded(store)
    assert record is not None
    assert record.state == b""


async def test_a_large_state_and_a_full_window_come_back(opened: Open) -> None:
    """A state of 4 MiB with 128 results of 4 KiB is one write and one load."""
    state = bytes(range(256)) * 2**14
    results = tuple(entry(n, b"b" * 4096) for n in range(128))
    async with opened() as store:
        await won(store, write(1, *results, state=state, keep_bytes=2**20))
        record, found = await loaded(store)
    assert record is not None
    assert record.state == state
    assert found == results


async def test_the_largest_numbers_and_any_text_come_back(opened: Open) -> None:
    """Numbers up to MAX_INTEGER and keys of any characters are kept as they are."""
    key = SessionKey("f", "naïve key/机械臂 7\t\U0001f916")
    op = write(1, Entry(b"i" * 16, MAX_INTEGER, None, MAX_INTEGER), key=key)
    async with opened() as store:
        await won(store, op._replace(epoch=MAX_INTEGER, version=MAX_INTEGER))
        record, results = await loaded(store, key)
    assert record is not None
    assert (record.epoch, record.version) == (MAX_INTEGER, MAX_INTEGER)
    assert results == op.results


async def test_one_impossible_operation_costs_no_other(opened: Open) -> None:
    """An operation no store can keep is answered as certainly not applied; its neighbours apply."""
    ops: list[Op] = [
        write(1, entry(1)),
        write(1, key=SessionKey("counter", "two"), epoch=2**63),
        write(2, entry(2)),
    ]
    async with opened() as store:
        outcomes = await together(store, ops)
        record, results = await loaded(store)
    assert [type(outcome) for outcome in outcomes].count(StoreFailed) == 1
    assert next(o for o in outcomes if isinstance(o, StoreFailed)).applied is False
    assert record is not None
    assert (record.version, results) == (2, (entry(1), entry(2)))


# ---- once per call id


async def test_a_call_id_is_remembered_once(opened: Open) -> None:
    """A write with a result already remembered changes nothing and gets what is remembered."""
    async with opened() as store:
        await won(store, write(1, entry(1, b"first")))
        before = await loaded(store)
        again = Entry(entry(1).call_id, 0, b"second", 2)
        for op in (write(2, again), write(2, entry(2), again), write(9, again)):
            outcome = await lost(store, op)
            assert outcome.duplicate == entry(1, b"first")
            assert outcome.current is not None
            assert outcome.current.version == 1
        assert await loaded(store) == before


async def test_the_same_call_id_in_two_sessions_is_two_calls(opened: Open) -> None:
    """Windows of different sessions have nothing to do with each other."""
    other = SessionKey("counter", "two")
    async with opened() as store:
        await won(store, write(1, entry(1, b"a")))
        await won(store, write(1, entry(1, b"b"), key=other))
        assert (await loaded(store)).results == (entry(1, b"a"),)
        assert (await loaded(store, other)).results == (entry(1, b"b"),)


async def test_the_window_forgets_the_oldest_beyond_its_length(opened: Open) -> None:
    """Beyond `keep` results the oldest go, and from then on `floor` says so."""
    async with opened() as store:
        for version in range(1, 4):
            outcome = await won(store, write(version, entry(version), keep=3))
            assert outcome.current is not None
            assert not outcome.current.floor
        outcome = await won(store, write(4, entry(4), entry(5), keep=3))
        assert outcome.current is not None
        assert outcome.current.floor
        await won(store, write(5, keep=3))
        record, results = await loaded(store)
        assert record is not None
        assert (record.floor, results) == (True, (entry(3), entry(4), entry(5)))
        # What was forgotten may be written again: telling is the reader's part, by `floor`.
        await won(store, write(6, entry(1), keep=3))
        assert (await loaded(store)).results == (entry(4), entry(5), entry(1))


async def test_the_window_forgets_the_oldest_beyond_its_bytes(opened: Open) -> None:
    """Bodies count, oldest first, whatever the number of results; a body of None counts nothing."""
    async with opened() as store:
        await won(store, write(1, entry(1, b"x" * 60), entry(2, None), entry(3, b"x" * 40)))
        await won(store, write(2, entry(4, b""), keep_bytes=100))
        record, results = await loaded(store)
        assert record is not None
        assert (record.floor, len(results)) == (False, 4)
        await won(store, write(3, entry(5, b"y"), keep_bytes=100))
        record, results = await loaded(store)
        assert record is not None
        assert record.floor
        assert [e.version for e in results] == [2, 3, 4, 5]


async def test_a_window_may_shrink_and_grow(opened: Open) -> None:
    """A shorter window forgets at the next write; a longer one keeps the order of age."""
    async with opened() as store:
        await won(store, write(1, *(entry(n) for n in range(1, 9))))
        await won(store, write(2, entry(9), keep=2))
        assert (await loaded(store)).results == (entry(8), entry(9))
        await won(store, write(3, *(entry(n) for n in range(10, 16)), keep=128))
    async with opened() as store:
        assert (await loaded(store)).results == tuple(entry(n) for n in range(8, 16))


async def test_a_session_may_begin_anew(opened: Open) -> None:
    """A window of no length forgets everything and says so; a delta of the old state goes with it."""
    async with opened() as store:
        await won(store, write(1, entry(1), entry(2)))
        await won(store, write(2, state=None, delta=b"more"))
        await won(store, write(3, epoch=2, state=b"", keep=0)._replace(version=0))
    async with opened() as store:
        found = await loaded(store)
    assert found.record is not None
    assert found.results == ()
    record = found.record
    assert (record.epoch, record.version, record.state, record.deltas, record.floor) == (2, 0, b"", (), True)


async def test_what_has_ended_is_forgotten_unless_it_began_again(opened: Open) -> None:
    """With the epoch, the window and the place in listings; whoever would forget what has begun again is refused."""
    end = write(3, state=b"", schema=ENDED)._replace(epoch=3, version=0)
    async with opened() as store:
        await won(store, write(1, entry(1)))
        await won(store, write(2, entry(2)))
        ended = await won(store, end)
        assert ended.current is not None and ended.current.ended
        again = write(1, entry(3))._replace(expect_epoch=3, expect_version=0, epoch=3)
        await won(store, again)
        refused = await ask(store, Forget(KEY, 3, 0))
        assert isinstance(refused, Written) and not refused.won and refused.current is not None
        assert (refused.current.epoch, refused.current.version) == (3, 1)
        await won(store, end._replace(expect_epoch=3, expect_version=1, epoch=4))
        assert await ask(store, Forget(KEY, 4, 0)) == Written(True)
    async with opened() as store:
        assert await loaded(store) == Loaded(None, ())
        assert await ask(store, ListSessions()) == Listed(())
        await won(store, write(1, entry(1)))
        assert [e.call_id for e in (await loaded(store)).results] == [entry(1).call_id]


async def test_chosen_results_can_be_asked_for(opened: Open) -> None:
    """Load with call ids gives those that are remembered, and the record as always."""
    async with opened() as store:
        await won(store, write(1, entry(1, b"a"), entry(2, None), entry(3, b"c", 301)))
        asked = tuple(entry(n).call_id for n in (3, 9, 2))
        record, results = await loaded(store, KEY, asked)
        assert record is not None
        assert results == (entry(3, b"c", 301), entry(2, None))
        assert (await loaded(store, KEY, ())).results == ()


# ---- order and life


async def test_a_read_sees_every_earlier_write(opened: Open) -> None:
    """Operations submitted in one go take effect in their order, reads and listings between."""
    ops: list[Op] = [
        Load(KEY),
        write(1, entry(1)),
        Load(KEY),
        write(2, entry(2)),
        ListSessions(),
        Forget(KEY, 1, 2),
        ListSessions(),
        write(1, entry(3)),
        Load(KEY),
    ]
    async with opened() as store:
        got = await together(store, ops)
    assert got[0] == Loaded(None)
    assert isinstance(got[2], Loaded)
    assert got[2].results == (entry(1),)
    assert isinstance(got[4], Listed)
    assert got[4].rows[0][1].version == 2
    assert got[6] == Listed(())
    assert isinstance(got[8], Loaded)
    assert got[8].results == (entry(3),)


async def test_a_restart_keeps_everything(opened: Open) -> None:
    """Records, windows in their order, floors and leases are there when the store opens again."""
    async with opened() as store:
        for version in range(1, 12):
            await won(store, write(version, entry(version, b"%d" % version), keep=4))
        await won(store, write(1, entry(1, None, 301), key=SessionKey("f", "x"), state=None))
        await won(store, write(1, key=SessionKey("f", "gone")))
        await won(store, Forget(SessionKey("f", "gone"), 1, 1))
        await ask(store, Renew("a", "boot", 3, 15.0))
        reads: list[Op] = [Load(KEY), Load(SessionKey("f", "x")), ListSessions(), ReadLeases()]
        before = await together(store, reads)
    async with opened() as store:
        assert await together(store, reads) == before
        assert (await loaded(store)).results == tuple(entry(n, b"%d" % n) for n in range(8, 12))
        await won(store, write(12, entry(12), keep=4))
        assert await ask(store, Renew("a", "boot", 4, 15.0)) == Leased(True, 4)


async def test_a_store_counts_what_it_did(opened: Open) -> None:
    """Statistics say how many operations were answered and that none waits."""
    async with opened() as store:
        await together(store, [write(1), write(2), write(2)])
        counts = store.statistics()
    assert (counts.operations, counts.failed, counts.waiting, counts.waiting_bytes) == (3, 0, 0, 0)
    assert counts.problem is None
