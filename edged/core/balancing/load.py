"""The figures of one function on one node, and what they predict (DESIGN §6, reliability §2.7).

Decides how long a call would take somewhere. Refuses to know how figures travel.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

FRESH = 3.0
"""Seconds until a report counts for nothing: load is a matter of moments."""

FIRST_PERIOD = 1.0
"""Seconds until a destination that was too slow is probed for the first time."""

MOST = 2**31


class Load(NamedTuple):
    """`room`: containers that run or could be started at once; `service_us`: mean time of a call, 0 unknown;
    `rate`: calls that arrive in 1,000 seconds."""

    room: int
    busy: int
    queued: int
    service_us: int
    rate: int


def figures(value: object) -> Load | None:
    """A report as it travels (five counts), or None for what is none."""
    if not isinstance(value, (list, tuple)) or len(value) < 5:
        return None
    first = value[:5]
    for item in first:  # of most answers between nodes; a generator takes twice as long
        if type(item) is not int or not 0 <= item < MOST:
            return None
    return Load._make(first)


def loads(value: object, most: int) -> dict[str, Load]:
    """Reports by function, at most `most` of them; those that are none are left out."""
    if not isinstance(value, Mapping):
        return {}
    rows: list[tuple[Any, Load | None]] = [(k, figures(v)) for k, v in list(value.items())[:most]]
    return {name: load for name, load in rows if type(name) is str and load is not None}


class Turn:
    """A destination's place in the round-robin: its deficit in seconds, and how it is probed."""

    __slots__ = ("deficit", "joining", "period", "probing")

    def __init__(self) -> None:
        self.deficit = 0.0
        self.joining = True
        self.probing = False
        self.period = FIRST_PERIOD


class Destination:
    """What a broker knows of one function on one node. Times are monotonic seconds."""

    __slots__ = ("_heard", "_load", "inflight", "name", "rtt", "sent", "skipped", "turn", "wary", "weighed", "weight")

    def __init__(self, name: str, wary: float = 0.0) -> None:
        self.name = name
        self.wary = wary
        """Until when it is taken to need twice its time, because it comes and goes."""
        self._load: Load | None = None
        self._heard = 0.0
        self.sent = 0
        """Calls sent since the last report."""
        self.inflight = 0
        self.rtt = 0.0
        """Seconds of an answer that were neither queueing nor running."""
        self.skipped = 0.0
        """Until when it gets nothing: it said that it is overloaded."""
        self.weight: float | None = None
        """Seconds that its answers take, as the paper's policies estimate them (model.md)."""
        self.weighed = 0.0
        self.turn = Turn()

    def report(self, load: Load, now: float) -> None:
        """Its own figures, just heard."""
        self._load, self._heard, self.sent = load, now, 0

    @property
    def roomy(self) -> bool:
        """Whether it has a container for the function or could start one, as far as is known."""
        return self._load is None or self._load.room > 0

    @property
    def service(self) -> float | None:
        """Seconds that a call runs there, as far as is known."""
        return self._load.service_us / 1e6 if self._load and self._load.service_us else None

    def predicted(self, unknown: float, now: float) -> float:
        """Seconds until a call sent now would be answered; `unknown` is taken for a service time never heard.

        With a container free that is the service time; else the calls ahead of it have to end first. What was
        reported fades with its age, what was sent from here and is not answered counts fully.
        """
        service = self.service or unknown
        load = self._load
        if load is None:
            return self.inflight * service + service + self.rtt
        fading = max(0.0, 1.0 - (now - self._heard) / FRESH)
        ahead = max(self.inflight, (load.busy + load.queued) * fading + self.sent)
        room = max(1, load.room)
        waiting = max(0.0, ahead + 1 - room) * service / room
        return (waiting + service + self.rtt) * (2.0 if now < self.wary else 1.0)
