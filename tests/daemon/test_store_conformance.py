"""What every state store must do, whichever driver it is: one suite, a parameter per driver.

A new driver is one more entry in DRIVERS: an async context manager that opens the store of a path.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from support.redis_server import RedisServer

from edged.core.records import (
    MAX_DELTAS,
    MAX_INTEGER,
    MAX_PAGE,
    Entry,
    Forget,
    Lease,
    Leased,
    LeaseTable,
    ListAlarms,
    Listed,
    ListSessions,
    Load,
    Loaded,
    Op,
    Outcome,
    ReadLeases,
    Record,
    Renew,
    SessionKey,
    StoreFailed,
    Write,
    Written,
)
from edged.core.sessions.writes import close_at
from edged.daemon.stores import Store, ask, open_store
from edged.daemon.stores.mesh import Answer, MeshStore, serve
from edged.daemon.stores.sqlite import SqliteStore
from edged.daemon.timers import Timers
from edged_protocol.codec import decode, encode
from edged_protocol.messages import Error, Reply, Request


@asynccontextmanager
async def sqlite(path: Path) -> AsyncIterator[Store]:
    """The embedded store."""
    async with trio.open_nursery() as nursery:
        store = SqliteStore(path / "store.db")
        await nursery.start(store.run)
        yield store
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def mesh(path: Path) -> AsyncIterator[Store]:
    """The embedded store, asked by another node in real frames."""
    async with sqlite(path) as served, trio.open_nursery() as nursery:
        timers = Timers()
        nursery.start_soon(timers.run)
        store = MeshStore(over_the_wire(served), timers, deadline=60)
        await nursery.start(store.run)
        yield store
        nursery.cancel_scope.cancel()


def over_the_wire(served: Store) -> Callable[..., bool]:
    """A connection between two nodes that carries every message as the bytes of its frame."""
    token = trio.lowlevel.current_trio_token()

    def send(verb: str, params: dict[str, Any], blob: bytes | None, answer: Answer) -> bool:
        request = decode(encode(Request(1, verb, params, blob))[4:])
        assert isinstance(request, Request)

        def reply(message: Reply | Error) -> None:
            received = decode(encode(message)[4:])
            assert isinstance(received, Reply | Error)
            token.run_sync_soon(answer, received)

        serve(served, request.verb, request.params, request.blob, reply)
        return True

    return send


@asynccontextmanager
async def redis(path: Path) -> AsyncIterator[Store]:
    """A Redis server of its own, begun again with the files of its former life."""
    server = RedisServer(path / "redis").start()
    try:
        async with trio.open_nursery() as nursery:
            store = open_store(server.url, path, reach=None, timers=None)  # type: ignore[arg-type]
            await nursery.start(store.run)
            yield store
            nursery.cancel_scope.cancel()
    finally:
        server.kill()


DRIVERS: dict[str, Callable[[Path], AbstractAsyncContextManager[Store]]] = {
    "sqlite": sqlite,
    "mesh": mesh,
    "redis": redis,
}

Open = Callable[[], AbstractAsyncContextManager[Store]]

KEY = SessionKey("counter", "one")


@pytest.fixture(params=sorted(DRIVERS))
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens the driver's store; a second time, what the first left behind."""
    return lambda: DRIVERS[request.param](tmp_path)


def entry(number: int, body: bytes | None = b"", code: int = 0) -> Entry:
    """The outcome of call `number`."""
    return Entry(number.to_bytes(16, "big"), code, body, number)


def write(version: int, *results: Entry, key: SessionKey = KEY, **fields: Any) -> Write:
    """The commit of `version` of a remote-state session, on top of the version before."""
    first = Write(
        key=key,
        expect_epoch=0 if version == 1 else 1,
        expect_version=version - 1,
        epoch=1,
        version=version,
        mode="remote",
        owner=None,
        owner_boot=None,
        move=None,
        state=b"state %d" % version,
        results=results,
        keep=128,
        keep_bytes=65536,
        durable=False,
    )
    return first._replace(**fields)


async def won(store: Store, op: Op) -> Written:
    """Do `op`, which must win."""
    outcome = await ask(store, op)
    assert isinstance(outcome, Written)
    assert outcome.won
    return outcome


async def lost(store: Store, op: Op) -> Written:
    """Do `op`, which must lose."""
    outcome = await ask(store, op)
    assert isinstance(outcome, Written)
    assert not outcome.won
    return outcome


async def loaded(store: Store, key: SessionKey = KEY, asked: Any = None) -> Loaded:
    """What the store has of a session."""
    outcome = await ask(store, Load(key, asked))
    assert isinstance(outcome, Loaded)
    return outcome


async def together(store: Store, ops: list[Op]) -> list[Outcome]:
    """Submit all before any is answered."""
    outcomes: list[Outcome] = []
    finished = trio.Event()

    def done(outcome: Outcome) -> None:
        outcomes.append(outcome)
        if len(outcomes) == len(ops):
            finished.set()

    for op in ops:
        store.submit(op, done)
    assert not outcomes
    await finished.wait()
    return outcomes


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


async def test_chosen_results_can_be_asked_for(opened: Open) -> None:
    """Load with call ids gives those that are remembered, and the record as always."""
    async with opened() as store:
        await won(store, write(1, entry(1, b"a"), entry(2, None), entry(3, b"c", 301)))
        asked = tuple(entry(n).call_id for n in (3, 9, 2))
        record, results = await loaded(store, KEY, asked)
        assert record is not None
        assert results == (entry(3, b"c", 301), entry(2, None))
        assert (await loaded(store, KEY, ())).results == ()


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


# ---- leases


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
    """A lease is renewed only by the next seq of its boot, or begun anew by another boot."""
    async with opened() as store:
        steps = [
            (Renew("a", "boot-1", 5, 15.0), Leased(True, 5)),
            (Renew("a", "boot-1", 6, 15.0), Leased(True, 6)),
            (Renew("a", "boot-1", 6, 15.0), Leased(False, 6)),
            (Renew("a", "boot-1", 8, 15.0), Leased(False, 6)),
            (Renew("a", "boot-2", 1, 3.0), Leased(True, 1)),
            (Renew("a", "boot-2", 2, 3.0), Leased(True, 2)),
            (Renew("b", "boot-9", 1, 3.5), Leased(True, 1)),
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
