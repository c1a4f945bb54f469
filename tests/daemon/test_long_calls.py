"""Calls that take long: what is held behind them goes on without them, and at the hard limit they end."""

from types import SimpleNamespace
from typing import cast

import pytest

from edged.core.calls import Call
from edged.core.manifest import parse_manifest
from edged.daemon.deployed import Deployed, Worker
from edged.daemon.host import Container, Spec
from edged.daemon.link import Link
from edged.daemon.long_calls import TELL_AGAIN, LongCalls
from edged_protocol import messages as m
from edged_protocol.codec import decode


class Rig:
    """One container of a function whose calls were short so far; what it is told, and what is done to it."""

    def __init__(self) -> None:
        self.function = Deployed(Spec(parse_manifest('[function]\nname = "f"\nentry = "f:fn"\n'), "", ""))
        self.sent: list[m.Message] = []
        self.did: list[str] = []
        self.fed: list[Deployed] = []
        link = SimpleNamespace(send=lambda data: self.sent.append(decode(data[4:])), cut=self.did.append)
        container = SimpleNamespace(name="f-1", kill=lambda: self.did.append("killed"), wake=lambda: self.did.append("woken"))
        self.worker = Worker(self.function, cast(Container, container), cast(Link, link))
        self.long_calls = LongCalls(lambda link: self.did.append("touched"), lambda function, now: self.fed.append(function))

    def of_the_pool(self) -> list[Call]:
        """Three calls that the container holds as its pool's."""
        pool = self.function.pool
        pool.add(self.worker, 0.0)
        for serial in range(100, 400):
            self.hand_over(a_call(serial), now=0.0)
            pool.finished(self.worker, [(self.worker.calls.pop(serial), 1e-5)], 0.0)
        calls = [a_call(serial) for serial in (1, 2, 3)]
        self.hand_over(*calls, now=1.0)
        self.sent.clear()
        assert list(self.worker.calls.values()) == calls
        return calls

    def hand_over(self, *calls: Call, now: float) -> None:
        for call in calls:
            self.function.pool.submit(call)
        for _, call in self.function.pool.assign(now):
            self.worker.invoke(call, now)


def a_call(serial: int, method: str = "") -> Call:
    return Call(None, serial, "f", None, method, None, 0.0, 9.0, b"", None)


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_what_waits_behind_a_long_call_goes_to_the_queue(rig: Rig) -> None:
    """The container is told to forget it, and the pool is fed: another container may be free. A second look takes nothing."""
    first, second, third = rig.of_the_pool()
    for _ in range(2):
        rig.long_calls.steal(first, 2.0)
    assert rig.sent == [m.Cancel(second.serial), m.Cancel(third.serial)]
    assert (rig.worker.calls, second.container, third.container) == ({first.serial: first}, None, None)
    assert rig.function.pool.queued() == [second, third]
    assert rig.did == ["touched"]
    assert rig.fed == [rig.function] * 2


def test_a_call_that_no_container_has_is_left_alone(rig: Rig) -> None:
    """It waits in a queue, or is at another node."""
    rig.long_calls.steal(a_call(1), 1.0)
    rig.long_calls.overran(a_call(1))
    assert (rig.did, rig.fed) == ([], [])


def test_a_container_is_told_of_readers_now_and_then(rig: Rig) -> None:
    """Of a session's own: as long as a reader waits that has not begun, and not with every look."""
    rig.worker.seats, rig.worker.beside = [], True
    rig.function.shared.add("peek")
    writer, reader = a_call(1), a_call(2, "peek")
    rig.worker.invoke(writer, 1.0)
    rig.long_calls.steal(writer, 1.0)
    assert rig.did == [], "nobody waits"
    rig.worker.invoke(reader, 1.0)
    for now in (1.0, 1.0 + TELL_AGAIN / 2, 1.0 + TELL_AGAIN):
        rig.long_calls.steal(writer, now)
    assert rig.did == ["woken", "woken"]
    reader.started = 1.1
    rig.long_calls.steal(writer, 2.0)
    assert rig.did == ["woken", "woken"]


@pytest.mark.parametrize("answered", [False, True])
def test_the_hard_limit_ends_the_container(rig: Rig, answered: bool) -> None:
    """Nothing else ends a handler. One that has just answered is not to blame."""
    call = a_call(1)
    rig.worker.invoke(call, 0.0)
    if answered:
        del rig.worker.calls[call.serial]
    rig.long_calls.overran(call)
    assert rig.did == ([] if answered else ["killed", "hard limit"])
