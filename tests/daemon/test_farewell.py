"""Containers that are no longer needed: told, given time, killed."""

from itertools import count
from types import SimpleNamespace
from typing import Any, cast

import trio
from trio.testing import MockClock

from edged.daemon import farewell as module
from edged.daemon.farewell import Farewell


class FakeWorker:
    """Remembers what was done to it."""

    def __init__(self, calls: tuple[int, ...] = ()) -> None:
        self.calls = dict.fromkeys(calls)
        self.gone = trio.Event()
        self.did: list[str] = []
        self.container = SimpleNamespace(kill=lambda: self.did.append("killed"))
        self.link = SimpleNamespace(flush=lambda: self.did.append("flushed"), cut=lambda reason: self.did.append("cut"))

    def request(self, serial: int, verb: str, params: dict[str, Any], blob: None, done: Any) -> None:
        self.did.append(verb)


def begun(one: Farewell, worker: FakeWorker, nursery: trio.Nursery) -> None:
    one.begin(cast(Any, worker), nursery)


async def test_a_container_that_ends_by_itself_is_waited_for(autojump_clock: MockClock) -> None:
    """It is told, and all are gone as soon as it is: before its time is over."""
    one, worker = Farewell(count(1)), FakeWorker()
    async with trio.open_nursery() as nursery:
        begun(one, worker, nursery)
        assert worker.did == ["worker.stop", "flushed"]
        await trio.sleep(module.STOP_SECONDS / 2)
        assert "killed" not in worker.did
        one.ended(cast(Any, worker))
        await one.all_gone()
        assert trio.current_time() < module.STOP_SECONDS
    assert not one.leaving


async def test_a_container_that_stays_is_killed(autojump_clock: MockClock) -> None:
    """When its time is over, whatever it does."""
    one, worker = Farewell(count(1)), FakeWorker()
    async with trio.open_nursery() as nursery:
        begun(one, worker, nursery)
    assert worker.did == ["worker.stop", "flushed", "killed", "cut"]
    assert trio.current_time() == module.STOP_SECONDS


async def test_one_that_runs_a_call_has_no_time(autojump_clock: MockClock) -> None:
    """Its session may be served elsewhere: it is killed at once."""
    one, worker = Farewell(count(1)), FakeWorker(calls=(1,))
    async with trio.open_nursery() as nursery:
        begun(one, worker, nursery)
        assert worker.did == ["killed", "cut"]


async def test_those_that_leave_are_bounded(autojump_clock: MockClock) -> None:
    """One more than there may be is killed at once."""
    one, workers = Farewell(count(1)), [FakeWorker() for _ in range(module.MOST + 1)]
    async with trio.open_nursery() as nursery:
        for worker in workers:
            begun(one, worker, nursery)
        assert [worker.did[0] for worker in workers] == ["worker.stop"] * module.MOST + ["killed"]
