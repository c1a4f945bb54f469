"""How many of N clients should be local-state? (paper, scenario 1 and Fig. 3)

Decides which k has the least mean latency. All clients are alike; `mix` knows those that are not.
"""

from collections.abc import Iterator, Sequence
from math import inf
from typing import NamedTuple

from .mix import Prediction, Stream, predict


class Setting(NamedTuple):
    """`rate`: calls a second of one client; `local` and `remote`: mean seconds of a call in a container."""

    clients: int
    containers: int = 40
    rate: float = 0.075
    local: float = 1.0
    remote: float = 3.0
    store: float = 0.0
    serial: bool = False


class Point(NamedTuple):
    """One k on the curve, in seconds; infinite where a queue grows for ever."""

    k: int
    mean: float
    p95: float
    p99: float
    stable: bool
    prediction: Prediction


def point(setting: Setting, k: int) -> Point:
    """With `k` clients local-state."""
    n, containers, rate, local, remote, store, serial = setting
    stream = Stream(rate, local, remote, 1, store)
    seen = predict([stream._replace(many=k)], [stream._replace(many=n - k)], containers - k, serial=serial)
    return Point(k, seen.mean, seen.within(0.95), seen.within(0.99), seen.stable, seen)


def curve(setting: Setting) -> Iterator[Point]:
    """Every k that there are clients and containers for."""
    for k in range(min(setting.clients, setting.containers) + 1):
        yield point(setting, k)


def best(points: Sequence[Point]) -> Point | None:
    """The least mean, and of equal ones that with most containers left; None when nothing is stable."""
    found = min(points, key=lambda p: (p.mean, p.k), default=None)
    return None if found is None or found.mean == inf else found


def last_stable(points: Sequence[Point]) -> Point | None:
    """The edge of the cliff: the next k has no stable pool."""
    return max((p for p in points if p.stable), key=lambda p: p.k, default=None)
