"""Which sessions nobody uses any more (DESIGN §5.7): by their records.

Decides when a record has been left alone for its function's time to live. The store's time of the last write is another
machine's wall clock, so that alone ends nothing: the record must also have stood still for a while by this node's own
monotonic clock, and a clock that jumps spares whatever is called now and then. A session with an alarm is in use: it is
waiting for it. Refuses to know stores and how a session ends.
"""

from collections.abc import Iterable

from .alarms import alarms_of
from .records import Record, SessionKey

WATCHED_SECONDS = 60.0
"""A record stands still at least so long before this node's eyes; the whole time to live, if that is shorter."""

MOST_WATCHED = 16_384
"""Records watched at a time, some 4 MiB; those beyond have their turn when these have gone."""

Point = tuple[int, int]
"""Epoch and version."""


class Expiry:
    """Of one function, or of all sessions that have `ended`: `look` at each page of records, `begin` before the first."""

    def __init__(self, ttl: float, *, ended: bool = False) -> None:
        self._ttl = ttl
        self._ended = ended
        self._watched: dict[SessionKey, tuple[Point, float]] = {}
        self._met: dict[SessionKey, tuple[Point, float]] = {}

    def begin(self) -> None:
        """A round through all records begins: what the last one did not meet is gone."""
        self._watched, self._met = self._met, {}

    def look(self, rows: Iterable[tuple[SessionKey, Record]], wall: float, now: float) -> list[tuple[SessionKey, Point]]:
        """The sessions to end, or the records to let go, each only if it still has that epoch and version. `wall`: Unix seconds."""
        found = []
        for key, record in rows:
            if not self._left_alone(record, wall) or len(self._met) >= MOST_WATCHED:
                continue
            point = record.epoch, record.version
            known, since = self._watched.get(key, (point, now))
            self._met[key] = point, since if known == point else now
            if now - self._met[key][1] >= min(self._ttl, WATCHED_SECONDS):
                found.append((key, point))
        return found

    def _left_alone(self, record: Record, wall: float) -> bool:
        old = record.updated + self._ttl <= wall
        return old and record.ended == self._ended and alarms_of(record.alarms).due is None
