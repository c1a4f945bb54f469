"""What a node says of itself: the store's health, its sessions, and what a stopping node tells its peers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import trio

from edged.config import parse_config
from edged.core import records as r
from edged.core.manifest import parse_manifest
from edged.daemon import conflict_verbs, watched_store
from edged.daemon.deployed import Deployed
from edged.daemon.host import Spec
from edged.daemon.link import Link
from edged.daemon.node import Node
from edged.daemon.status import introduction, status
from edged.daemon.stores import StoreStatistics
from edged_protocol import messages as m
from edged_protocol.errors import CallError, Code

WRITE = r.Write(
    key=r.SessionKey("f", "s"),
    expect_epoch=0,
    expect_version=0,
    epoch=1,
    version=1,
    mode="remote",
    owner=None,
    owner_boot=None,
    move=None,
    state=None,
    results=(),
    keep=1,
    keep_bytes=1,
    durable=True,
)


class FakeStore:
    """Answers as the test says: by the kind of operation."""

    def __init__(self) -> None:
        self.answers: dict[type, r.Outcome] = {r.ListSessions: r.Listed(())}
        self.problem: str | None = None

    def submit(self, op: r.Op, done: Callable[[r.Outcome], None]) -> None:
        outcome = self.answers.get(type(op))
        if outcome is not None:
            trio.lowlevel.current_trio_token().run_sync_soon(done, outcome)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()

    def statistics(self) -> StoreStatistics:
        return StoreStatistics("fake", self.problem, 0, 0, 0, 0, "none at all")


@pytest.fixture
async def node(nursery: trio.Nursery, tmp_path: Path) -> Node:
    """A node that serves nothing but itself."""
    node = Node(
        parse_config(
            f'[node]\nname = "n1"\ndata_dir = "{tmp_path}"\n'
            f'[listen]\naddress = "127.0.0.1:0"\nadmin = "{tmp_path}/admin.sock"\n'
        )
    )
    await nursery.start(node.run)
    return node


@pytest.fixture
def store(node: Node) -> FakeStore:
    """A store of the test's own in place of the node's."""
    fake = FakeStore()
    node.store = watched_store.WatchedStore(fake)
    return fake


def rows(*modes: r.Mode) -> r.Listed:
    """A listing of sessions in those modes."""
    return r.Listed(
        tuple(
            (
                r.SessionKey("f", str(n)),
                r.Record(1, mode, None, None, 1, None, None, False, 1, 0.0, None),
            )
            for n, mode in enumerate(modes)
        )
    )


async def test_a_store_that_answers_is_ok(node: Node, store: FakeStore) -> None:
    """Its answer is counted: remote-state sessions are those in the store that no node holds."""
    store.answers[r.ListSessions] = rows("remote", "local", "remote")
    said = await status(node)
    about = {"url": "sqlite:", "driver": "fake", "durability": "none at all"}
    assert said["store"] == {**about, "ok": True, "state": "ok"}
    assert said["sessions"] == {"local": 0, "active": 0, "remote": 2, "more": False}


async def test_a_page_that_is_full_may_not_be_all(node: Node, store: FakeStore) -> None:
    """More sessions than one page has are not counted but said to be there."""
    store.answers[r.ListSessions] = rows(*["remote"] * r.MAX_PAGE)  # type: ignore[arg-type]
    said = await status(node)
    assert said["sessions"]["remote"] == r.MAX_PAGE
    assert said["sessions"]["more"] is True


async def test_a_store_that_fails_says_why(node: Node, store: FakeStore) -> None:
    """The reason is shown, and no count is made up."""
    store.answers[r.ListSessions] = r.StoreFailed(False, "the disk is gone")
    said = await status(node)
    assert (said["store"]["ok"], said["store"]["state"]) == (False, "failing: the disk is gone")
    assert said["sessions"]["remote"] is None
    assert said["sessions"]["more"] is False


async def test_a_store_that_hangs_is_failing(
    node: Node, store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Silence is answered in time, so that an operator can always look."""
    monkeypatch.setattr(watched_store, "PROBE_SECONDS", 0.05)
    del store.answers[r.ListSessions]
    with trio.fail_after(60):
        said = await status(node)
    assert said["store"]["state"] == "failing: no answer in 0.05 s"


async def test_a_store_that_only_reads_is_failing(node: Node, store: FakeStore) -> None:
    """A full disk answers reads: the last write counts too, until one is taken again."""
    answered: list[r.Outcome] = []
    for outcome, state in (
        (r.StoreFailed(False, "no space left"), "failing: the last write: no space left"),
        (r.Written(True), "ok"),
    ):
        store.answers[r.Write] = outcome
        node.store.submit(WRITE, answered.append)
        await trio.testing.wait_all_tasks_blocked()
        assert answered[-1] is outcome
        assert (await status(node))["store"]["state"] == state


async def test_a_store_that_has_given_up_is_failing(node: Node, store: FakeStore) -> None:
    """What the driver says of itself is shown, whatever it still answers."""
    store.problem = "fsync failed"
    said = (await status(node))["store"]
    assert (said["ok"], said["state"]) == (False, "failing: fsync failed")


async def test_a_stopping_node_runs_nothing_for_others(node: Node) -> None:
    """Its peers hear of no function, whatever slots it has, and it takes no session any more."""
    version = Deployed(Spec(parse_manifest('[function]\nname = "f"\nentry = "f:fn"\n[modes]\nsessions_per_container = 8\n'), "", ""))
    node.workers.served.functions["f"] = version
    version.places.take("a container")
    before = introduction(node)
    assert (before["functions"], before["containers"], before["places"]) == (["f"], [0, 8], {"f": 7})
    node.workers.served.functions.clear()
    await node.stop()
    node.workers.served.functions["f"] = version
    after = introduction(node)
    assert (after["functions"], after["containers"]) == ([], [0, 8])
    key = r.SessionKey("f", "s")
    attempts: tuple[Callable[[], Any], ...] = (
        lambda: node.moves.move(key, "localize", ""),
        lambda: node.moves.invited(key, {"move": b""}, None, lambda *_: None),
    )
    for attempt in attempts:
        with pytest.raises(CallError) as caught:
            await attempt()
        assert caught.value.code == Code.DRAINING


async def test_a_node_is_forgotten_that_was_heard_of(node: Node, store: FakeStore) -> None:
    """A lease in the store, or a session that names it, is enough; a name that is nowhere is a mistake."""
    store.answers[r.ReadLeases] = r.LeaseTable(())
    store.answers[r.Renew] = r.Leased(True, 1)

    async def forgotten(name: str) -> bool:
        try:
            await conflict_verbs.node_forget(node, cast(Link, None), m.Request(1, "node.forget", {"node": name}))
        except CallError as error:
            assert (error.code, error.meta["not_found"]) == (Code.BAD_REQUEST, True)
            return False
        return True

    assert not await forgotten("n7")
    record = r.Record(1, "local", "n7", "b", 1, None, None, False, 1, 0.0, None)
    store.answers[r.ListSessions] = r.Listed(((r.SessionKey("f", "s"), record),))
    assert await forgotten("n7")
