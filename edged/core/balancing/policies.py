"""The four ways to choose a node (DESIGN §6; the paper's reference [8], model.md "Destination policies").

Each decides for one function on one broker. Refuses to know where the figures come from, and which nodes may be
asked at all. Blind dispatch (round-robin or random without weights) is not among them: it ruins the result.
"""

from collections.abc import Callable, Iterable, Sequence
from math import ceil, sqrt
from typing import Protocol

from ..chance import Chance
from .load import FIRST_PERIOD, Destination

MANY = 16
"""Nodes up to which two choices do; above it, the square root of their number."""

LAST_PERIOD = 30.0
"""Seconds between two probes of one that stays slow."""

SHUT_OUT = 2.0
"""Times the best weight: what is slower gets nothing but probes."""

GUESS = 0.001
"""Seconds: a service time or weight when nobody's is known."""


class Policy(Protocol):
    """`choose` is asked for each call that has a choice, `replied` told of each answer."""

    def choose(self, among: Sequence[Destination], here: Destination | None, now: float) -> Destination:
        """One of `among`, which has at least one. `here` is this node, if it is among them."""

    def replied(self, destination: Destination, among: Iterable[Destination], now: float) -> None:
        """Its weight is new."""


class PowerOfD:
    """This node, or of d others the one where the call is predicted to end first."""

    def __init__(self, chance: Chance) -> None:
        self._chance = chance

    def choose(self, among: Sequence[Destination], here: Destination | None, now: float) -> Destination:
        """See the class."""
        known = [service for service in (one.service for one in among) if service is not None]
        unknown = min(known, default=GUESS)
        others = [one for one in among if one is not here]
        d = 2 if len(among) <= MANY else ceil(sqrt(len(among)))
        picked = self._chance.sample(others, min(d, len(others)))
        if here is not None:
            picked.insert(0, here)
        return min(picked, key=lambda one: one.predicted(unknown, now))

    def replied(self, destination: Destination, among: Iterable[Destination], now: float) -> None:
        """Its figures say it all."""


class LeastImpedance:
    """The one with the least weight; one never used is tried first."""

    def choose(self, among: Sequence[Destination], here: Destination | None, now: float) -> Destination:
        """See the class."""
        return min(among, key=lambda one: one.weight or 0.0)

    def replied(self, destination: Destination, among: Iterable[Destination], now: float) -> None:
        """The weight is all it needs."""


class RandomProportional:
    """By chance, each in proportion to 1/weight; one never used like the best."""

    def __init__(self, chance: Chance) -> None:
        self._chance = chance

    def choose(self, among: Sequence[Destination], here: Destination | None, now: float) -> Destination:
        """See the class."""
        best = _best(among)
        shares = [1.0 / (one.weight or best) for one in among]
        return self._chance.choices(among, shares)[0]

    def replied(self, destination: Destination, among: Iterable[Destination], now: float) -> None:
        """The weight is all it needs."""


class RoundRobin:
    """Deficit-weighted round-robin: the rates are as 1/weight. What takes more than twice the best's time leaves
    the round and is probed after a second, after two, up to every half minute."""

    def choose(self, among: Sequence[Destination], here: Destination | None, now: float) -> Destination:
        """The active one with the least deficit; it pays its weight."""
        best = _best(among)
        for one in among:
            turn = one.turn
            if not _in_the_round(one, best) and now - one.weighed >= turn.period and not turn.probing:
                turn.probing = turn.joining = True
        active = [one for one in among if _in_the_round(one, best) or one.turn.probing]
        least = min((one.turn.deficit for one in active if not one.turn.joining), default=0.0)
        for one in active:
            if one.turn.joining:
                one.turn.joining, one.turn.deficit = False, least
        chosen = min(active, key=lambda one: one.turn.deficit)
        chosen.turn.deficit += (chosen.weight or best) - least
        for one in among:
            if one is not chosen:
                one.turn.deficit -= least
        return chosen

    def replied(self, destination: Destination, among: Iterable[Destination], now: float) -> None:
        """A probe that went well ends the probing, one that did not makes the next one later."""
        turn = destination.turn
        if turn.probing:
            turn.probing = False
            good = _in_the_round(destination, _best(among))
            turn.period = FIRST_PERIOD if good else min(2 * turn.period, LAST_PERIOD)


def _best(among: Iterable[Destination]) -> float:
    return min((one.weight for one in among if one.weight), default=GUESS)


def _in_the_round(one: Destination, best: float) -> bool:
    return one.weight is None or one.weight <= SHUT_OUT * best


POLICIES: dict[str, Callable[[Chance], Policy]] = {
    "power-of-d": PowerOfD,
    "least-impedance": lambda _: LeastImpedance(),
    "random-proportional": RandomProportional,
    "round-robin": lambda _: RoundRobin(),
}
