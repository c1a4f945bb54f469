"""Connections in virtual time."""

from random import Random

from edged.lab.clock import Action, Clock


class Lane:
    """A connection: what is sent arrives late, in order, unless the lane was cut."""

    def __init__(self, clock: Clock, chance: Random, longest: float) -> None:
        self._clock = clock
        self._chance = chance
        self._longest = longest
        self._last = 0.0

    def send(self, action: Action) -> None:
        """Run `action` at the other end."""
        at = self._clock.now + self._chance.random() * self._longest
        self._last = max(self._last, at)
        self._clock.after(self._last - self._clock.now, action)
