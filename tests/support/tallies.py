"""What the only caller of a counter was told, and whether it fits one history in which each loss was told (DESIGN §5.4).

A call in doubt may have counted or not. An owner that crashes takes with it what the store did not have yet: the counter
then goes on from a lower value, and an answer says so. Before a crash the mesh was asked what it would lose: a `Promise`.
"""

from typing import Any, NamedTuple


class Promise(NamedTuple):
    """What was said to be lost if the owner crashed, the calls acknowledged until then and until it crashed, and when."""

    unsaved: int
    acknowledged: int
    in_all: int
    at: float


class Loss(NamedTuple):
    """Acknowledged calls that are gone; for how long the oldest of them had been acknowledged when its owner crashed."""

    calls: int
    told: bool
    allowed: int | None
    age: float


class Tally:
    """One session's; `crash` when its owner is about to be killed."""

    def __init__(self) -> None:
        self.acknowledged = 0
        self.in_doubt = 0
        self.value = 0
        self.losses: list[Loss] = []
        self.wrong: list[str] = []
        self._maybe = 0
        self._times: list[float] = [0.0]
        self._promises: list[Promise] = []

    def crash(self, unsaved: int, acknowledged: int, now: float) -> None:
        """Its owner may be gone now; it had been asked before what that would lose."""
        self._promises.append(Promise(unsaved, acknowledged, self.acknowledged, now))

    def doubt(self) -> None:
        """A call ended, and nobody knows whether it counted."""
        self.in_doubt += 1
        self._maybe += 1

    def ack(self, value: int, meta: dict[str, Any], now: float) -> None:
        """A call counted: the counter's new value."""
        base = self._looked(value - 1, meta, now)
        if not base < value <= base + 1 + self._maybe:
            self.wrong.append(f"{value} after {base} with {self._maybe} in doubt")
        self.acknowledged += 1
        self._went_on(value, now)

    def ended(self, value: int, meta: dict[str, Any], now: float) -> None:
        """All calls are over, and the counter says this."""
        base = self._looked(value, meta, now)
        if not base <= value <= base + self._maybe:
            self.wrong.append(f"{value} in the end after {base} with {self._maybe} in doubt")

    def _looked(self, before: int, meta: dict[str, Any], now: float) -> int:
        """The value that an answer rests on, which was `before` if no call in doubt counted."""
        recovered = (meta.get("recovered") or {}).get("version")
        if recovered is not None and recovered < self.value:
            self._lost(recovered, True, now)
            return int(recovered)
        if before < self.value:
            self._lost(before, False, now)
            return before
        return self.value

    def _lost(self, kept: int, told: bool, now: float) -> None:
        """By one of the crashes since the last answer."""
        calls, promises = self.value - kept, self._promises
        # A call that ran, but was not acknowledged yet when the owner was asked, may be in its figure or not.
        allowed = [p.unsaved + self.acknowledged - p.acknowledged + 1 for p in promises]
        crashed = promises[0].at if promises else now
        self.losses.append(Loss(calls, told, max(allowed, default=None), crashed - self._times[kept + 1]))

    def _went_on(self, value: int, now: float) -> None:
        del self._times[value:]
        self._times += [now] * (value + 1 - len(self._times))
        self.value, self._maybe = value, 0
        # One answer may have been on its way when its owner was killed.
        self._promises = [p for p in self._promises if self.acknowledged - p.in_all <= 1]
