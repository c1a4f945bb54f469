"""What one node has noted of the sessions it looks after, as calls pass (DESIGN §7).

Decides which sessions are remembered, and for how long. Refuses to know where they are now: whoever asks knows.
"""

from collections import OrderedDict
from collections.abc import Iterator
from math import inf
from typing import NamedTuple

from ..estimates import Mean, Rate
from ..records import Mode, SessionKey
from .view import Session

MOST = 4096
"""Sessions remembered, the one called longest ago out first: as many as a node can have containers, some 2 MiB."""

GONE = 900.0
"""Seconds without a call after which nobody thinks of a remote-state session any more."""


class Times(NamedTuple):
    """Mean seconds, 0 where nothing was measured: a call in its session's own container, one in the pool, what the
    store takes besides, a switch."""

    local: float
    remote: float
    store: float
    transition: float


class Known:
    """One session; its `rate` is of the calls that came to this node."""

    __slots__ = ("entrance", "moved", "rate", "wish")

    def __init__(self, now: float) -> None:
        self.rate = Rate(now)
        self.moved = -inf
        self.wish: Mode | None = None
        self.entrance = ""


class Ledger:
    """`called` and `ran` for each call; `session` and `times` when it is time to plan."""

    def __init__(self) -> None:
        self._known: OrderedDict[SessionKey, Known] = OrderedDict()
        self._means: dict[str, tuple[Mean, Mean, Mean, Mean]] = {}
        self._reading: dict[str, float] = {}

    def called(self, key: SessionKey, via: str, now: float) -> None:
        """A call came, from a device here ("") or through node `via`."""
        known = self._known.get(key)
        if known is None:
            known = self._new(key, now)
        else:
            known.rate.add(now)
            self._known.move_to_end(key)
        known.entrance = via

    def _new(self, key: SessionKey, now: float) -> Known:
        known = self._known[key] = Known(now)
        if len(self._known) > MOST:
            self._known.popitem(last=False)
        return known

    def wished(self, key: SessionKey, mode: Mode, now: float) -> None:
        """Its application asks for a mode."""
        (self._known.get(key) or self._new(key, now)).wish = mode

    def wish(self, key: SessionKey) -> Mode | None:
        """The mode that its application asked for last."""
        known = self._known.get(key)
        return known.wish if known else None

    def quiet(self, key: SessionKey, now: float) -> float:
        """Seconds since it was last called here."""
        known = self._known.get(key)
        return now - known.rate.last if known else 0.0

    def entrance(self, key: SessionKey) -> str:
        """The node through which it was called last; "" for this one."""
        known = self._known.get(key)
        return known.entrance if known else ""

    def last_called(self, key: SessionKey) -> float:
        """When its last call came; never, as far as is known: minus infinity."""
        known = self._known.get(key)
        return known.rate.last if known else float("-inf")

    def moved(self, key: SessionKey, now: float) -> None:
        """Its mode or its node has changed."""
        (self._known.get(key) or self._new(key, now)).moved = now

    def _times(self, function: str) -> tuple[Mean, Mean, Mean, Mean]:
        means = self._means.get(function)
        if means is None:
            means = self._means[function] = (Mean(), Mean(), Mean(), Mean())
        return means

    def ran(self, function: str, mode: Mode, seconds: float) -> None:
        """A call kept a container busy."""
        self._times(function)[mode == "remote"].add(seconds)

    def read(self, function: str, seconds: float) -> None:
        """A remote-state call waited for its record."""
        self._reading[function] = self._reading.get(function, 0.0) + seconds

    def committed(self, function: str, seconds: float) -> None:
        """One waited for its commit. Several may follow on one read: all that was waited is spread over them."""
        self._times(function)[2].add(seconds + self._reading.pop(function, 0.0))

    def switched(self, function: str, seconds: float) -> None:
        """For how long a session's calls waited for its move."""
        self._times(function)[3].add(seconds)

    def times(self, function: str) -> Times:
        """Of the calls that ran here."""
        return Times(*(mean.value for mean in self._times(function)))

    def keep(self, functions: frozenset[str]) -> None:
        """All others are deployed no more."""
        for name in self._means.keys() - functions:
            del self._means[name]
            self._reading.pop(name, None)

    def remembered(self, now: float) -> Iterator[SessionKey]:
        """Sessions that were called lately; the others are forgotten."""
        for key, known in list(self._known.items()):
            if now - known.rate.last > GONE:
                del self._known[key]
            else:
                yield key

    def session(
        self, key: SessionKey, mode: Mode, now: float, size: int = 0, since: float = -inf, wish: Mode | None = None
    ) -> Session:
        """A row of the view, of a session that rests `since` then; an operator's `wish` is stronger than its application's."""
        known = self._known.get(key)
        if known is None:
            return Session(key, mode, 0.0, 0.0, since, wish, size)
        rate, calls = known.rate.look(now)
        return Session(key, mode, rate, calls, max(known.moved, since), wish or known.wish, size, known.entrance)
