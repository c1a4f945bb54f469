"""What a run is judged by: latencies, moves, bytes to the store, work done, queues.

Decides what counts: calls that were sent after the warm-up. Every latency is kept, none sampled: a run of a million
calls takes some ten million bytes for them.
"""


from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import fsum, sqrt

from edged.core.records import SessionKey

BATCHES = 20
"""Parts of a run by whose means its mean is judged: long beside the time in which a queue forgets."""

STUDENT = 2.093
"""The 97.5 % point of Student's t for 19 degrees of freedom."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Of one kind of calls, in seconds; `interval` is half the width of the mean's 95 % interval."""

    calls: int
    mean: float
    p50: float
    p95: float
    p99: float
    interval: float


@dataclass(frozen=True, slots=True)
class Result:
    """One run. `utilisation`: of all slots that were up, by calls that ran. `refused`: calls that were given up.

    `missed`: share of the calls in local phases that were served remote. `growth`: the longest time for which a queue
    went on to new heights. `moves_by_quarter`: of a session an hour, in each quarter of the time that counts, of which
    `moves_late` is the last. `rounds`: most moves of one session within its function's dwell time.
    """

    name: str
    latency: dict[str, Latency]
    share_local: float
    moves: int
    moves_late: float
    moves_by_quarter: tuple[float, float, float, float]
    rounds: int
    store_bytes: int
    store_bytes_per_call: float
    utilisation: float
    refused: int
    missed: float
    growth: float
    local: float
    queued: int
    stable: bool
    timeline: tuple[tuple[float, float, float], ...]


@dataclass(slots=True)
class Growth:
    """How long one queue has been on its way up: since it last was empty until its highest point."""

    began: float = 0.0
    height: int = 0
    longest: float = 0.0

    def look(self, queued: int, now: float) -> None:
        """Once a second."""
        if queued == 0:
            self.began, self.height = now, 0
        elif queued > self.height:
            self.height = queued
            self.longest = max(self.longest, now - self.began)


@dataclass(slots=True)
class Account:
    """What is noted while a run goes on."""

    warmup: float
    latencies: dict[str, list[float]] = field(default_factory=lambda: {"remote": [], "local": []})
    order: list[float] = field(default_factory=list)
    """All latencies, in the order of the answers."""
    refused: int = 0
    wished: int = 0
    missed: int = 0
    moved: dict[SessionKey, list[float]] = field(default_factory=dict)
    kinds: Counter[str] = field(default_factory=Counter)
    timeline: list[tuple[float, float, float]] = field(default_factory=list)
    """At each minute: local sessions, calls that wait, and the mean latency since the minute before."""
    growth: dict[str, Growth] = field(default_factory=dict)

    def answered(self, sent: float, now: float, mode: str, wished: bool) -> None:
        """A call that was sent at `sent` was served in `mode`; `wished`: its client was in a local phase."""
        if sent < self.warmup:
            return
        seconds = now - sent
        self.latencies[mode].append(seconds)
        self.order.append(seconds)
        if wished:
            self.wished += 1
            self.missed += mode == "remote"

    def gave_up(self, sent: float) -> None:
        """A client stopped trying."""
        self.refused += sent >= self.warmup

    def move(self, key: SessionKey, kind: str, now: float) -> None:
        """A session has another mode or another node now."""
        self.moved.setdefault(key, []).append(now)
        self.kinds[kind] += 1

    def by_quarter(self, end: float, sessions: int) -> tuple[float, float, float, float]:
        """Moves of a session an hour in each quarter of the time from the warm-up to `end`."""
        quarter = (end - self.warmup) / 4
        counts = Counter(int((at - self.warmup) // quarter) for times in self.moved.values() for at in times if at >= self.warmup)
        first, second, third, last = (counts[number] / (quarter / 3600 * max(1, sessions)) for number in range(4))
        return first, second, third, last

    def most_within(self, dwell: float) -> int:
        """Most moves of one session within any `dwell` seconds."""
        most = 0
        for times in self.moved.values():
            first = 0
            for last, at in enumerate(times):
                while at - times[first] >= dwell:
                    first += 1
                most = max(most, last - first + 1)
        return most


def latency(samples: Sequence[float], ordered: Sequence[float] | None = None) -> Latency:
    """The figures of `samples`; its interval from those in `ordered`, which keeps the order in time."""
    rows = sorted(samples)
    if not rows:
        return Latency(0, 0.0, 0.0, 0.0, 0.0, 0.0)

    def quantile(share: float) -> float:
        return rows[min(len(rows) - 1, int(share * len(rows)))]

    mean = fsum(rows) / len(rows)
    return Latency(len(rows), mean, quantile(0.5), quantile(0.95), quantile(0.99), interval(ordered if ordered is not None else samples))


def interval(samples: Sequence[float]) -> float:
    """Half the width of the mean's 95 % interval, by the means of batches: neighbours in time are alike."""
    size = len(samples) // BATCHES
    if size == 0:
        return 0.0
    means = [fsum(samples[at * size : (at + 1) * size]) / size for at in range(BATCHES)]
    centre = fsum(means) / BATCHES
    variance = fsum((mean - centre) ** 2 for mean in means) / (BATCHES - 1)
    return STUDENT * sqrt(variance / BATCHES)
