"""What one session's actor knows, and the few moves that every step of it makes.

Decides nothing: the modules beside it do, and they alone change what is here. One object for all of them
because a step of one is the precondition of the next; passing the parts along was the alternative, and would
cost every call a layer.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from ..alarms import NONE, Alarms
from ..calls import Call
from ..effects import Answer, Done, Effect
from ..leases import Leases
from ..records import Record, SessionKey
from ..rests import Rests
from ..takes import FIRST_FORM
from ..transition import HOLDING, NEXT, OWNING, S
from ..window import Window
from .arrival import Arrival
from .basis import WORTH, Basis, Part
from .copying import CHUNK, Copy
from .unsaved import Unsaved

STEP_DEADLINE = 10.0
"""Seconds for a container or a peer to answer a step of a move."""


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
    max_state: int = 1 << 20
    """Bytes; of what a pool's container gives back. A session's own container refuses to hold more."""
    deltas_from: int = WORTH
    max_pause: float = 0.5
    chunk: int = CHUNK
    follow: bool = False
    shared: Collection[str] = ()
    """Methods that change nothing, as far as a container has said."""
    on_partition: str = "fence"
    start: str = "remote"


class Wish(NamedTuple):
    """A move somebody wants; `target` is "node/boot" for `migrate`."""

    move: str
    asker: Any
    target: str
    move_id: bytes
    forced: bool = False
    """Whatever the pause will be."""
    frozen: bool = False
    """Without copying first."""
    dwells: bool = False
    """Whether the session's dwell time is stronger, as it is for all but operators."""


class Saving(NamedTuple):
    """A checkpoint under way: its step, the call the container runs before it, what a won write saves."""

    token: int
    step: Literal["snapshot", "write", "check"]
    behind: Call | None
    version: int = 0
    mark: int = 0
    part: Part = Part()


class Owed(NamedTuple):
    """The source of the migration `move` keeps its copy until the store has `version`."""

    source: str
    version: int
    move: bytes


@dataclass(slots=True)
class After:
    """What is left to do behind a migration."""

    thanked: bool = False
    """The source: whether the target has said that all is safe there."""
    regains: bool = False
    """The source: whether it takes the session back,"""
    lost_seq: int | None = None
    """under which lease of the target's."""
    owed: Owed | None = None
    """The target: whom it owes that word."""


class Actor:
    """The state of a session here; `transition` says what holds in each."""

    def __init__(
        self,
        key: SessionKey,
        node: str,
        boot: str,
        rules: Rules,
        leases: Leases,
        candidates: Callable[[], Iterable[str]],
        rests: Rests,
    ) -> None:
        self.key = key
        self.node = node
        self.boot = boot
        self.rules = rules
        self.leases = leases
        # The nodes that could serve the session, this one too.
        self.candidates = candidates
        self.rests = rests
        self.state = S.FREE
        self.epoch = 0
        self.version = 0
        # Calls: those that wait, the one that runs remote-state on `record`, those in the container.
        self.queue: deque[Call] = deque()
        self.head: Call | None = None
        self.record: Record | None = None
        self.own: deque[Call] = deque()
        self.readers: dict[int, Call] = {}
        self.container: Any = None
        self.deltas, self.takes = False, FIRST_FORM
        self.window = Window(rules.dedup)
        # The version it was taken up from, until a caller has heard of it; and who heard of the last one.
        self.recovered: int | None = None
        self.told: tuple[bytes | None, int] = None, 0
        # Alarms of a local session, and whether the store is to be told of them.
        self.alarms: Alarms = NONE
        self.alarmed = False
        self.state_lost = False
        # The term of the lease in which the record last named this node, and the epoch others may take first.
        self.term = self.yielded = 0
        # What the store does not have yet, and the answers that wait until it has.
        self.stored = 0
        self.basis = Basis()
        self.changes = Unsaved(rules.dedup)
        self.held: deque[tuple[int, Answer]] = deque()
        self.saving: Saving | None = None
        self.save_due = False
        self.save_timer = False
        self.save_failed = False
        # Why a checkpoint failed; and why the last try to be local-state did, until a call has heard of it.
        self.save_problem = self.kept_out = ""
        self.watched = 0
        # The move that is wished for, and the one under way.
        self.wish: Wish | None = None
        self.asker: Any = None
        self.target = ""
        self.move = self.digest = b""
        # `called`: when the container got the last call, or began to serve.
        self.began = self.called = 0.0
        self.moved = 0
        self.copy: Copy | None = None
        self.arrival: Arrival | None = None
        # `closing`: it is the session's end. `over`: its function has said that it ends, which nothing takes back.
        # `hinted`: somebody has spoken of a higher epoch, and the record has not been read since.
        self.forced = self.frozen = self.dwells = self.closing = self.over = self.hinted = False
        self.after = After()
        # What the write that ends the ownership brings, and whether the store then has everything.
        self.part = Part()
        self.complete = self.doubtful = False
        self.claims = 0
        self.missing = self.moves = 0
        # Steps: answers to another token than the last are late.
        self.token = 0
        self._tokens = 0

    @property
    def local(self) -> bool:
        """Whether this node owns the session and serves it from its own container."""
        return self.state in OWNING

    @property
    def quiet(self) -> bool:
        """Whether nothing is under way and nothing would be lost with this object."""
        return self.state is S.FREE and not (self.queue or self.head or self.wish or self.readers)

    @property
    def unsaved(self) -> int:
        """Acknowledged calls that a crash now would lose."""
        return self.version - self.stored if self.state in HOLDING else 0

    def go(self, state: S) -> None:
        """Step to `state`; staying is no step."""
        if state is not self.state:
            assert state in NEXT[self.state], f"{self.state} does not lead to {state}"
            self.state = state

    def number(self) -> int:
        """A token for the next step; answers to earlier steps are late from here on."""
        self.token = self.fresh()
        return self.token

    def fresh(self) -> int:
        """A token beside the step under way: checkpoints have their own."""
        self._tokens += 1
        return self._tokens

    def next_move(self) -> bytes:
        """The id of a move that nobody outside asked for."""
        self.moves += 1
        return (self.moves.to_bytes(4, "big") + self.boot.encode()[-12:]).ljust(16, b"\0")

    def end_move(self, code: int, message: str) -> list[Effect]:
        """Whoever asked for the move under way is told how it ended."""
        asker, self.asker = self.asker, None
        self.closing = False
        if asker is None:
            return []
        result = {"size": self.moved, "began": self.began}
        if self.copy is not None:
            result |= {"rounds": self.copy.rounds, "copied": self.began - self.copy.began, "on_wire": self.copy.on_wire}
        return [Done(asker, code, message, result)]

    def names(self) -> dict[str, Any]:
        """What every step of a migration says of the session."""
        return {
            "function": self.key.function,
            "session": self.key.session,
            "epoch": self.epoch,
            "version": self.version,
            "move": self.move,
        }

    def forget(self) -> None:
        """Nothing is held here any more; calls that wait still do."""
        self.own.clear()
        self.held.clear()
        self.changes.clear()
        self.basis.forget()
        self.container = self.record = self.saving = None
        self.part = Part()
        self.copy = self.arrival = None
        self.window = Window(self.rules.dedup)
        self.alarms, self.alarmed = NONE, False
        self.doubtful = self.closing = self.over = self.hinted = False
        self.after = After()
        self.number()

    def waiting(self) -> list[Call]:
        """Every call that has not begun to run, in order; they are no longer here."""
        calls = [self.head] if self.head is not None else []
        calls += self.queue
        self.head = None
        self.queue.clear()
        return calls
