"""Whether a local session should follow its client to another node (DESIGN §5 "follow the client").

Decides from where its calls enter the mesh: when most of them have entered through one other node for a while. The time,
and the share that is far above a half, are the hysteresis: a client that uses two brokers in turn, or is balanced over
many, moves nothing. A prediction of what the move would save was the alternative; it belongs to the planner, which sees
all sessions. Refuses to know whether that node has room.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from .records import SessionKey

SHARE = 0.7
"""Of a session's calls that have to enter through one other node."""

LEAST = 3
"""Calls between two looks: fewer say nothing, neither for nor against."""

SECONDS = 5.0
"""For so long without a look at which the others were too many."""

QUIET = 30.0
"""After so many seconds without enough calls what was seen before counts no more."""


@dataclass(slots=True)
class _Leader:
    """The node through which most calls of a session enter, since when, and when that was seen last."""

    node: str
    since: float
    seen: float


class Following:
    """`look` now and then at the calls of all local sessions since the last look."""

    def __init__(self) -> None:
        self._leaders: dict[SessionKey, _Leader] = {}

    def look(self, entered: Mapping[SessionKey, Mapping[str, int]], now: float) -> list[tuple[SessionKey, str]]:
        """The sessions that should move, and where to. `entered`: calls by node of entrance, "" being this one."""
        self._leaders = {key: one for key, one in self._leaders.items() if now - one.seen <= QUIET}
        found = []
        for key, counts in entered.items():
            if sum(counts.values()) >= LEAST and self._leads(key, counts, now):
                found.append((key, self._leaders[key].node))
        return found

    def _leads(self, key: SessionKey, counts: Mapping[str, int], now: float) -> bool:
        node = max(counts, key=lambda name: (counts[name], name))
        if not node or counts[node] < SHARE * sum(counts.values()):
            self._leaders.pop(key, None)
            return False
        leader = self._leaders.get(key)
        if leader is None or leader.node != node:
            leader = self._leaders[key] = _Leader(node, now, now)
        leader.seen = now
        return now - leader.since >= SECONDS

    def forget(self, key: SessionKey) -> None:
        """It has moved, or cannot: begin anew."""
        self._leaders.pop(key, None)
