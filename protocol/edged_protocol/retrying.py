"""When a call is repeated, and how soon (DESIGN §4, §5.1, §5.3).

Decides from an error what is known of the effect, how long to wait, and how much of the load may be repeats;
and that an answer of a superseded owner is none. Refuses to know connections and frames.

A repeat costs a token of a budget. One that finds no token waits for it instead of failing: the share of
repeats is bounded all the same, and a call that still has time is not given up for the haste of others.
"""

from collections import OrderedDict
from enum import Enum
from typing import Protocol

from .errors import CallError, Code, call_error, outcome_of
from .limits import MAX_INFLIGHT

FIRST_PAUSE = 0.05
LONGEST_PAUSE = 5.0
"""Seconds; between them the pause doubles, with full jitter."""

SHARE = 0.2
"""Repeats each new call pays for: an overloaded mesh sees at most a fifth more than what is asked of it."""

RATE = 10.0
"""Repeats a second that need no new calls, so that a quiet client is not stuck."""

BURST = MAX_INFLIGHT
"""Everything one connection had in flight may be repeated at once."""

MAX_FENCED = 4096
"""Sessions whose highest epoch is remembered: 1.3 MB when full."""

FENCED_SECONDS = 6 * 86_400.0
"""For so long after the last answer: a session that has ended is forgotten a day later, and one of that name begins anew."""


class Chance(Protocol):
    """Where pauses get their jitter from; `random.Random` is one."""

    def random(self) -> float:
        """Between 0 and 1."""

    def uniform(self, a: float, b: float) -> float:
        """Between `a` and `b`."""


class Verdict(Enum):
    """What an error means for the next try."""

    AGAIN = "it certainly did not run"
    IN_DOUBT = "it may have run: repeat it as another attempt"
    FINAL = "a repeat would not help"


def verdict_on(error: CallError) -> Verdict:
    """Whether to repeat after `error`; a code of the future counts by its hundreds.

    `state_lost` is told once and must reach a person; a deadline passed in a queue says `ran` is false.
    """
    outcome = outcome_of(error.code)
    if error.code == Code.OUTCOME_FORGOTTEN or error.meta.get("state_lost"):
        return Verdict.FINAL
    if outcome == "not_run_retry" or (outcome == "unknown" and error.meta.get("ran") is False):
        return Verdict.AGAIN
    return Verdict.IN_DOUBT if outcome == "unknown" else Verdict.FINAL


def pause_after(error: CallError, repeats: int, chance: Chance) -> float:
    """Seconds until the next try, after `repeats` earlier ones: the broker's wish, else a doubling pause."""
    hint = error.meta.get("retry_after_ms")
    if type(hint) is int and hint >= 0:
        return hint / 1000 * chance.uniform(1.0, 1.5)
    return chance.random() * doubled(FIRST_PAUSE, repeats)


def doubled(first: float, times: int) -> float:
    """`first` doubled `times` times, at most LONGEST_PAUSE."""
    return min(LONGEST_PAUSE, first * 2.0 ** min(times, 16))


class Budget:
    """Tokens for repeats: each new call earns a share of one, time earns some, a repeat takes one."""

    def __init__(self) -> None:
        self._tokens = float(BURST)
        self._at: float | None = None

    def earn(self) -> None:
        """A new call was asked."""
        self._tokens = min(BURST, self._tokens + SHARE)

    def take(self, now: float) -> float:
        """Take a token; the seconds until it is there."""
        since = 0.0 if self._at is None else now - self._at
        self._at = now
        self._tokens = min(BURST, self._tokens + since * RATE) - 1
        return max(0.0, -self._tokens / RATE)

    def give_back(self) -> None:
        """The repeat will not be made."""
        self._tokens += 1


class Fence:
    """The highest epoch seen of each session, the least recently used forgotten first."""

    def __init__(self) -> None:
        self._highest: OrderedDict[tuple[str, str], tuple[int, float]] = OrderedDict()
        self.refused = 0
        """Answers that were none."""

    def __len__(self) -> int:
        return len(self._highest)

    def highest(self, session: tuple[str, str]) -> int:
        """The highest epoch seen of (function, session key), or -1."""
        return self._highest.get(session, (-1, 0.0))[0]

    def admits(self, session: tuple[str, str], epoch: int, now: float) -> bool:
        """Whether an answer of that epoch counts; if so it is remembered."""
        while self._highest and now - next(iter(self._highest.values()))[1] > FENCED_SECONDS:
            self._highest.popitem(last=False)
        if epoch < self.highest(session):
            return False
        self._highest[session] = epoch, now
        self._highest.move_to_end(session)
        if len(self._highest) > MAX_FENCED:
            self._highest.popitem(last=False)
        return True

    def refuses(self, session: tuple[str, str], epoch: int, now: float) -> CallError | None:
        """An error for an answer from before the last change of owner that was seen."""
        if self.admits(session, epoch, now):
            return None
        self.refused += 1
        text = f"answered at epoch {epoch}, but {self.highest(session)} was seen"
        return call_error(Code.WORKER_LOST, text)
