"""Looking at the fleet while something goes on: the live line, waiting for a condition, tables of latencies.

Decides when waiting is given up. Refuses to know what is done to the mesh meanwhile.
"""

from collections.abc import Callable

import trio
from fleet import Caller, Fleet, quantile, recent
from screen import Screen, ms

PATIENCE = 30.0
"""Seconds for anything the demo waits for; a loaded Pi needs a few."""

LOOK = 0.25
"""Seconds between two looks at the fleet."""

WINDOW = 2.0
"""Seconds that the live line's figures are taken from."""

Latencies = list[tuple[str, list[float]]]
"""Rows of a table: a name and the seconds of its calls."""


class StoryFailed(Exception):
    """Something did not happen that has to."""


class Watch:
    """Eyes on one fleet."""

    def __init__(self, screen: Screen, fleet: Fleet) -> None:
        self._screen, self._fleet = screen, fleet

    async def watch(self, seconds: float) -> None:
        """Show the live line for so long."""
        end = trio.current_time() + seconds
        while (left := end - trio.current_time()) > 0:
            self._screen.progress(self._line())
            await trio.sleep(min(LOOK, left))

    async def until(self, holds: Callable[[], bool], what: str) -> None:
        """Show the live line until `holds`. Raises StoryFailed."""
        end = trio.current_time() + PATIENCE
        while not holds():
            if trio.current_time() > end:
                raise StoryFailed(f"waited {PATIENCE:.0f} s for {what}")
            self._screen.progress(self._line())
            await trio.sleep(0.02)

    def _line(self) -> str:
        points = self._fleet.points(trio.current_time() - WINDOW)
        parts = [f"{len(points) / WINDOW:.0f} calls/s"]
        for mode in ("remote", "local"):
            seconds = [point.seconds for point in points if point.mode == mode]
            if seconds:
                parts.append(
                    f"{mode} p50 {ms(quantile(seconds, 0.5))} p99 {ms(quantile(seconds, 0.99))}"
                )
        return f"{', '.join(parts)}  {self._fleet.watched.name} {self.spark(24)}"

    def spark(self, last: int = 60) -> str:
        """The watched arm's last latencies."""
        points = self._fleet.watched.caller.points[-last:]
        return self._screen.spark([point.seconds for point in points])

    def latencies(self, rows: Latencies) -> dict[str, dict[str, float]]:
        """Show a table; the same as figures in milliseconds."""
        found = {
            name: {
                "calls": len(seconds),
                "p50_ms": quantile(seconds, 0.5) * 1e3,
                "p99_ms": quantile(seconds, 0.99) * 1e3,
                "max_ms": max(seconds, default=0.0) * 1e3,
            }
            for name, seconds in rows
        }
        self._screen.table(
            ("", "calls", "p50", "p99", "max"),
            [
                (
                    name,
                    str(row["calls"]),
                    *(f"{row[q]:.1f} ms" for q in ("p50_ms", "p99_ms", "max_ms")),
                )
                for name, row in found.items()
            ],
        )
        return found


def serves(caller: Caller, mode: str, since: float = 0.0, node: str = "") -> bool:
    """Whether the caller's last answer since then was of that mode, by that node if one is named."""
    last = next(recent(caller.points, since), None)
    return last is not None and last.mode == mode and (not node or last.node == node)
