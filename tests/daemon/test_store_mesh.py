"""A store on another node: what happens to an operation when the answer is late, lost or nonsense."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
import trio.testing

from edged.core.records import (
    Leased,
    Load,
    Loaded,
    Op,
    Outcome,
    Renew,
    SessionKey,
    StoreFailed,
)
from edged.daemon.stores import ask
from edged.daemon.stores.interface import MAX_WAITING, Done, StoreStatistics
from edged.daemon.stores.mesh import DEADLINE, Answer, MeshStore, serve
from edged.daemon.stores.wire import outcome_to_wire
from edged.daemon.timers import Timers
from edged_protocol.errors import Code
from edged_protocol.messages import Error, Reply

LOAD = Load(SessionKey("f", "s"))


class Peer:
    """The other node, which answers when the test says so."""

    def __init__(self) -> None:
        self.connected = True
        self.answers: list[Answer] = []

    def __call__(
        self, verb: str, params: dict[str, Any], blob: bytes | None, answer: Answer
    ) -> bool:
        assert verb in ("store.load", "store.renew")
        if self.connected:
            self.answers.append(answer)
        return self.connected


@pytest.fixture
def peer() -> Peer:
    """The serving node."""
    return Peer()


@pytest.fixture
async def store(peer: Peer, nursery: trio.Nursery) -> AsyncIterator[MeshStore]:
    """A store served by `peer`."""
    timers = Timers()
    nursery.start_soon(timers.run)
    made = MeshStore(peer, timers)
    await nursery.start(made.run)
    yield made


async def test_without_a_connection_nothing_was_applied(store: MeshStore, peer: Peer) -> None:
    """An operation that could not be sent is answered so, and never within submit."""
    peer.connected = False
    outcomes: list[Outcome] = []
    store.submit(LOAD, outcomes.append)
    assert outcomes == []
    await trio.testing.wait_all_tasks_blocked()
    assert outcomes == [StoreFailed(False, "the node that serves the store is not connected")]


async def test_an_answer_in_time_counts(store: MeshStore, peer: Peer, autojump_clock: Any) -> None:
    """The first answer is the outcome; the deadline that passes later is not a second one."""
    outcomes: list[Outcome] = []
    store.submit(LOAD, outcomes.append)
    peer.answers[0](Reply(0, *outcome_to_wire(Loaded(None))))
    assert outcomes == [Loaded(None)]
    await trio.sleep(2 * DEADLINE)
    assert outcomes == [Loaded(None)]
    assert store.statistics().waiting == 0


async def test_a_late_answer_is_harmless(store: MeshStore, peer: Peer, autojump_clock: Any) -> None:
    """After the deadline the outcome is unknown; the answer that comes then changes nothing."""
    began = trio.current_time()
    outcome = await ask(store, LOAD)
    assert outcome == StoreFailed(None, "no answer from the store in 2 s")
    assert trio.current_time() - began == pytest.approx(DEADLINE)
    peer.answers[0](Reply(0, *outcome_to_wire(Loaded(None))))
    counts = store.statistics()
    assert (counts.operations, counts.failed, counts.waiting_bytes) == (1, 1, 0)


@pytest.mark.parametrize(
    ("message", "applied"),
    [
        (None, None),
        (Error(0, Code.STORE_UNAVAILABLE, "no store here"), False),
        (Error(0, Code.BAD_REQUEST, "what?"), False),
        (Error(0, Code.NODE_LOST, "gone"), None),
        (Error(0, Code.INTERNAL, "a defect"), None),
        (Reply(0, {"kind": "loaded"}), None),
        (Reply(0, "nonsense"), None),
        (Reply(0, {"kind": "failed", "applied": False, "reason": "full"}), False),
        (Reply(0, {"kind": "failed", "applied": None, "reason": "disk"}), None),
    ],
)
async def test_each_way_to_fail_says_whether_it_may_have_applied(
    store: MeshStore, peer: Peer, message: Reply | Error | None, applied: bool | None
) -> None:
    """Only what certainly did not reach the store is certainly not applied."""
    outcomes: list[Outcome] = []
    store.submit(LOAD, outcomes.append)
    peer.answers[0](message)
    assert isinstance(outcomes[0], StoreFailed)
    assert outcomes[0].applied is applied
    assert outcomes[0].reason


async def test_operations_under_way_are_bounded(store: MeshStore, peer: Peer) -> None:
    """Beyond the bound nothing is sent, and the operation is answered as not applied."""
    outcomes: list[Outcome] = []
    for _ in range(MAX_WAITING + 1):
        store.submit(Renew("a", "b", 1, 3.0), outcomes.append)
    assert len(peer.answers) == MAX_WAITING
    await trio.testing.wait_all_tasks_blocked()
    assert [o.applied for o in outcomes if isinstance(o, StoreFailed)] == [False]


async def test_at_the_end_everybody_is_told(peer: Peer) -> None:
    """A cancelled store answers what waits as unknown, once."""
    outcomes: list[Outcome] = []
    async with trio.open_nursery() as nursery:
        store = MeshStore(peer, Timers())
        await nursery.start(store.run)
        store.submit(LOAD, outcomes.append)
        nursery.cancel_scope.cancel()
    assert outcomes == [StoreFailed(None, "the store is closed")]
    peer.answers[0](None)
    assert len(outcomes) == 1


class Kept:
    """A store that notes what it is asked and says that it won."""

    def __init__(self) -> None:
        self.asked: list[Op] = []

    def submit(self, op: Op, done: Done) -> None:
        """Answer at once."""
        self.asked.append(op)
        done(Leased(True, 1))

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Nothing to do."""

    def statistics(self) -> StoreStatistics:
        """Nothing to count."""
        return StoreStatistics("kept", None, 0, 0, 0, 0)


def test_a_bad_request_does_not_reach_the_store() -> None:
    """The serving node refuses what is no operation with 201, in words."""
    store = Kept()
    answers: list[Reply | Error] = []
    serve(store, "store.renew", {"node": "a", "boot": "b", "seq": -1}, None, answers.append)
    serve(store, "store.drop", {}, None, answers.append)
    assert store.asked == []
    assert [a.code for a in answers if isinstance(a, Error)] == [Code.BAD_REQUEST] * 2
    assert isinstance(answers[0], Error)
    assert answers[0].message.startswith("seq: ")


def test_a_request_is_answered_with_the_outcome() -> None:
    """The serving node hands the operation to its store and the outcome back."""
    store = Kept()
    answers: list[Reply | Error] = []
    params = {"node": "a", "boot": "b", "seq": 1, "ttl": 3}
    serve(store, "store.renew", params, None, answers.append)
    assert store.asked == [Renew("a", "b", 1, 3.0)]
    assert answers == [Reply(0, {"kind": "leased", "won": True, "seq": 1})]
