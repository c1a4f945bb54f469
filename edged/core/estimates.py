"""What a node measures as calls pass: how often they come, and how long things take (DESIGN §7).

Decides how fast the past is forgotten. One step a call, a handful of numbers a session. Refuses to know what is
measured and what for. A window of the last calls was the alternative: a burst fills it, and then the burst is all it
knows; here a call counts for as long as many calls at the usual pace take, however close they come.
"""

from math import exp

MANY = 50
"""Calls that a rate rests on: it is right to a seventh. More would be slower to see a change."""

SHORTEST, LONGEST = 10.0, 300.0
"""Seconds in which a rate forgets: a burst shorter than that is no rate, and nobody waits longer to see a change."""

QUIET = 4.0
"""Usual gaps of silence from which a rate falls with the silence: one gap in fifty is longer by chance."""

LAST = 500
"""Calls over which a time is averaged: exponential ones then to a twentieth."""

WARM = 20
"""Of a time's first calls any may be the odd one; only then is it known what is usual."""

ODD = 8.0
"""Times the mean as which a longer one counts: of exponential times that takes 0.03 % off the mean, and of a call
that hung for a minute nearly everything."""


class Rate:
    """Calls a second. The first call only starts the clock: a rate is of those after it."""

    __slots__ = ("_calls", "_seconds", "last")

    def __init__(self, now: float) -> None:
        self.last = now
        self._calls = 0.0
        self._seconds = 0.0

    def add(self, now: float) -> None:
        """One more call."""
        self._calls, self._seconds = self._faded(now)
        self._calls += 1
        self.last = now

    def look(self, now: float) -> tuple[float, float]:
        """The rate, and how many calls it rests on."""
        calls, seconds = self._faded(now)
        if seconds <= 0:
            return 0.0, calls
        rate, silence = calls / seconds, now - self.last
        return (min(rate, QUIET / silence) if silence > 0 else rate), calls

    def _faded(self, now: float) -> tuple[float, float]:
        passed = max(0.0, now - self.last)
        memory = LONGEST
        if self._calls * LONGEST > MANY * self._seconds:
            memory = max(SHORTEST, MANY * self._seconds / self._calls)
        left = exp(-passed / memory)
        return self._calls * left, self._seconds * left + memory * (1 - left)


class Mean:
    """Of the last few hundred calls, 0 before the first; a wild one counts as a long one."""

    __slots__ = ("_count", "value")

    def __init__(self) -> None:
        self._count = 0
        self.value = 0.0

    def add(self, seconds: float) -> None:
        """One more."""
        if self._count >= WARM:
            seconds = min(seconds, ODD * self.value)
        self._count = min(self._count + 1, LAST)
        self.value += (seconds - self.value) / self._count
