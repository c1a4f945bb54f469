"""Calls of many sessions, some local-state and some in one pool: what all of them see (DESIGN §7).

Decides nothing; predicts. A local session is a queue of its own before its own container. All the others share
the rest of the containers. Sources: the paper's scenario 1 where all are alike; beyond it

- `sharing` sessions in one local container: it takes that container from the pool once for all of them, and each waits
  for the calls of all. The container is taken to be full, of sessions alike: with fewer in it the wait is shorter.
- different rates: exact as before, since Poisson streams add up to one.
- several functions in one pool: M/G/c whose service time is one function's or another's (Allen and Cunneen). That
  any container serves any function is the approximation: a node ends an idle container of one for another, which
  takes it a start. Beside a simulated queue: within 5 % up to two thirds busy, 11 % too low at 87 %.
- `serial`: calls of one session run one after the other, as in this mesh and not in the paper. A session is then
  M/G/1 with the pool's answer as its service (Pollaczek and Khinchine); that the pool sees a Poisson stream all the
  same, and that the tail keeps its shape, are approximations: the mean is within 5 % up to the best k of Fig. 3.
"""

from collections.abc import Sequence
from math import inf
from typing import NamedTuple

from .queues import NO_WAIT, Response, quantile, wait

SCATTERED = 1.5
"""By how much of it the wait is longer with a queue on each of many nodes than with one for all: a call may wait on one
node while a container is free on another. Measured in the laboratory with the mesh's own balancing: with four nodes
the wait is 1.6 to 2.6 times that of one queue."""


CLOSED = 0.9
"""The most that a session is taken to be busy with itself where rates are measured. A client that waits for each answer
before its next call seems to be as busy as can be, in either mode, and yet its calls wait for nobody."""


class Stream(NamedTuple):
    """`many` sessions alike: calls a second of each, seconds that one keeps a container busy in either mode.

    `store` is what a remote-state call takes besides: reading and committing its state while no container is held. So many
    local sessions are `sharing` one container.
    """

    rate: float
    local: float
    remote: float
    many: float = 1
    store: float = 0.0
    sharing: int = 1


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


def predict(
    local: Sequence[Stream],
    remote: Sequence[Stream],
    containers: int,
    *,
    serial: bool = False,
    nodes: int = 1,
    busiest: float = 1.0,
) -> Prediction:
    """What is seen when the `local` streams have containers of their own, and the `remote` ones share `containers`, which
    are on so many nodes. No session counts as busier with itself than `busiest`; 1: then it is not stable."""
    offered = sum(s.many * s.rate * s.remote for s in remote)
    utilisation = offered / containers if containers > 0 else (inf if offered else 0.0)
    locals_ = [(s.many * s.rate, own_container(s, busiest)) for s in local if s.many]
    pooled = pool(remote, containers, nodes)
    if serial:
        pooled = [one and in_turn(s.rate, one, busiest) for s, one in zip(remote, pooled, strict=True)]
    remotes = [(s.many * s.rate, one) for s, one in zip(remote, pooled, strict=True) if s.many]
    parts = [*locals_, *remotes]
    if any(response is None for _, response in parts):
        return Prediction(False, inf, utilisation, (), ())
    total = sum(rate for rate, _ in parts)
    mean = sum(rate * response.mean for rate, response in parts if response) / total if total else 0.0
    return Prediction(True, mean, utilisation, _shares(locals_, total), _shares(remotes, total))


def own_container(stream: Stream, busiest: float = 1.0) -> Response | None:
    """A local-state session; None when its container gets more calls than it can run."""
    busy = min(stream.rate * stream.local * stream.sharing, busiest)
    if busy >= 1:
        return None
    waits = wait(1, busy / stream.local, stream.local) if busy else NO_WAIT
    return None if waits is None else Response(waits, stream.local)


def pool(streams: Sequence[Stream], containers: int, nodes: int) -> list[Response | None]:
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
    return [Response(waits, s.remote, s.store) for s in streams]


def in_turn(rate: float, response: Response, busiest: float) -> Response | None:
    """As a session sees it whose calls wait for each other; None when they come faster than they are answered."""
    if not response.mean:
        return response
    busy = min(rate * response.mean, busiest)
    if busy >= 1:
        return None
    queueing = busy * response.square / response.mean / 2 / (1 - busy)
    return response._replace(stretch=1 + queueing / response.mean)


def _shares(parts: Sequence[tuple[float, Response | None]], total: float) -> tuple[Part, ...]:
    return tuple((rate / total if total else 0.0, one) for rate, one in parts if one is not None)


def _mean(parts: Sequence[Part]) -> float | None:
    weight = sum(share for share, _ in parts)
    return sum(share * response.mean for share, response in parts) / weight if weight else None
