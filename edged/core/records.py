"""What a state store is asked and what it answers (DESIGN §5): the vocabulary.

Decides nothing: who may write is decided by the store's compare-and-set, what to write by the
sessions. Refuses to know drivers, encodings, time and chance.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

Mode = Literal["remote", "local"]

MAX_PAGE = 500
"""Sessions of one listing: far below a frame, and the store's thread is soon free again."""

MAX_ASK = 1024
"""Call ids one Load may ask for; a window is rarely longer than 128."""

MAX_DELTAS = 64
"""Deltas behind one state: a new owner takes them one after another, and a row of them is one read."""

MAX_INTEGER = 2**63 - 1
"""The largest number every store can keep."""


ENDED = 0
"""The `schema` of a session that has ended: no state has it. What is left is the epoch, so that one begun again has a
higher one, and the outcomes that a retry may still ask for."""

ENDED_SECONDS = 7 * 86_400.0
"""For so long that stays: a program repeats a call within its deadline, a person after a weekend. Then a session of that name
is a new one, whose epochs begin again."""

SEEN_SECONDS = 6 * 86_400.0
"""For so long nodes and clients, each by its own clock, remember the epoch at which they met a session: shorter, so that none
takes a new session for an old one that has gone back."""


class SessionKey(NamedTuple):
    """One session of one function."""

    function: str
    session: str


class Entry(NamedTuple):
    """The remembered outcome of one call.

    `code` 0 is a RESULT; a `body` of None was too large to keep: the call is known as done.
    """

    call_id: bytes
    code: int
    body: bytes | None
    version: int


@dataclass(frozen=True, slots=True)
class Record:
    """A session as the store has it. `updated` is wall clock and only informs people.

    The state is `state` with `deltas` on top, in order; what they mean only containers know.
    """

    epoch: int
    mode: Mode
    owner: str | None
    owner_boot: str | None
    version: int
    move: bytes | None
    state: bytes | None
    floor: bool
    schema: int
    updated: float
    alarms: bytes | None
    deltas: tuple[bytes, ...] = ()

    @property
    def ended(self) -> bool:
        """Whether nobody has called the session since it ended."""
        return self.schema == ENDED

    @property
    def form(self) -> int:
        """The schema of the state that is here; 0: there is none."""
        return self.schema if self.state or self.deltas else 0


class Lease(NamedTuple):
    """A node's claim to be alive: an observer waits for `seq` to stand still, on its own clock."""

    node: str
    boot: str
    seq: int
    ttl: float


# ---- what a store is asked


class Load(NamedTuple):
    """Read a session and its remembered results: all of them, oldest first, or those of `ask`."""

    key: SessionKey
    ask: tuple[bytes, ...] | None = None


class Write(NamedTuple):
    """One compare-and-set: applies iff the record has (expect_epoch, expect_version).

    An absent record has (0, 0). With `lease` = (node, seq) that node's lease must also still have
    that seq. `state` None keeps the state that is there, an empty one is that of a new session; `move` None
    keeps the move. A `state` replaces the deltas too; a `delta` is put on top of what is there, and beyond
    MAX_DELTAS refused as StoreFailed. Results are appended and the oldest dropped beyond `keep` entries or `keep_bytes` of bodies, which
    sets `floor`.
    `alarms` None keeps the alarms; else these take their place, and `due` (wall clock) says when
    the session is to be listed by ListAlarms, None: not. `schema` is the form of the `state`; a write that brings none leaves
    it as it is, but that one with ENDED ends the session, and what has ended begins with any other. With `had_alarms` these must be the record's
    (empty: none), for alarms may change while the version does not.
    A result already remembered: nothing applies, `duplicate` says which.
    A move that the record already has at `epoch`: won again, nothing applies.
    """

    key: SessionKey
    expect_epoch: int
    expect_version: int
    epoch: int
    version: int
    mode: Mode
    owner: str | None
    owner_boot: str | None
    move: bytes | None
    state: bytes | None
    results: tuple[Entry, ...]
    keep: int
    keep_bytes: int
    durable: bool
    schema: int = 1
    lease: tuple[str, int] | None = None
    delta: bytes | None = None
    alarms: bytes | None = None
    due: float | None = None
    had_alarms: bytes | None = None


class Forget(NamedTuple):
    """End a session, if its record has (expect_epoch, expect_version)."""

    key: SessionKey
    expect_epoch: int
    expect_version: int


class ListSessions(NamedTuple):
    """Sessions in key order behind `after`.

    A page shorter than min(limit, MAX_PAGE) is the last.
    """

    function: str | None = None
    after: SessionKey | None = None
    limit: int = MAX_PAGE


class ListAlarms(NamedTuple):
    """At most min(limit, MAX_PAGE) sessions that were due before that time, the one due longest first."""

    before: float
    limit: int = MAX_PAGE


class Renew(NamedTuple):
    """Renew a node's lease.

    Wins iff there is none, or one of this boot at seq - 1, or one of another boot: a restarted node
    replaces its former life. With `over`, of another boot only the one that has that seq, or, if that is 0, none.
    """

    node: str
    boot: str
    seq: int
    ttl: float
    over: int | None = None


class ReadLeases(NamedTuple):
    """All leases."""


Op = Load | Write | Forget | ListSessions | ListAlarms | Renew | ReadLeases


# ---- what a store answers


class Loaded(NamedTuple):
    """Answer of Load."""

    record: Record | None
    results: tuple[Entry, ...] = ()


class Written(NamedTuple):
    """Answer of Write and Forget: `current` is the record as it is now, without its state and deltas."""

    won: bool
    current: Record | None = None
    duplicate: Entry | None = None


class Listed(NamedTuple):
    """Answer of ListSessions and ListAlarms; the records come without their states."""

    rows: tuple[tuple[SessionKey, Record], ...]


class Leased(NamedTuple):
    """Answer of Renew: `seq` is what the store has now."""

    won: bool
    seq: int


class LeaseTable(NamedTuple):
    """Answer of ReadLeases."""

    rows: tuple[Lease, ...]


class StoreFailed(NamedTuple):
    """No answer. `applied` False: certainly nothing changed; None: only reading tells."""

    applied: Literal[False] | None
    reason: str


Outcome = Loaded | Written | Listed | Leased | LeaseTable | StoreFailed
