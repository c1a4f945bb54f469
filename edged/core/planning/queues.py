"""One queue and what it does to a call: how likely and how long it waits, how long its answer takes.

Decides nothing; formulas of M/M/c (Erlang C) and of M/G/c after Allen and Cunneen. Calls arrive at random times
(Poisson) and are served in their order. Refuses to know sessions, modes and nodes.

The usual recurrence for Erlang B takes c steps; here the blocking chance is written by the Poisson distribution,
whose tail is a short series: thousands of servers cost no more than a few hundred steps, and nothing overflows.
"""

from collections.abc import Sequence
from math import exp, expm1, inf, lgamma, log
from typing import NamedTuple

PRECISE = 1e-16
"""A term smaller than this part of its sum changes nothing."""

HALVINGS = 200
"""Most steps of a quantile's search; a double has no more bits than a third of it."""


class Wait(NamedTuple):
    """With probability `chance` a call waits, then for an exponential time with `pace` per second."""

    chance: float
    pace: float

    @property
    def mean(self) -> float:
        """Seconds, over all calls."""
        return self.chance / self.pace if self.pace > 0 else inf


NO_WAIT = Wait(0.0, inf)


def blocked(servers: int, offered: float) -> float:
    """Erlang B: the chance that all servers are busy where nobody waits."""
    if offered <= 0:
        return 0.0
    if servers <= 0:
        return 1.0
    if offered > servers:
        return _blocked_stepwise(servers, offered)
    mass = exp(servers * log(offered) - offered - lgamma(servers + 1))
    above, term, count = 0.0, 1.0, servers
    while term > PRECISE * above or above == 0.0:
        count += 1
        term *= offered / count
        above += term
        if term == 0.0:
            break
    return mass / (1 - mass * above)


def _blocked_stepwise(servers: int, offered: float) -> float:
    """The recurrence, for an overloaded system: there the series is no shorter and loses digits."""
    chance = 1.0
    for count in range(1, servers + 1):
        chance = offered * chance / (count + offered * chance)
    return chance


def wait(servers: int, rate: float, service: float, variation: float = 1.0) -> Wait | None:
    """What calls that come at `rate` wait for one of `servers`; None when the queue grows for ever.

    `variation`: variance of the service time over its square; 1 for exponential times, where this is exact. Else
    it is Allen and Cunneen's approximation, exact in the mean for one server.
    """
    offered = rate * service
    if offered <= 0:
        return NO_WAIT
    if offered >= servers:
        return None
    share = offered / servers
    chance_b = blocked(servers, offered)
    chance = chance_b / (1 - share * (1 - chance_b))
    return Wait(chance, (servers - offered) / service * 2 / (1 + variation))


class Response(NamedTuple):
    """How long an answer takes: `fixed` seconds, the wait, and an exponential service; then `stretch` times all.

    `stretch` stands for calls of one session that wait for each other (`mix`).
    """

    wait: Wait
    service: float
    fixed: float = 0.0
    stretch: float = 1.0

    @property
    def mean(self) -> float:
        """Seconds."""
        return (self.fixed + self.wait.mean + self.service) * self.stretch

    @property
    def square(self) -> float:
        """The mean of the squared time, before it is stretched."""
        chance, pace = self.wait
        mean = self.fixed + self.wait.mean + self.service
        variance = self.service**2 + (2 * chance - chance**2) / pace**2
        return mean**2 + variance

    def tail(self, seconds: float) -> float:
        """The chance that it takes longer than `seconds`."""
        left = seconds / self.stretch - self.fixed
        if left <= 0:
            return 1.0
        chance, pace = self.wait
        if self.service == 0:
            return chance * exp(-pace * left)
        speed = 1 / self.service
        return exp(-speed * left) + chance * speed * left * _mean_decay(speed * left, pace * left)


def _mean_decay(one: float, other: float) -> float:
    """(exp(-one) - exp(-other)) / (other - one), also where the two are equal; the smaller leads, so nothing overflows."""
    least, most = min(one, other), max(one, other)
    gap = most - least
    if gap == inf:
        return 0.0
    return exp(-least) * (-expm1(-gap) / gap if gap > 0 else 1.0)


def quantile(parts: Sequence[tuple[float, Response]], share: float) -> float:
    """The time within which `share` of all calls are answered; `parts` are weights, and what those calls see."""
    parts = [part for part in parts if part[0] > 0]
    if not parts or any(response.mean == inf for _, response in parts):
        return inf
    total = sum(weight for weight, _ in parts)
    allowed = (1 - share) * total

    def late(seconds: float) -> bool:
        return sum(weight * response.tail(seconds) for weight, response in parts) > allowed

    high = max(response.mean for _, response in parts)
    if high == 0:
        return 0.0
    while late(high):
        high *= 2
    low = 0.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if high - low <= 1e-12 * high:
            break
        low, high = (middle, high) if late(middle) else (low, middle)
    return high
