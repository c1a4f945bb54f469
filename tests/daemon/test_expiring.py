"""What is left of sessions that have ended: one node of the mesh lets go of it when its time is over."""

import time
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
import trio.testing

from edged.core.records import (
    ENDED,
    ENDED_SECONDS,
    Forget,
    Listed,
    ListSessions,
    Load,
    Op,
    Outcome,
    SessionKey,
    Write,
)
from edged.core.row import Row
from edged.daemon.expiring import SELDOM, Expiring
from edged.daemon.node import Node

LIVING, OLD, FRESH, AGAIN = (SessionKey("f", name) for name in ("living", "old", "fresh", "again"))


class FakeStore:
    """Rows in memory."""

    def __init__(self) -> None:
        self.rows: dict[SessionKey, Row] = {}
        self.asked: list[Op] = []

    def put(self, key: SessionKey, schema: int, age: float, on: tuple[int, int] = (0, 0)) -> None:
        row = self.rows.setdefault(key, Row(key))
        version = 0 if schema == ENDED else on[1] + 1
        op = Write(key, *on, 3, version, "remote", None, None, None, b"", (), 9, 9999, True, schema)
        assert row.write(op, None, time.time() - age).won  # noqa: TID251 - as a store would note it

    def submit(self, op: Op, done: Any) -> None:
        self.asked.append(op)
        outcome: Outcome
        if isinstance(op, ListSessions):
            listed = [(key, row.record) for key, row in sorted(self.rows.items()) if row.record is not None]
            outcome = Listed(tuple((key, record) for key, record in listed if op.function in (None, key.function)))
        else:
            assert isinstance(op, Forget)
            if op.key == AGAIN:
                self.put(AGAIN, 1, 0.0, on=(3, 0))  # it begins again between the look and the word
            outcome = self.rows[op.key].forget(op)
        trio.lowlevel.current_trio_token().run_sync_soon(done, outcome)

    def left(self) -> set[SessionKey]:
        return {key for key, row in self.rows.items() if row.load(Load(key)).record is not None}


def a_node(store: FakeStore, others: tuple[str, ...] = ()) -> Node:
    members = [SimpleNamespace(here=True, record=SimpleNamespace(node=name)) for name in others]
    return cast(
        Node,
        SimpleNamespace(
            name="a",
            store=store,
            gossip=SimpleNamespace(core=SimpleNamespace(members=lambda: members)),
            workers=SimpleNamespace(served=SimpleNamespace(functions={}), resting=False),
            relay=SimpleNamespace(seats={}),
        ),
    )


async def test_what_has_ended_long_ago_goes(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    """Seen to stand still from one round to the next; what lives, has ended lately or begins again meanwhile stays."""
    store = FakeStore()
    for key, schema, age in ((LIVING, 1, 9e6), (OLD, ENDED, ENDED_SECONDS + 1), (FRESH, ENDED, ENDED_SECONDS - 9e4), (AGAIN, ENDED, 9e6)):
        store.put(key, schema, age)
    nursery.start_soon(Expiring(a_node(store)).run)
    await trio.sleep(SELDOM)
    assert store.left() == {LIVING, OLD, FRESH, AGAIN}
    await trio.sleep(10)
    assert store.left() == {LIVING, FRESH, AGAIN}
    assert [op.key for op in store.asked if isinstance(op, Forget)] == [AGAIN, OLD]


@pytest.mark.parametrize("others", [(), ("b", "c")])
async def test_one_node_looks(others: tuple[str, ...], nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    """The one that comes first of those that are there; all of them agree which."""
    asked = {}
    for name in ("a", *others):
        store = FakeStore()
        node = a_node(store, tuple({"a", *others} - {name}))
        node.name = name
        nursery.start_soon(Expiring(node).run)
        asked[name] = store.asked
    await trio.sleep(10)
    assert sum(bool(ops) for ops in asked.values()) == 1
