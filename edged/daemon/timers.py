"""All of a node's timers in one heap and one task: `call_at` from anywhere on the loop (DESIGN §11)."""

import heapq
import logging
from collections.abc import Callable
from itertools import count

import trio

log = logging.getLogger(__name__)


class Handle:
    """One planned call; `cancel` is allowed at any time."""

    __slots__ = ("action",)

    def __init__(self, action: Callable[[], None]) -> None:
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        """Never run it."""
        self.action = None


class Timers:
    """A heap of actions by monotonic time; actions must not block and not raise."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Handle]] = []
        self._order = count()
        self._changed = trio.Event()

    def call_at(self, when: float, action: Callable[[], None]) -> Handle:
        """Run `action` on the loop at `when` (trio's clock, seconds)."""
        handle = Handle(action)
        heapq.heappush(self._heap, (when, next(self._order), handle))
        if self._heap[0][2] is handle:
            self._changed.set()
        return handle

    async def run(self) -> None:
        """Run what is due, for ever."""
        while True:
            self._run_due()
            self._changed = trio.Event()
            until = self._heap[0][0] if self._heap else float("inf")
            with trio.move_on_at(until):
                await self._changed.wait()

    def _run_due(self) -> None:
        now = trio.current_time()
        while self._heap and self._heap[0][0] <= now:
            action = heapq.heappop(self._heap)[2].action
            if action is not None:
                try:
                    action()
                except Exception:
                    log.exception("a timer's action failed")
