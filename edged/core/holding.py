"""What one node holds of one session, and the small steps all its concerns share (DESIGN §5).

Decides which moves may be wished for, what a compare-and-set keeps unless told otherwise, and what an answer
tells of its call; refuses any step that is not in `transition.NEXT`. Refuses to know in which order calls and
moves run: `remote_calls`, `local_calls`, `leaving` and `arriving` build on it, each on the one before, and
`sessions.Seat` is the whole. One object in layers, because all of them change the same queue, window and
epoch; collaborators passing these to and fro were the alternative not taken. What a layer needs of a later
one is declared here, and is all it may need.
"""

from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass
from typing import Any

from .calls import Call
from .effects import Answer, Done, Effect
from .records import Entry, Record, SessionKey, Write
from .transition import NEXT, OWNING, SERVING_REMOTE, S
from .window import MAX_WINDOW_BYTES, Window

STEP_DEADLINE = 10.0
"""Seconds for a container to start or a peer to answer a step of a move."""

DOUBT_POLL = 0.5
"""Seconds between two reads of the record while a commit's outcome is unknown."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What the function's manifest says of its sessions."""

    allow: tuple[str, ...]
    min_dwell: float
    queue: int
    dedup: int
    durability: str
    checkpoint_calls: int
    checkpoint_seconds: float


class Holding(ABC):
    """The facts about a session on this node; one owner, `sessions.Seat`, changes them."""

    def __init__(self, key: SessionKey, node: str, boot: str, rules: Rules) -> None:
        self.key = key
        self.state = S.FREE
        self.epoch = 0
        self.version = 0
        self._node = node
        self._boot = boot
        self._rules = rules
        self._queue: deque[Call] = deque()
        self._window = Window(rules.dedup)
        self._record: Record | None = None
        self._head: Call | None = None
        self._container: Any = None
        self._own: list[Call] = []
        self._token = 0
        self._tokens = 0
        self._move = b""
        self._wish: tuple[str, Any, str, bytes] | None = None
        self._asker: Any = None
        self._target = ""
        self._began = 0.0
        self._changed = float("-inf")
        self._stored = 0
        self._unsaved: list[Entry] = []
        self._saving: tuple[int, int, int] | None = None
        self._save_due = False
        self._timer_set = False
        self._held: deque[tuple[int, Answer]] = deque()
        self._blob: bytes | None = None
        self._recovered: int | None = None
        self._moves = 0

    # What others may know

    @property
    def local(self) -> bool:
        """Whether this node owns the session and serves it from its own container."""
        return self.state in OWNING

    @property
    def quiet(self) -> bool:
        """Whether nothing is under way and nothing would be lost with this object."""
        return self.state is S.FREE and not self._queue and self._head is None and not self._wish

    @property
    def container(self) -> Any:
        """The session's own container, if it has one."""
        return self._container

    @property
    def unsaved(self) -> int:
        """Acknowledged calls that a crash now would lose."""
        return self.version - self._stored if self.local else 0

    # What a layer may ask of a later one

    @abstractmethod
    def _localize(self, now: float) -> list[Effect]:
        """From FREE: begin the move that is wished for (`arriving`)."""

    @abstractmethod
    def _begin_leaving(self, now: float) -> list[Effect]:
        """From LOCAL: begin the move that is wished for (`leaving`)."""

    @abstractmethod
    def _resume_leaving(self, now: float) -> list[Effect]:
        """A call or a checkpoint that a move waited for ended (`leaving`)."""

    # Wishes

    def _why_not(self, move: str, target: str) -> tuple[int, str] | None:
        if self._wish is not None or (
            self.state not in SERVING_REMOTE and self.state is not S.LOCAL
        ):
            return 103, "the session is moving already"
        mode = "remote" if move == "externalize" else "local"
        if mode not in self._rules.allow:
            return 201, f"the function does not allow {mode}-state sessions"
        if move == "migrate" and target == self._node:
            return 201, f"the session is on {self._node} already"
        if move == "localize" and self.state is S.LOCAL:
            return 201, f"the session is local on {self._node} already"
        if move != "localize" and self.state is not S.LOCAL:
            return 201, "the session is not local-state"
        return None

    def _prefer(self, mode: str | None, now: float) -> None:
        """The application's trigger; dwell time and a move under way are stronger."""
        wanted = "localize" if mode == "local" else "externalize" if mode == "remote" else None
        if wanted is None or now - self._changed < self._rules.min_dwell:
            return
        if self._why_not(wanted, "") is None:
            self._moves += 1
            move_id = self._moves.to_bytes(4, "big") + self._boot.encode()[-12:]
            self._wish = (wanted, None, "", move_id.ljust(16, b"\0"))

    # Steps

    def _end_move(self, code: int, message: str) -> list[Effect]:
        asker, self._asker = self._asker, None
        if asker is None:
            return []
        return [Done(asker, code, message, {"size": len(self._blob or b""), "began": self._began})]

    def _forget(self) -> None:
        self._own, self._container, self._blob = [], None, None
        self._held.clear()
        self._unsaved, self._saving, self._record = [], None, None
        self._window = Window(self._rules.dedup)
        self._number()

    def _write(self, record: Record, **changes: Any) -> Write:
        """The compare-and-set against `record` that changes only what `changes` says."""
        mode = changes.get("mode", record.mode)
        local = mode == "local"
        return Write(
            key=self.key,
            expect_epoch=record.epoch,
            expect_version=record.version,
            epoch=changes.get("epoch", record.epoch),
            version=changes.get("version", record.version),
            mode=mode,
            owner=self._node if local else None,
            owner_boot=self._boot if local else None,
            move=changes.get("move"),
            state=changes.get("state"),
            results=changes.get("results", ()),
            keep=self._rules.dedup,
            keep_bytes=MAX_WINDOW_BYTES,
            durable=True,
        )

    def _meta(self, call: Call, mode: str, meta: dict[str, Any], now: float) -> dict[str, Any]:
        run = meta.get("run_us", 0)
        said = {
            "node": self._node,
            "mode": mode,
            "queue_us": max(0, int((call.started - call.arrived) * 1e6)),
            "run_us": run,
        }
        for name in ("type", "traceback"):
            if name in meta:
                said[name] = meta[name]
        if self._recovered is not None:
            said["recovered"] = {"version": self._recovered}
            self._recovered = None
        return said

    def _number(self) -> int:
        """A token for the next step; answers to earlier steps are late from here on."""
        self._token = self._fresh()
        return self._token

    def _fresh(self) -> int:
        """A token beside the step under way: checkpoints have their own."""
        self._tokens += 1
        return self._tokens

    def _go(self, state: S) -> None:
        if state is not self.state:
            assert state in NEXT[self.state], f"{self.state} does not lead to {state}"
            self.state = state


def kept(code: int, body: bytes, message: str, meta: dict[str, Any]) -> bytes:
    """What the window keeps of an outcome: the body, or of a function error its message."""
    return body if code == 0 else message.encode()


def remembered(call: Call, entry: Entry, epoch: int) -> Answer:
    """The answer a call id seen before gets."""
    meta = {"epoch": epoch, "version": entry.version, "remembered": True}
    if entry.code == 0 and entry.body is not None:
        return Answer(call, 0, entry.body, "", meta)
    if entry.code == 0:
        return Answer(call, 302, b"", "done already; the answer was too large to remember", meta)
    return Answer(call, entry.code, b"", (entry.body or b"").decode(errors="replace"), meta)
