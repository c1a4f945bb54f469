"""The embedded store against a plain dictionary: batches of any operations, restarts, a tiny cache."""

import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edged.core.records import (
    Entry,
    Forget,
    Lease,
    Leased,
    LeaseTable,
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
from edged.core.row import expected, repeated
from edged.daemon.stores import database
from edged.daemon.stores.database import Database


@dataclass
class Kept:
    """What the model knows of a session."""

    epoch: int
    version: int
    move: bytes | None
    state: bytes | None
    owner: str | None
    floor: bool = False
    results: list[Entry] = field(default_factory=list)
    deltas: tuple[bytes, ...] = ()


class Model:
    """The store as its description reads, in the plainest code."""

    def __init__(self) -> None:
        self.sessions: dict[SessionKey, Kept] = {}
        self.leases: dict[str, tuple[str, int]] = {}

    def write(self, op: Write) -> tuple[bool, Entry | None]:
        """Whether `op` wins, and the result it repeats."""
        have = self.sessions.get(op.key)
        if have and op.move is not None and (have.move, have.epoch) == (op.move, op.epoch):
            return True, None
        for new in op.results:
            for old in have.results if have else []:
                if old.call_id == new.call_id:
                    return False, old
        if op.lease and self.leases.get(op.lease[0], ("", -1))[1] != op.lease[1]:
            return False, None
        if ((have.epoch, have.version) if have else (0, 0)) != (op.expect_epoch, op.expect_version):
            return False, None
        self.sessions[op.key] = self.written(op, have)
        return True, None

    def written(self, op: Write, have: Kept | None) -> Kept:
        """The session after `op`."""
        move = op.move if op.move is not None or not have else have.move
        state = op.state if op.state is not None or not have else have.state
        deltas = have.deltas if have and op.state is None else ()
        deltas += () if op.delta is None else (op.delta,)
        floor = have.floor if have else False
        results = [*(have.results if have else []), *op.results]
        while len(results) > op.keep or sum(len(e.body or b"") for e in results) > op.keep_bytes:
            del results[0]
            floor = True
        return Kept(op.epoch, op.version, move, state, op.owner, floor, results, deltas)


KEYS = [SessionKey(f, s) for f in ("f", "g") for s in ("1", "2")]
keys = st.sampled_from(KEYS)
small = st.integers(0, 2)
results = st.lists(
    st.builds(
        Entry,
        st.integers(0, 12).map(lambda n: n.to_bytes(16, "big")),
        st.sampled_from([0, 301]),
        st.none() | st.binary(max_size=8),
        small,
    ),
    max_size=4,
    unique_by=lambda e: e.call_id,
)


class Comparison(RuleBasedStateMachine):
    """Batches of operations, each compared with the model one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.path = Path(self.directory.name) / "store.db"
        self.database = Database(self.path)
        self.model = Model()
        self.batch: list[tuple[Op, Outcome | tuple[bool, Entry | None]]] = []

    @rule(
        key=keys,
        expect=st.none() | st.tuples(small, small),
        epoch=small,
        version=small,
        move=st.none() | st.sampled_from([b"m" * 16, b"n" * 16]),
        state=st.none() | st.binary(max_size=4) | st.just(b"x" * 3000),
        delta=st.none() | st.binary(max_size=4),
        results=results,
        keep=st.integers(0, 6),
        keep_bytes=st.integers(0, 30),
        lease=st.none() | st.tuples(st.sampled_from("ab"), small),
        durable=st.booleans(),
    )
    def write(
        self,
        key: SessionKey,
        expect: tuple[int, int] | None,
        epoch: int,
        version: int,
        move: bytes | None,
        state: bytes | None,
        delta: bytes | None,
        results: list[Entry],
        keep: int,
        keep_bytes: int,
        lease: tuple[str, int] | None,
        durable: bool,
    ) -> None:
        """A write that mostly expects what is there."""
        have = self.model.sessions.get(key)
        if expect is None:
            expect = (have.epoch, have.version) if have else (0, 0)
        op = Write(
            key,
            *expect,
            epoch,
            version,
            "local" if move else "remote",
            "node" if move else None,
            None,
            move,
            state,
            tuple(results),
            keep,
            keep_bytes,
            durable,
            1,
            lease,
            delta,
        )
        self.batch.append((op, self.model.write(op)))

    @rule(key=keys, asked=st.none() | st.lists(st.integers(0, 12), max_size=3, unique=True))
    def load(self, key: SessionKey, asked: list[int] | None) -> None:
        """A load, of all results or of some."""
        ask = None if asked is None else tuple(n.to_bytes(16, "big") for n in asked)
        self.batch.append((Load(key, ask), self.loaded(key, ask)))

    def loaded(self, key: SessionKey, ask: tuple[bytes, ...] | None) -> Loaded:
        """What a load gives by the model."""
        have = self.model.sessions.get(key)
        if have is None:
            return Loaded(None)
        by_id = {e.call_id: e for e in have.results}
        found = have.results if ask is None else [by_id[i] for i in ask if i in by_id]
        return Loaded(self.record(have, have.state, have.deltas), tuple(found))

    def record(self, have: Kept, state: bytes | None, deltas: tuple[bytes, ...] = ()) -> Record:
        """The model's session as a record; `updated` is not compared."""
        mode = "local" if have.owner else "remote"
        return Record(
            have.epoch,
            mode,  # type: ignore[arg-type]
            have.owner,
            None,
            have.version,
            have.move,
            state,
            have.floor,
            1,
            0.0,
            None,
            deltas,
        )

    @rule(key=keys, right=st.booleans())
    def forget(self, key: SessionKey, right: bool) -> None:
        """A session ended, with the right expectation or a wrong one."""
        have = self.model.sessions.get(key)
        now = (have.epoch, have.version) if have else (0, 0)
        op = Forget(key, now[0], now[1] if right else now[1] + 1)
        if right:
            self.model.sessions.pop(key, None)
        self.batch.append((op, (right, None)))

    @rule(
        function=st.none() | st.sampled_from("fg"), after=st.none() | keys, limit=st.integers(1, 5)
    )
    def listing(self, function: str | None, after: SessionKey | None, limit: int) -> None:
        """A page of sessions."""
        rows = [
            (key, self.record(have, None))
            for key, have in sorted(self.model.sessions.items())
            if (function is None or key.function == function) and (after is None or key > after)
        ]
        self.batch.append((ListSessions(function, after, limit), Listed(tuple(rows[:limit]))))

    @rule(node=st.sampled_from("ab"), boot=st.sampled_from("xy"), seq=small, over=st.none() | small)
    def renew(self, node: str, boot: str, seq: int, over: int | None) -> None:
        """A lease renewed, or not."""
        have_boot, have = self.model.leases.get(node, ("", 0))
        won = have == seq - 1 if have_boot == boot else over in (None, have)
        if won:
            self.model.leases[node] = (boot, seq)
        outcome = Leased(won, seq if won else have)
        self.batch.append((Renew(node, boot, seq, 3.0, over), outcome))

    @rule()
    def leases(self) -> None:
        """All leases."""
        rows = tuple(Lease(n, b, s, 3.0) for n, (b, s) in sorted(self.model.leases.items()))
        self.batch.append((ReadLeases(), LeaseTable(rows)))

    @precondition(lambda self: self.batch)
    @rule(impossible=st.booleans())
    def commit(self, impossible: bool) -> None:
        """The batch so far, perhaps with an operation in it that no database can hold."""
        batch, self.batch = self.batch, []
        ops: list[Op] = [op for op, _ in batch]
        if impossible:
            outcome = self.database.apply([*ops, Renew("c", "z", 2**70, 1.0)])
            assert outcome.pop() == StoreFailed(
                False, "Python int too large to convert to SQLite INTEGER"
            )
        else:
            outcome = self.database.apply(ops)
        for (op, expect), got in zip(batch, outcome, strict=True):
            self.compare(op, expect, got)

    def compare(self, op: Op, expect: object, got: Outcome) -> None:
        """One outcome against the model's."""
        if isinstance(got, Written):
            assert (got.won, got.duplicate) == expect, op
            assert got.current is None or (got.current.state, got.current.deltas) == (None, ())
            return
        if isinstance(got, Loaded) and got.record is not None:
            got = got._replace(record=timeless(got.record))
        if isinstance(got, Listed):
            got = Listed(tuple((key, timeless(record)) for key, record in got.rows))
        assert got == expect, op

    @precondition(lambda self: not self.batch)
    @rule()
    def restart(self) -> None:
        """The store opened anew."""
        self.database.close()
        self.database = Database(self.path)

    @invariant()
    def memory_is_counted_right(self) -> None:
        """The bytes counted for the cache are those of its rows."""
        held = sum(row.size for row in self.database._rows.values())
        assert self.database._held == held

    def teardown(self) -> None:
        """The last batch, and everything once more from the file."""
        if self.batch:
            self.commit(False)
        self.restart()
        for key in KEYS:
            self.load(key, None)
        self.commit(False)
        self.database.close()
        self.directory.cleanup()


def timeless(record: Record) -> Record:
    """`record` without its time, and with nothing else changed."""
    assert record.updated > 0
    return replace(record, updated=0.0)


few = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestDatabase = Comparison.TestCase
TestDatabase.settings = few


class WithoutCache(Comparison):
    """The same, every row read from the file again in each batch."""

    def __init__(self) -> None:
        self.before = database.CACHE_BYTES
        database.CACHE_BYTES = 0
        super().__init__()

    def teardown(self) -> None:
        """As always, and the cache back to its size."""
        super().teardown()
        database.CACHE_BYTES = self.before


TestDatabaseWithoutCache = WithoutCache.TestCase
TestDatabaseWithoutCache.settings = few


def test_the_cache_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many sessions are written, the rows kept in memory stay below the bound."""
    monkeypatch.setattr(database, "CACHE_BYTES", 50_000)
    store = Database(tmp_path / "store.db")
    for n in range(20):
        ops = [a_write(SessionKey("f", f"{n} {m}"), 0, 1) for m in range(10)]
        store.apply(ops)
        assert sum(row.size for row in store._rows.values()) <= 50_000
    outcome = store.apply([Load(SessionKey("f", "0 0"))])[0]
    assert isinstance(outcome, Loaded)
    assert outcome.record is not None
    store.close()


def a_write(key: SessionKey, expect: int, version: int, move: bytes | None = None) -> Write:
    """A write of a kilobyte at epoch 1."""
    epoch = 1 if expect else 0
    rest = (1, version, "local", "a", "boot", move, b"s" * 1000, (), 8, 1000, False)
    return Write(key, epoch, expect, *rest)  # type: ignore[arg-type]


@pytest.mark.parametrize("have", [None, (0, 0), (1, 1), (1, 2), (2, 1)])
@pytest.mark.parametrize("expect", [(0, 0), (1, 1)])
def test_only_the_expected_record_is_replaced(
    have: tuple[int, int] | None, expect: tuple[int, int]
) -> None:
    """Over the whole grid: both numbers equal, or both zero for a record that is absent."""
    record = a_record(*have, None) if have else None
    assert expected(Forget(KEYS[0], *expect), record) is ((have or (0, 0)) == expect)


@pytest.mark.parametrize("epoch", [0, 1, 2])
@pytest.mark.parametrize("moved", [None, b"m" * 16, b"n" * 16])
@pytest.mark.parametrize("move", [None, b"m" * 16])
def test_only_the_same_move_to_the_same_epoch_is_a_repetition(
    epoch: int, moved: bytes | None, move: bytes | None
) -> None:
    """Over the whole grid: a repetition has a move, the record's move, and the record's epoch."""
    op = a_write(KEYS[0], 0, 1, move)
    same = move == moved == b"m" * 16 and epoch == 1
    assert repeated(op, a_record(epoch, 1, moved)) is same
    assert not repeated(op, None)


def a_record(epoch: int, version: int, move: bytes | None) -> Record:
    """A record with these."""
    return Record(epoch, "remote", None, None, version, move, None, False, 1, 1.0, None)
