"""Calls of many sessions, some local-state and some in one pool: what all of them see (DESIGN §7).

Decides nothing; predicts. A local session is a queue of its own before its own container. All the others share
the rest of the containers. Sources: the paper's scenario 1 where all are alike; beyond it

- different rates: exact as before, since Poisson streams add up to one.
- several functions in one pool: M/G/c whose service time is one function's or another's (Allen and Cunneen). That
  any container serves any function is the approximation: a node ends an idle container of one for another, which
  takes it a start.
- `serial`: calls of one session run one after the other, as in this mesh and not in the paper. A session is then
  M/G/1 with the pool's answer as its service (Pollaczek and Khinchine); that the pool sees a Poisson stream all the
  same, and that the tail keeps its shape, are approximations.
"""

from collections.abc import Iterator, Sequence
from math import inf
from typing import NamedTuple

from .queues import NO_WAIT, Response, quantile, wait

SCATTERED = 1.5
"""By how much of it the wait is longer with a queue on each of many nodes than with one for all: a call may wait on one
node while a container is free on another. Measured in the laboratory with the mesh's own balancing: with four nodes
the wait is 1.6 to 2.6 times that of one queue."""


class Stream(NamedTuple):
    """`many` sessions alike: calls a second of each, seconds that one keeps a container busy in either mode.

    `store` is what a remote-state call takes besides: reading and committing its state while no container is held.
    """

    rate: float
    local: float
    remote: float
    many: float = 1
    store: float = 0.0


Part = tuple[float, Response]


class Prediction(NamedTuple):
    """Seconds over all calls; `local` and `remote` by mode, each with its share of the calls.

    `utilisation`: of the pool, from 0; 1 or more does not last.
    """

    stable: bool
    mean: float
    utilisation: float
    local: tuple[Part, ...]
    remote: tuple[Part, ...]

    def within(self, share: float) -> float:
        """The time within which `share` of all calls are answered."""
        return quantile((*self.local, *self.remote), share) if self.stable else inf

    def mean_of(self, mode: str) -> float | None:
        """The mean of one mode; None when no call is served in it."""
        return _mean(self.local if mode == "local" else self.remote)

    def within_of(self, mode: str, share: float) -> float | None:
        """As `within`, of one mode."""
        parts = self.local if mode == "local" else self.remote
        return quantile(parts, share) if parts else None


def predict(
    local: Sequence[Stream], remote: Sequence[Stream], containers: int, *, serial: bool = False, nodes: int = 1
) -> Prediction:
    """What is seen when the `local` streams have a container a session, and the `remote` ones share `containers`,
    which are on so many nodes."""
    offered = sum(s.many * s.rate * s.remote for s in remote)
    utilisation = offered / containers if containers > 0 else (inf if offered else 0.0)
    locals_ = [(s.many * s.rate, own_container(s)) for s in local if s.many]
    remotes = [(s.many * s.rate, one) for s, one in zip(remote, pool(remote, containers, serial=serial, nodes=nodes), strict=True) if s.many]
    parts = [*locals_, *remotes]
    if any(response is None for _, response in parts):
        return Prediction(False, inf, utilisation, (), ())
    total = sum(rate for rate, _ in parts)
    mean = sum(rate * response.mean for rate, response in parts if response) / total if total else 0.0
    return Prediction(True, mean, utilisation, _shares(locals_, total), _shares(remotes, total))


def own_container(stream: Stream) -> Response | None:
    """A local-state session; None when it gets more calls than its container can run."""
    waits = wait(1, stream.rate, stream.local)
    return None if waits is None else Response(waits, stream.local)


def pool(
    streams: Sequence[Stream], containers: int, *, serial: bool = False, nodes: int = 1
) -> list[Response | None]:
    """What each of the streams sees that share `containers`."""
    rate = sum(s.many * s.rate for s in streams)
    if rate == 0:
        return [Response(NO_WAIT, s.remote, s.store) for s in streams]
    service = sum(s.many * s.rate * s.remote for s in streams) / rate
    square = sum(s.many * s.rate * 2 * s.remote**2 for s in streams) / rate
    waits = wait(containers, rate, service, square / service**2 - 1 if service else 1.0)
    if waits is None:
        return [None for _ in streams]
    waits = waits._replace(pace=waits.pace / (1 + SCATTERED * (1 - 1 / nodes)))
    responses = (Response(waits, s.remote, s.store) for s in streams)
    return [_in_turn(s.rate, one) if serial else one for s, one in zip(streams, responses, strict=True)]


def _in_turn(rate: float, response: Response) -> Response | None:
    """As a session sees it whose calls wait for each other; None when they come faster than they are answered."""
    busy = rate * response.mean
    if busy >= 1:
        return None
    queueing = rate * response.square / 2 / (1 - busy)
    return response._replace(stretch=1 + queueing / response.mean) if response.mean else response


def splits(
    streams: Sequence[Stream], containers: int, *, serial: bool = False
) -> Iterator[tuple[int, Prediction]]:
    """For each number k of the first streams made local, most calls first: k and what is then seen.

    The order is that of the work taken off the pool, `rate * remote`, which is the whole gain where the remote
    wait is long; streams stand for one session each.
    """
    order = sorted(streams, key=lambda s: s.rate * s.remote, reverse=True)
    for k in range(min(len(order), containers) + 1):
        yield k, predict(order[:k], order[k:], containers - k, serial=serial)


def _shares(parts: Sequence[tuple[float, Response | None]], total: float) -> tuple[Part, ...]:
    return tuple((rate / total if total else 0.0, one) for rate, one in parts if one is not None)


def _mean(parts: Sequence[Part]) -> float | None:
    weight = sum(share for share, _ in parts)
    return sum(share * response.mean for share, response in parts) / weight if weight else None
