"""The approximations of the model beside a simulated queue: how far off they are, for seeds that are always the same."""

import heapq
from collections import deque
from collections.abc import Sequence
from random import Random
from statistics import fmean

import pytest

from edged.core.planning.latency import Setting, point
from edged.core.planning.mix import Stream, predict

WARM_UP = 0.1
"""Part of the calls that is left out: the queue began empty."""


class World:
    """One queue before `containers`, first come first served; with `serial` a session's calls pass one by one."""

    def __init__(self, containers: int, serial: bool) -> None:
        self._free = containers
        self._serial = serial
        self._queue: deque[tuple[int, int]] = deque()
        self._behind: dict[int, deque[int]] = {}
        self._events: list[tuple[float, int, int, int]] = []
        self.latencies: list[float] = []

    def run(self, streams: Sequence[Stream], calls: int, seed: int) -> float:
        """Mean seconds of a call."""
        chance = Random(seed)
        sessions = [stream for stream in streams for _ in range(int(stream.many))]
        trace = self._trace(sessions, calls, chance)
        self._events = [(at, 0, number, session) for number, (at, session) in enumerate(trace)]
        while self._events:
            now, kind, call, session = heapq.heappop(self._events)
            if kind == 0:
                self._arrived(call, session)
            else:
                self._ended(now, trace[call][0], session)
            while self._free and self._queue:
                self._free -= 1
                call, session = self._queue.popleft()
                heapq.heappush(self._events, (now + chance.expovariate(1 / sessions[session].remote), 1, call, session))
        return fmean(self.latencies[int(len(self.latencies) * WARM_UP) :])

    def _trace(self, sessions: list[Stream], calls: int, chance: Random) -> list[tuple[float, int]]:
        total, at, trace = sum(s.rate for s in sessions), 0.0, []
        who = chance.choices(range(len(sessions)), [s.rate for s in sessions], k=calls)
        for session in who:
            at += chance.expovariate(total)
            trace.append((at, session))
        return trace

    def _arrived(self, call: int, session: int) -> None:
        if self._serial and session in self._behind:
            self._behind[session].append(call)
            return
        self._behind[session] = deque()
        self._queue.append((call, session))

    def _ended(self, now: float, came: float, session: int) -> None:
        self._free += 1
        self.latencies.append(now - came)
        behind = self._behind.get(session)
        if self._serial and behind:
            self._queue.append((behind.popleft(), session))
        else:
            self._behind.pop(session, None)


FAST, SLOW = Stream(0.3, 0.2, 0.5, 20), Stream(0.06, 1.0, 4.0, 20)


@pytest.mark.parametrize(
    ("streams", "containers", "within"),
    [
        ([Stream(0.075, 1, 3, 45)], 15, 0.05),
        ([Stream(0.15, 1, 3, 10), Stream(0.05, 1, 3, 35)], 15, 0.05),
        ([FAST, SLOW], 12, 0.05),
        ([FAST, SLOW], 9, 0.15),
    ],
    ids=["alike", "two rates", "two functions", "two functions, 87 % busy"],
)
def test_streams_that_share_a_pool(streams: list[Stream], containers: int, within: float) -> None:
    """Rates that differ are exact, up to chance; functions that differ in their times within 15 % even near full load."""
    seen = World(containers, serial=False).run(streams, 60_000, 1)
    assert predict([], streams, containers).mean == pytest.approx(seen, rel=within)


@pytest.mark.parametrize(("clients", "k", "within"), [(70, 0, 0.03), (70, 20, 0.05), (70, 26, 0.08), (90, 16, 0.08)])
def test_calls_of_a_session_in_turn(clients: int, k: int, within: float) -> None:
    """The remote-state part of the paper's curve, with calls of a session one after another as in this mesh."""
    seen = World(40 - k, serial=True).run([Stream(0.075, 1, 3, clients - k)], 60_000, 2)
    found = point(Setting(clients, serial=True), k).prediction.mean_of("remote")
    assert found == pytest.approx(seen, rel=within)
