"""How a state travels while its session is served: pieces, credit, rounds (reliability §2.5, step 3).

Decides what is sent next, and when copying is good enough to stop the session for the rest. Refuses to know
containers and nodes: `migrate` asks the one and tells the other. A round ends where the state was when it began; what
changed meanwhile is the next one. To freeze after a fixed number of rounds was the alternative: a session that
changes faster than the link carries would be frozen for longer each time.
"""

from collections import deque
from typing import Any, Literal, NamedTuple

from .pacing import Pace

CHUNK = 256 * 1024
"""Bytes of one piece: a millisecond of packing, so that calls get in between, and of a 1 Gbit/s link twice that."""

WINDOW = 4
"""Pieces of a frozen session sent and not yet taken by the target's container; more would only lie in its node's memory.
While calls go on it is one: `pacing` says when the next may leave."""

RESUME_SECONDS = 10.0
"""A connection may be away for while calls go on; the copy goes on behind what has arrived. Longer is no flap."""

RESUME_LOOK = 0.2
"""Seconds between two tries."""

MAX_ROUNDS = 8

SHRINK = 0.8
"""Of a round what the next may have at most; else the session changes about as fast as it is copied."""

OVERHEAD = 0.02
"""Seconds of a pause that no byte explains: two round trips and the store's write."""

Verdict = Literal["again", "freeze", "not_converging"]


def judge(left: int, sent: int, rounds: int, chunk: int, pause: float, allowed: float) -> Verdict:
    """What follows a round of `sent` bytes after which `left` are behind; to send these would take `pause` seconds."""
    shrinks = left <= SHRINK * sent and rounds < MAX_ROUNDS
    if left > chunk and shrinks:
        return "again"
    return "freeze" if pause <= allowed else "not_converging"


class Piece(NamedTuple):
    """A part of a unit, which is a delta or a `whole` state; `more` of it follow."""

    data: bytes
    more: bool
    whole: bool


class Copy:
    """One state on its way."""

    def __init__(self, now: float, chunk: int = CHUNK) -> None:
        self.began = now
        self.chunk = chunk
        self.pace = Pace(chunk)
        self.frozen = False
        self.resting = 0
        """Token of the timer that ends a rest, or 0."""
        self.broken_at: float | None = None
        self.breaks = 0
        self.since: int | None = None
        self.asked = 0
        """Token of the question the container has not answered yet, or 0."""
        self.digest = b""
        self.left = 0
        self.rounds = 1
        self.sent = 0
        self.on_wire = 0
        """Bytes that this took, as far as whoever sends it has told."""
        self.caught_up = False
        self._goal: int | None = None
        self._head = 0
        self._of_round = 0
        self._number = 0
        self._landed = 0
        self._again: deque[tuple[int, Piece]] = deque()
        self._pieces: deque[Piece] = deque()
        self._flying: dict[int, tuple[int, Piece]] = {}

    def read(self, result: dict[str, Any], delta: bytes | None) -> None:
        """The container's answer to `worker.delta`."""
        self.asked = 0
        self.since, self.left, self._head = result["serial"], result["left"], result["head"]
        self.digest = result["digest"]
        self.caught_up = self.since == self._head
        if self._goal is None:
            self._goal = self._head
        self._add(delta or b"", whole=False)

    def add_whole(self, state: bytes, digest: bytes) -> None:
        """All of a state whose container knows no deltas."""
        self.digest, self.caught_up = digest, True
        self._add(state, whole=True)

    def _add(self, unit: bytes, whole: bool) -> None:
        self._of_round += len(unit)
        size = self.chunk if self.frozen else self.pace.size
        for at in range(0, len(unit), size):
            end = at + size
            self._pieces.append(Piece(unit[at:end], end < len(unit), whole))

    @property
    def limit(self) -> int:
        """What the container is asked for: the last key may go beyond it, and the piece is still one."""
        size = self.chunk if self.frozen else self.pace.size
        return max(1, size * 7 // 8)

    def next_piece(self, token: int, now: float) -> tuple[int, Piece] | None:
        """What to send now, and its number; its answer will bear `token`. None: nothing, or not now."""
        if self.resting or len(self._flying) >= (WINDOW if self.frozen else 1) or not self.waits:
            return None
        if self._again:
            number, piece = self._again.popleft()
        else:
            self._number += 1
            number, piece = self._number, self._pieces.popleft()
        self._flying[token] = number, piece
        self.sent += len(piece.data)
        self.pace.left(now)
        return number, piece

    def flies(self, token: int) -> bool:
        """Whether the answer to a piece of ours would bear this token."""
        return token in self._flying

    def credit(self, token: int, now: float) -> float:
        """The target has taken a piece; how long the link is to rest, 0: not now."""
        _, piece = self._flying.pop(token)
        self._landed += len(piece.data)
        self.broken_at = None
        if self._flying:
            return 0.0
        landed, self._landed = self._landed, 0
        rest = self.pace.arrived(landed, now)
        return 0.0 if self.frozen else rest

    def broke(self, token: int, now: float) -> bool:
        """The connection ended before that piece was answered, so it leaves once more, under its number; False: it has
        been away for too long."""
        self._again.append(self._flying.pop(token))
        self.pace.broken()
        if self.broken_at is None:
            self.broken_at = now
            self.breaks += 1
        return now - self.broken_at < RESUME_SECONDS

    @property
    def hungry(self) -> bool:
        """Whether the container may be asked for more: nothing waits here."""
        return not self.waits and not self.asked and len(self._flying) < WINDOW

    @property
    def waits(self) -> bool:
        """Whether pieces wait for credit."""
        return bool(self._again or self._pieces)

    @property
    def arrived(self) -> bool:
        """Whether the target has all that was read."""
        return not self.waits and not self.asked and not self._flying

    @property
    def round_read(self) -> bool:
        """Whether the container has been asked for all of this round."""
        return self.since is not None and self._goal is not None and self.since >= self._goal

    def verdict(self, allowed: float) -> Verdict:
        """At the end of a round: what now."""
        return judge(self.left, self._of_round, self.rounds, self.chunk, self.pause(), allowed)

    def pause(self) -> float:
        """Seconds the session would wait if it were frozen now."""
        rate = self.pace.rate
        return OVERHEAD + (self.left / rate if self.left and rate else 0.0)

    def next_round(self) -> None:
        """What changed during the last one."""
        self.rounds += 1
        self._of_round = 0
        self._goal = self._head

    def freeze(self) -> None:
        """The session has stopped: what is read from here on is the end of it."""
        self.caught_up, self.frozen, self.resting = False, True, 0
