"""Containers that are sessions' own, seen by the node: starts that are shared or fail, and sessions that leave."""

from collections.abc import AsyncIterator
from itertools import count
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio

from edged.core.calls import Call
from edged.core.manifest import parse_manifest
from edged.core.records import SessionKey
from edged.daemon.deployed import Deployed, Worker
from edged.daemon.host import Container, Spec, StartFailed
from edged.daemon.link import Link
from edged.daemon.own import Own
from edged.daemon.served import Served
from edged.daemon.slots import Slots
from edged_protocol import messages as m
from edged_protocol.codec import decode


class FakeLink:
    """The container's connection."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.reason = ""

    def send(self, data: bytes) -> None:
        self.sent.append(decode(data[4:]))

    def cut(self, reason: str) -> None:
        self.reason = reason


class Seat:
    """A session that asks for a container."""

    def __init__(self, name: str) -> None:
        self.key = SessionKey("f", name)
        self.worker: Worker | None = None
        self.why = ""

    def placed(self, worker: Worker | None, why: str) -> None:
        self.worker, self.why = worker, why
        if worker is not None and worker.seats is not None:
            worker.seats.append(self)


class Rig:
    """Two slots, and a function three of whose sessions share a container; `gate` lets starts go on, and `fails` end them."""

    def __init__(self, several: bool = True) -> None:
        text = '[function]\nname = "f"\nentry = "f:fn"\n[modes]\nsessions_per_container = 3\n[calls]\nhard_limit = "10s"\n'
        self.function = Deployed(Spec(parse_manifest(text), "", ""))
        self.overran: list[Call] = []
        served = Served()
        served.functions["f"] = self.function
        self.slots = Slots(2, 0, served.versions, self.end)
        self.own = Own(served, self.slots, self.start, self.end, self.overran.append, self.answered, lambda _: None, count(1000))
        self.gate = trio.Event()
        self.fails = False
        self.several = several
        self.starts = 0
        self.ended: list[Worker] = []
        self.refused: list[tuple[Call, m.Result | m.Error]] = []

    async def start(self, function: Deployed, nursery: trio.Nursery) -> Worker:
        self.starts += 1
        await self.gate.wait()
        if self.fails:
            self.slots.failed(function)
            raise StartFailed("it does not import")
        worker = Worker(function, cast(Container, SimpleNamespace(name="f-1", kill=lambda: None)), cast(Link, FakeLink()))
        worker.several = self.several
        self.slots.started(worker)
        function.workers.add(worker)
        return worker

    def end(self, worker: Worker) -> None:
        worker.seats = None
        self.slots.ended(worker)
        self.ended.append(worker)

    def answered(self, done: list[Any], now: float) -> None:
        self.refused += [(call, message) for call, message, _ in done]

    def seats(self, *names: str) -> list[Seat]:
        found = [Seat(name) for name in names]
        for seat in found:
            self.own.place(self.function, seat.placed)
        return found

    async def started(self) -> None:
        self.gate.set()
        await trio.testing.wait_all_tasks_blocked()

    def run(self, worker: Worker | None, serial: int, session: str, chain: list[list[str]] | None = None) -> Call:
        assert worker is not None
        call = Call(None, serial, "f", session, "", None, 0.0, 1e9, b"", {"chain": chain or []})
        self.own.run(worker, call, trio.current_time())
        return call


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with trio.open_nursery() as nursery:
        rig = Rig()
        rig.own.nursery = nursery
        yield rig


def said(worker: Worker | None) -> list[Any]:
    """What a container was sent, which is forgotten."""
    assert worker is not None
    link = cast(FakeLink, worker.link)
    sent, link.sent = link.sent, []
    return sent


async def test_those_that_ask_meanwhile_share_the_start(rig: Rig) -> None:
    """Three sessions that ask before the container is there have it, the fourth has another; a seventh finds no slot."""
    seats = rig.seats(*"abcdef")
    assert (rig.starts, rig.slots.starting) == (0, 2)
    [late] = rig.seats("g")
    assert (late.worker, late.why) == (None, "all 2 container slots are taken")
    await rig.started()
    assert (rig.starts, rig.slots.starting) == (2, 0)
    assert seats[0].worker is seats[1].worker is seats[2].worker is not seats[3].worker
    assert seats[3].worker is seats[4].worker is seats[5].worker is not None
    assert rig.own.free() == {}


async def test_a_start_that_fails_is_told_to_all_that_wait_for_it(rig: Rig) -> None:
    """Each hears why, its place is free again, and the next session has a start of its own."""
    rig.fails = True
    seats = rig.seats("a", "b")
    await rig.started()
    assert [seat.why for seat in seats] == ["it does not import"] * 2
    assert not rig.function.places.free
    rig.fails = False
    [seat] = rig.seats("c")
    await rig.started()
    assert seat.worker is not None
    assert rig.own.free() == {"f": 2}


async def test_a_program_that_holds_one_session_gets_one(rig: Rig) -> None:
    """Where HELLO does not say `several`, those that would have shared it are placed anew, or refused for want of a slot."""
    rig.several = False
    seats = rig.seats(*"abcdef")
    await rig.started()
    has = [seat for seat in seats if seat.worker is not None]
    assert [seat.key.session for seat in has] == ["a", "d"]
    assert {seat.why for seat in seats if seat not in has} == {"all 2 container slots are taken"}
    for seat in has:
        assert seat.worker is not None
        assert seat.worker.turns is None, "its calls are not put off for others"
        rig.own.leave(seat.worker, seat)
    assert rig.ended == [seat.worker for seat in has]


async def test_who_leaves_takes_only_its_own(rig: Rig) -> None:
    """The container is told of the session that left and is not given its calls; with the last one it ends."""
    a, b = rig.seats("a", "b")
    await rig.started()
    assert a.worker is not None
    running, first, second = rig.run(a.worker, 1, "a"), rig.run(a.worker, 2, "a"), rig.run(b.worker, 3, "b")
    assert [message.id for message in said(a.worker)] == [1]
    rig.own.leave(a.worker, a)
    [stop] = said(a.worker)
    assert (stop.verb, stop.params) == ("worker.stop", {"session": "a"})
    assert not rig.ended
    a.worker.calls.pop(1)
    rig.own.finished(a.worker, [(running, m.Result(1, b""), 0.5)], trio.current_time())
    assert [message.id for message in said(a.worker)] == [3]
    assert (first.container, second.container) == (None, a.worker)
    rig.own.leave(a.worker, b)
    assert rig.ended == [a.worker]
    rig.own.leave(a.worker, b)
    assert rig.ended == [a.worker], "what has ended is left by nobody"


async def test_a_call_that_its_session_left_behind_has_a_hard_limit_too(rig: Rig) -> None:
    """It keeps the others waiting, and no session looks after it: its container is ended in its time."""
    a, b = rig.seats("a", "b")
    await rig.started()
    assert a.worker is not None
    call = rig.run(a.worker, 1, "a")
    rig.own.leave(a.worker, a)
    rig.run(b.worker, 2, "b")
    now = trio.current_time()
    rig.own.look_after(now + 9.0)
    assert not rig.overran
    rig.own.look_after(now + 11.0)
    assert rig.overran == [call]


async def test_a_container_that_answers_no_verb_is_ended(rig: Rig) -> None:
    """A hook that hangs keeps all its sessions waiting; it has as long as a call, each verb anew, and from the end of a
    call that it waited for."""
    a, b = rig.seats("a", "b")
    await rig.started()
    worker = a.worker
    assert worker is not None
    link = cast(FakeLink, worker.link)
    for serial, waited in ((7, 0.0), (7, 9.0), (8, 11.0), (8, 20.0)):
        worker.verbs.clear()
        worker.request(serial, "worker.snapshot", {"session": "a"}, None, lambda _: None)
        rig.own.look_after(100.0 + waited)
        assert not link.reason
    call = rig.run(worker, 1, "a")
    call.started = 120.0
    rig.own.look_after(122.0)
    assert worker.turns is not None
    worker.turns.finished([(call, 1.0)], 123.0)
    rig.own.look_after(123.0)
    rig.own.look_after(132.0)
    assert not link.reason
    rig.own.look_after(134.0)
    assert link.reason == "hard limit"


async def test_a_session_does_not_wait_for_a_call_that_waits_for_it(rig: Rig) -> None:
    """A call whose chain goes through its own container is refused; through another one it is not."""
    a, b = rig.seats("a", "b")
    await rig.started()
    refused = rig.run(b.worker, 1, "b", [["f", "a"]])
    [(call, message)] = rig.refused
    assert call is refused
    assert isinstance(message, m.Error)
    assert message.code == 201
    assert not said(b.worker)
    rig.run(b.worker, 2, "b", [["f", "elsewhere"], ["g", "a"]])
    assert len(said(a.worker)) == 1


async def test_a_stuck_container_gets_nobody_while_there_is_another(rig: Rig) -> None:
    """A session whose state would have to wait for a long call is put elsewhere; with no slot left, behind it."""
    [a] = rig.seats("a")
    await rig.started()
    call = rig.run(a.worker, 1, "a")
    call.started -= 2.0
    [b] = rig.seats("b")
    await trio.testing.wait_all_tasks_blocked()
    assert b.worker is not a.worker
    other = rig.run(b.worker, 2, "b")
    other.started -= 2.0
    [c] = rig.seats("c")
    assert c.worker is a.worker
