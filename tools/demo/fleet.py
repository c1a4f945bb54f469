"""Simulated robot arms: each samples its own session at a rate, through a broker of its own choice.

Decides what an arm reads, when it calls, and how long it insists on an answer; writes what came back into
the ledgers. Refuses to know which node holds a session, and whether the account adds up.
"""

import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from random import Random
from typing import Any, NamedTuple

import trio
from account import Ledger

from edged_protocol.errors import CallError, Code, NotRunRetry, UnknownOutcome
from edged_protocol.trio_client import Mesh, Session, connect

PATIENCE = 20.0
"""Seconds an arm repeats a call, under the same call id, before it counts as lost."""

ATTEMPT = 5.0
"""Seconds for one of those attempts."""

PAUSE = 0.02
"""Seconds between them."""

ABNORMAL = 4.2
"""A torque above the monitor's own limit."""

WATCHED = 7
"""The arm that turns abnormal."""


class Point(NamedTuple):
    """One answered call: when, after how long, and who ran it."""

    at: float
    seconds: float
    mode: str
    node: str


class Caller:
    """The calls of one session from one connection, one after another."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.points: list[Point] = []
        self._epoch = 0

    async def call(self, session: Session, method: str, *args: Any) -> Any:
        """Insist on an answer; its value, or None when it was given up. Every outcome is booked."""
        self.ledger.asked += 1
        began = trio.current_time()
        call_id = os.urandom(16)
        while True:
            try:
                answer = await session.invoke(method, *args, call_id=call_id, timeout=ATTEMPT)
                break
            except CallError as error:
                if self._final(error) or trio.current_time() - began > PATIENCE:
                    self.ledger.unanswered.append(str(error))
                    return None
            await trio.sleep(PAUSE)
        now = trio.current_time()
        self.points.append(Point(now, now - began, answer.mode or "", answer.node or ""))
        self.ledger.backwards += (answer.epoch or 0) < self._epoch
        self._epoch = max(self._epoch, answer.epoch or 0)
        return answer.value

    @staticmethod
    def _final(error: CallError) -> bool:
        again = isinstance(error, NotRunRetry | UnknownOutcome)
        return not again or error.code == Code.OUTCOME_FORGOTTEN


class Arm:
    """One robot arm: a torque around 1.0, or beyond the limit while it is abnormal."""

    def __init__(self, number: int, rate: float) -> None:
        self.name = f"arm-{number}"
        self.caller = Caller(Ledger(f"arm-monitor/{self.name}"))
        self.rate = rate
        self.abnormal = False
        self._noise = Random(self.name)

    async def sample(self, session: Session) -> None:
        """Read the torque and report it."""
        abnormal = self.abnormal
        reading = (ABNORMAL if abnormal else 1.0) + self._noise.uniform(-0.1, 0.1)
        said = await self.caller.call(session, "sample", reading)
        if said is not None:
            self.caller.ledger.values.append(said["n"])
            self.caller.ledger.abnormal += abnormal


class Parts:
    """The watched arm's part counter: one session that several stations count into at once."""

    def __init__(self, stations: int, rate: float) -> None:
        self.ledger = Ledger(f"counter/arm-{WATCHED}")
        self.callers = [Caller(self.ledger) for _ in range(stations)]
        self.rate = rate

    async def count(self, caller: Caller, session: Session) -> None:
        """One more part."""
        value = await caller.call(session, "incr")
        if value is not None:
            self.ledger.values.append(value)


class Fleet:
    """All arms and the part counter; `run` until `stop`, which loses no call that was begun."""

    def __init__(self, arms: int, rate: float) -> None:
        self.arms = [Arm(number, rate) for number in range(1, arms + 1)]
        self.watched = self.arms[WATCHED - 1]
        self.parts = Parts(0, rate)
        self.rate = rate
        self._chance = Random("fleet")
        self._stopping = trio.Event()

    @property
    def ledgers(self) -> list[Ledger]:
        """One for each session."""
        return [*(arm.caller.ledger for arm in self.arms), self.parts.ledger]

    def stop(self) -> None:
        """Begin no further call."""
        self._stopping.set()

    async def run(self, brokers: list[str]) -> None:
        """Call until `stop`; arm n enters the mesh at broker (n - 1) mod their number."""
        self.parts = Parts(len(brokers), self.rate / 2)
        async with AsyncExitStack() as stack:
            meshes: list[Mesh] = [
                await stack.enter_async_context(connect([address], name=f"hall-{n}"))
                for n, address in enumerate(brokers, 1)
            ]
            async with trio.open_nursery() as nursery:
                for n, arm in enumerate(self.arms):
                    nursery.start_soon(self._run_arm, arm, meshes[n % len(meshes)])
                for caller, mesh in zip(self.parts.callers, meshes, strict=True):
                    nursery.start_soon(self._run_station, caller, mesh)

    async def _run_arm(self, arm: Arm, mesh: Mesh) -> None:
        session = mesh.session("arm-monitor", arm.name)
        await self._paced(lambda: arm.rate, lambda: arm.sample(session))

    async def _run_station(self, caller: Caller, mesh: Mesh) -> None:
        session = mesh.session("counter", f"arm-{WATCHED}")
        await self._paced(lambda: self.parts.rate, lambda: self.parts.count(caller, session))

    async def _paced(self, rate: Callable[[], float], act: Callable[[], Awaitable[None]]) -> None:
        """`act` at a rate, from a moment of its own on; what is late is not made up for."""
        due = trio.current_time() + self._chance.random() / rate()
        while not self._stopping.is_set():
            with trio.move_on_at(due):
                await self._stopping.wait()
                return
            await act()
            due = max(due + 1 / rate(), trio.current_time())

    def points(self, since: float, mode: str | None = None, but: Arm | None = None) -> list[Point]:
        """The arms' answered calls since then."""
        return [
            point
            for arm in self.arms
            if arm is not but
            for point in recent(arm.caller.points, since)
            if mode is None or point.mode == mode
        ]


def recent(points: list[Point], since: float) -> Iterator[Point]:
    """Those since then, newest first."""
    for point in reversed(points):
        if point.at < since:
            return
        yield point


def largest_gap(points: list[Point], since: float) -> float:
    """Seconds of the longest time without an answer, from the last one before `since`."""
    times = [point.at for point in points if point.at >= since]
    before = [point.at for point in points if point.at < since][-1:]
    times = [*before, *times]
    return max((b - a for a, b in zip(times, times[1:], strict=False)), default=0.0)


def quantile(seconds: list[float], share: float) -> float:
    """The nearest-rank quantile; 0 of nothing."""
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
