"""Both fronts of the client library against three real daemons, one of which is killed under load."""

import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from support.dev_mesh import dev_mesh

from edged_protocol import blocking, trio_client
from edged_protocol.blocking import Pending
from edged_protocol.client import Statistics
from edged_protocol.errors import RanError

COUNTER = Path(__file__).parents[2] / "configs" / "functions" / "counter"
PATIENCE = 60.0
"""Seconds for a call, on a machine with other work: the answer counts here, not its time."""

SESSIONS = 50
EACH_FRONT = 30
"""Calls of each session by each front: together fewer than a session remembers, so that no repeat is refused."""

IN_FLIGHT = 250
"""Of each front."""


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[dict[str, Any]]]:
    """Three nodes with counter deployed; the store is on the first."""
    with dev_mesh(3, tmp_path, "counter") as rows:
        yield rows


class Load:
    """Increments by both fronts; `seen` are the values each session answered with."""

    def __init__(self, brokers: list[str]) -> None:
        self.brokers = brokers
        self.seen: dict[str, list[int]] = {f"s{n}": [] for n in range(SESSIONS)}
        self.answered = Counter[str]()
        self.under_way = Counter[str]()
        self.connections = Counter[str]()
        self.repeated = Counter[str]()
        self.full = threading.Event()

    def note(self, front: str, session: str, value: int) -> None:
        """An answer."""
        self.seen[session].append(value)
        self.answered[front] += 1
        self.under_way[front] -= 1

    def _book(self, front: str, said: Statistics) -> None:
        self.connections[front], self.repeated[front] = said.connections, said.repeated

    def block(self) -> None:
        """The blocking front, in a thread of its own."""
        with blocking.connect(self.brokers, name="blocking") as mesh:
            started: deque[tuple[str, Pending]] = deque()
            for _ in range(EACH_FRONT):
                for session in self.seen:
                    pending = mesh.session("counter", session).start("incr", timeout=PATIENCE)
                    started.append((session, pending))
                    self.under_way["blocking"] += 1
                    if len(started) >= IN_FLIGHT:
                        self._settle(started)
            while started:
                self._settle(started)
            self._book("blocking", mesh.statistics())

    def _settle(self, started: deque[tuple[str, Pending]]) -> None:
        session, pending = started.popleft()
        self.note("blocking", session, pending.result())

    async def swim(self) -> None:
        """The trio front: a task for each call in flight."""
        tasks = IN_FLIGHT // SESSIONS
        async with trio_client.connect(self.brokers, name="trio") as mesh:
            async with trio.open_nursery() as nursery:
                for session in self.seen:
                    for _ in range(tasks):
                        nursery.start_soon(self._count, mesh, session, EACH_FRONT // tasks)
            self._book("trio", mesh.statistics())

    async def _count(self, mesh: trio_client.Mesh, session: str, times: int) -> None:
        counter = mesh.session("counter", session)
        for _ in range(times):
            self.under_way["trio"] += 1
            self.note("trio", session, await counter.call("incr", timeout=PATIENCE))

    async def kill(self, pid: int) -> None:
        """SIGKILL once each front has many answers, and 250 calls of each are under way."""
        with trio.fail_after(PATIENCE):
            while min(self.answered["trio"], self.answered["blocking"]) < 200 or not (  # noqa: ASYNC110 - a thread counts
                self.under_way["trio"] >= IN_FLIGHT - 10 <= self.under_way["blocking"]
            ):
                await trio.sleep(0.001)
        os.kill(pid, signal.SIGKILL)


async def test_each_increment_counts_once_while_a_broker_is_killed(
    nodes: list[dict[str, Any]],
) -> None:
    """500 calls in flight at a broker that is killed: the clients go on by themselves, no value is lost or doubled."""
    load = Load([nodes[2]["address"], nodes[1]["address"]])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio.to_thread.run_sync, load.block))
        nursery.start_soon(load.swim)
        nursery.start_soon(load.kill, nodes[2]["pid"])
    every = list(range(1, 2 * EACH_FRONT + 1))
    assert {session: sorted(values) for session, values in load.seen.items()} == dict.fromkeys(
        load.seen, every
    )
    assert load.connections == {"trio": 2, "blocking": 2}
    assert min(load.repeated["trio"], load.repeated["blocking"]) > 0, (
        "nothing was lost: this shows nothing"
    )
    with blocking.connect([nodes[0]["address"]], name="auditor") as mesh:
        finals = {name: mesh.session("counter", name).call("get") for name in load.seen}
    assert finals == dict.fromkeys(load.seen, 2 * EACH_FRONT)


async def test_a_client_of_one_address_survives_a_drain(nodes: list[dict[str, Any]]) -> None:
    """A node that is stopped says GOAWAY: its client goes on at a broker it learned of, without a failed call."""
    async with trio_client.connect([nodes[2]["address"]], name="device") as mesh:
        counter = mesh.session("counter", "drained")
        values = [await counter.call("incr", timeout=PATIENCE)]
        os.kill(nodes[2]["pid"], signal.SIGTERM)
        with trio.fail_after(PATIENCE):
            while mesh.statistics().connections < 2:
                values.append(await counter.call("incr", timeout=PATIENCE))
        values.append(await counter.call("incr", timeout=PATIENCE))
        assert mesh.statistics().broker in (nodes[0]["address"], nodes[1]["address"])
    assert values == list(range(1, len(values) + 1))


def test_a_repeated_call_id_and_an_error_reach_the_caller(nodes: list[dict[str, Any]]) -> None:
    """The id of an earlier call gets that call's answer at another broker; what the function raises is a RanError."""
    call_id = os.urandom(16)
    with blocking.connect([nodes[0]["address"]], name="one") as mesh:
        first = mesh.session("counter", "again").invoke(
            "incr", 5, call_id=call_id, timeout=PATIENCE
        )
    with blocking.connect([nodes[1]["address"]], name="two") as mesh:
        again = mesh.session("counter", "again").invoke(
            "incr", 5, call_id=call_id, timeout=PATIENCE
        )
        with pytest.raises(RanError) as caught:
            mesh.session("counter", "again").call("incr", "no number", timeout=PATIENCE)
        assert mesh.session("counter", "again").call("get", timeout=PATIENCE) == 5
    assert (first.value, again.value, again.meta["remembered"]) == (5, 5, True)
    assert caught.value.code == 301
