"""The end of a session by its record alone: whose may be closed, and what an answer that does not come means."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio

from edged.core.leases import Lost
from edged.core.records import Load, Mode, Op, Outcome, Record, SessionKey, StoreFailed, Write
from edged.core.row import Row
from edged.daemon.ending import close
from edged_protocol.errors import CallError, Code

KEY = SessionKey("f", "s")


def write(epoch: int, version: int, mode: Mode = "remote", owner: str | None = None, *, on: tuple[int, int] = (0, 0)) -> Write:
    """Puts the record there, `on` another epoch and version."""
    boot = f"{owner}1" if owner else None
    return Write(KEY, *on, epoch, version, mode, owner, boot, None, b"state", (), 9, 9999, True)


class FakeStore:
    """One row. `before` runs once before the next write; `answer` takes the place of its outcome, applied or not."""

    def __init__(self, first: Write) -> None:
        self.row = Row(KEY)
        self.row.write(first, None, 0.0)
        self.leases: dict[str, int] = {}
        self.before: Callable[[], None] = lambda: None
        self.answer: StoreFailed | None = None
        self.applies = True

    @property
    def record(self) -> Record:
        record = self.row.load(Load(KEY, ())).record
        assert record is not None
        return record

    def submit(self, op: Op, done: Callable[[Outcome], None]) -> None:
        outcome: Outcome
        if isinstance(op, Load):
            outcome = self.row.load(op)
        else:
            assert isinstance(op, Write)
            before, self.before = self.before, lambda: None
            before()
            seq = self.leases.get(op.lease[0]) if op.lease else None
            outcome = self.row.write(op, seq, 0.0) if self.applies else StoreFailed(None, "lost")
            if self.answer is not None:
                outcome, self.answer, self.applies = self.answer, None, True
        trio.lowlevel.current_trio_token().run_sync_soon(done, outcome)


def a_node(store: FakeStore, lost: dict[str, Lost] | None = None, on_partition: str = "fence", claimed: bool = True) -> Any:
    durability = SimpleNamespace(on_partition=on_partition)
    version = SimpleNamespace(spec=SimpleNamespace(manifest=SimpleNamespace(durability=durability)))
    told: list[Any] = []
    return SimpleNamespace(
        name="a",
        boot="a2",
        store=store,
        leasing=SimpleNamespace(core=SimpleNamespace(lost=lost or {}, claimed=claimed)),
        workers=SimpleNamespace(served=SimpleNamespace(version_for=lambda *_: version)),
        router=SimpleNamespace(located=lambda *about: told.append(about)),
        alarms=SimpleNamespace(due=lambda key, at: told.append((key, at))),
        events=SimpleNamespace(note=lambda event, **about: told.append((event, about["cause"]))),
        told=told,
    )


async def closed(node: Any, **how: Any) -> int:
    """The epoch at which it has ended."""
    return await close(cast(Any, node), KEY, cause="operator", **how)


async def refused(node: Any, code: Code, **how: Any) -> CallError:
    with pytest.raises(CallError) as caught:
        await closed(node, **how)
    assert caught.value.code == code
    return caught.value


async def test_a_remote_session_ends_by_its_record() -> None:
    """Once: the second time there is none. The node forgets where it was, and when its alarms are due."""
    store = FakeStore(write(3, 7))
    node = a_node(store)
    assert await closed(node) == 4
    assert store.record.ended
    assert node.told == [(KEY, None, 4), (KEY, None), ("session.ended", "operator")]
    assert (await refused(node, Code.BAD_REQUEST)).meta["not_found"]


async def test_a_commit_that_comes_first_is_overtaken() -> None:
    """The end is tried again on what is there then; one that is for a certain state only is not."""
    for only, ends in ((None, True), ((3, 7), False)):
        store = FakeStore(write(3, 7))
        store.before = lambda store=store: store.row.write(write(3, 8, on=(3, 7)), None, 0.0)  # type: ignore[misc]
        if ends:
            assert await closed(a_node(store), only=only) == 4
        else:
            await refused(a_node(store), Code.CONFLICT, only=only)
        assert store.record.ended is ends


async def test_an_owner_that_may_live_keeps_its_session() -> None:
    """105 with its name, also when it is lost and its function holds; nothing is written."""
    store = FakeStore(write(3, 7, "local", "b"))
    error = await refused(a_node(store), Code.OWNER_UNREACHABLE)
    assert error.meta["home"] == "b"
    await refused(a_node(store, {"b": Lost(5, False)}, "hold"), Code.OWNER_UNREACHABLE)
    assert store.record.mode == "local"


@pytest.mark.parametrize(("lost", "policy"), [(Lost(5, False), "fence"), (Lost(5, True), "hold")])
async def test_a_lost_owner_s_session_ends_under_its_lease(lost: Lost, policy: str) -> None:
    """As a takeover would: only while the lease is the one that was seen to lapse."""
    store = FakeStore(write(3, 7, "local", "b"))
    store.leases["b"] = 6
    await refused(a_node(store, {"b": lost}, policy), Code.CONFLICT)
    assert not store.record.ended
    store.leases["b"] = 5
    assert await closed(a_node(store, {"b": lost}, policy)) == 4


async def test_a_former_life_of_the_node_owns_nothing() -> None:
    """What the record says of it before it was started again holds nobody up."""
    assert await closed(a_node(FakeStore(write(3, 7, "local", "a")))) == 4


async def test_what_may_be_a_living_nodes_of_this_name_is_left_alone() -> None:
    """Before this life has had a lease, another node may be called so: the session is that one's."""
    await refused(a_node(FakeStore(write(3, 7, "local", "a")), claimed=False), Code.OWNER_UNREACHABLE)


@pytest.mark.parametrize("applied", [True, False])
async def test_an_end_without_an_answer_is_looked_up(applied: bool) -> None:
    """It was applied, or is tried again: it has ended once either way."""
    store = FakeStore(write(3, 7))
    store.answer, store.applies = StoreFailed(None, "lost"), applied
    assert await closed(a_node(store)) == 4
    assert store.record.epoch == 4


async def test_an_end_that_the_store_refuses_is_none() -> None:
    """106: nothing was applied."""
    store = FakeStore(write(3, 7))
    store.answer, store.applies = StoreFailed(False, "full"), False
    await refused(a_node(store), Code.STORE_UNAVAILABLE)
    assert not store.record.ended
