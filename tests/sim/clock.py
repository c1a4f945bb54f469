"""Virtual time: a heap of actions, run in order; what holds always is checked after each."""

import heapq
from collections.abc import Callable
from itertools import count
from random import Random
from typing import Any

Action = Callable[[], Any]


class Clock:
    """Seconds since the world began; nothing here waits."""

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Action]] = []
        self._order = count()

    def after(self, seconds: float, action: Action) -> None:
        """Run `action` in `seconds`; at one time in the order of asking."""
        heapq.heappush(self._heap, (self.now + seconds, next(self._order), action))

    def run(self, until: float, check: Action) -> None:
        """Everything up to `until`, with `check` after each action."""
        while self._heap and self._heap[0][0] <= until:
            self.now, _, action = heapq.heappop(self._heap)
            action()
            check()
        self.now = max(self.now, until)

    @property
    def idle(self) -> bool:
        """Whether nothing is to come."""
        return not self._heap


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
