"""When two nodes tell each other everything, over a connection (reliability §2.7).

Decides by the clock, and by what the other one's digest says. Refuses to know what is told, and how it travels.
"""

from ..chance import Chance
from .profile import Profile

QUIET = 5.0
"""Seconds without a change after which two nodes that know different things should exchange them."""

PAUSE = 10.0
"""Seconds between two exchanges with the same node because of that."""


class Exchanges:
    """`due` once in a while with anybody; `wanted` with one that knows other things."""

    def __init__(self, profile: Profile, chance: Chance, now: float) -> None:
        self._every = profile.sync
        self._chance = chance
        self._changed = now
        self._with: dict[str, float] = {}
        self.next = now
        self._later(now)

    def _later(self, now: float) -> None:
        self.next = now + self._every * self._chance.uniform(0.8, 1.2)

    def due(self, now: float) -> bool:
        """Whether it is time for one, whoever it is with."""
        if self.next > now:
            return False
        self._later(now)
        self._with = {node: at for node, at in self._with.items() if now - at < PAUSE}
        return True

    def changed(self, now: float) -> None:
        """Something is new; others will hear of it, so that differences say nothing for a while."""
        self._changed = now

    def wanted(self, node: str, now: float) -> bool:
        """Whether to exchange with a node that knows other things; then it is taken for done."""
        if now - self._changed <= QUIET or now - self._with.get(node, -PAUSE) < PAUSE:
            return False
        self._with[node] = now
        return True
