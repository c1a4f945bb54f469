"""Virtual time: a heap of actions, run in order.

Decides nothing but the order: by time, then by the order of asking. Refuses to know what the actions are.
"""

import heapq
from collections.abc import Callable
from itertools import count
from typing import Any

Action = Callable[..., Any]


class Clock:
    """Seconds since the world began; nothing here waits."""

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Action, tuple[Any, ...]]] = []
        self._order = count()

    def after(self, seconds: float, action: Action, *words: Any) -> None:
        """Run `action(*words)` in `seconds`; at one time in the order of asking."""
        heapq.heappush(self._heap, (self.now + seconds, next(self._order), action, words))

    def run(self, until: float, check: Action | None = None) -> None:
        """Everything up to `until`, with `check` after each action."""
        heap = self._heap
        while heap and heap[0][0] <= until:
            self.now, _, action, words = heapq.heappop(heap)
            action(*words)
            if check is not None:
                check()
        self.now = max(self.now, until)

    @property
    def idle(self) -> bool:
        """Whether nothing is to come."""
        return not self._heap
