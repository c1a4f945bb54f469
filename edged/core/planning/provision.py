"""How many containers do N clients need that are in a local phase now and then? (paper, scenario 2 and Fig. 4)

Decides the least number with which the wish for a container of one's own is refused seldom enough. Each client is
in a local phase with probability q, by itself. The cap on local containers is such that the pool lasts even when the
cap is used up. What an operator typed is taken as it stands (0.075 is 3/40): the cap is a floor, and a floor of
rounded numbers is another number.
"""

from fractions import Fraction
from math import exp, expm1, floor, fsum, lgamma, log, log1p
from typing import NamedTuple

from .latency import Setting


class Provision(NamedTuple):
    """`containers` in all, at most `cap` of them local, and the chance that one more is wanted."""

    containers: int
    cap: int
    violation: float


def cap(setting: Setting) -> int:
    """Most local-state sessions with which the pool of the rest still lasts; 0 or less when there is none."""
    rate, remote = _exact(setting.rate), _exact(setting.remote)
    own = 1 / remote - rate
    if own <= 0 or rate * _exact(setting.local) >= 1:
        return 0
    return floor((setting.containers / remote - rate * setting.clients) / own)


def violation(clients: int, share: float, most: int) -> float:
    """The chance that `most` or more want to be local, given that one does."""
    if most <= 1 or share >= 1:
        return 1.0
    some = -expm1(clients * log1p(-share))
    return min(1.0, _at_least(clients, share, most) / some) if some else 0.0


def _at_least(n: int, q: float, m: int) -> float:
    """P(L >= m) of a binomial L, summed from the small terms up."""
    yes, no, whole = log(q), log1p(-q), lgamma(n + 1)
    return fsum(
        exp(whole - lgamma(i + 1) - lgamma(n - i + 1) + i * yes + (n - i) * no)
        for i in range(n, m - 1, -1)
    )


def provision(setting: Setting, share: float, epsilon: float = 0.01) -> Provision | None:
    """The fewest containers for `setting.clients`; None when one for each client is not enough.

    More containers never refuse more, so it is found by halving.
    """
    low, high = 1, setting.clients
    if not _enough(setting, share, epsilon, high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if _enough(setting, share, epsilon, middle) else (middle + 1, high)
    most = cap(setting._replace(containers=low))
    return Provision(low, most, violation(setting.clients, share, most))


def _enough(setting: Setting, share: float, epsilon: float, containers: int) -> bool:
    most = cap(setting._replace(containers=containers))
    return most >= 1 and violation(setting.clients, share, most) <= epsilon


def _exact(number: float) -> Fraction:
    return Fraction(repr(number))
