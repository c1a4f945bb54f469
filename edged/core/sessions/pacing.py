"""How fast a state may leave while calls go on (reliability §2.5, step 3).

Decides how large the next piece is and how long the link is left to calls behind it, from how long the last ones took.
A piece is what the link carries in a few milliseconds, so that a call waits for no longer; behind it the link rests
three times as long as the piece kept it busy. A limit in bytes a second was the alternative: nobody knows one that suits
a cable and a radio. Refuses to know what is sent.
"""

from math import inf

FIRST = 16 * 1024
"""Bytes of the first piece, and of the smallest: most of the time that it takes is the way there and back."""

SPAN = 0.01
"""Seconds that a piece may keep the link busy."""

SHARE = 0.25
"""Of the link, for states on their way."""

GROWTH = 4
"""A piece has at most so many times the bytes of the one before."""


class Pace:
    """`left` when something is sent, `arrived` when all that was is acknowledged; `size` is for the next piece."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._least: tuple[int, float] = (most + 1, inf)
        """The smallest piece so far and the shortest time that one took: most of it the way there and back."""
        self._link = 0.0
        """Bytes a second of the link, 0: unknown."""
        self._since: float | None = None
        self._busy = 0.0
        self._carried = 0
        self.size = min(FIRST, most)

    def left(self, now: float) -> None:
        """A piece is sent; others may be under way."""
        if self._since is None:
            self._since = now

    def arrived(self, size: int, now: float) -> float:
        """Nothing is under way any more, after `size` bytes; how long the link rests."""
        assert self._since is not None
        seconds, self._since = max(now - self._since, 1e-6), None
        self._busy += seconds
        self._carried += size
        self._measure(size, seconds)
        fits = int(self._link * SPAN) if self._link else self._most
        self.size = max(min(fits, GROWTH * self.size, self._most), min(FIRST, self._most))
        return max(seconds, size / self._link * (1 / SHARE - 1)) if self._link else seconds

    def _measure(self, size: int, seconds: float) -> None:
        """What a larger piece took longer than the smallest is the link's; no link is slower than what it has just done."""
        least, shortest = self._least
        if size < least or (size == least and seconds < shortest):
            self._least = size, seconds
        elif seconds > shortest and size > least:
            link = (size - least) / (seconds - shortest)
            self._link = (self._link + link) / 2 if self._link else link
        if self._link:
            self._link = max(self._link, size / seconds)

    def broken(self) -> None:
        """What was under way will not be acknowledged."""
        self._since = None

    @property
    def rate(self) -> float:
        """Bytes a second while something was under way; 0: unknown."""
        return self._carried / self._busy if self._busy else 0.0
