"""A client's connections, from dialling to their end (SPEC "Handshake", "Going away").

Decides which broker is dialled when, which one connection takes new questions, and when one counts as dead.
Refuses to know what the questions are, and what becomes of those a connection leaves open.
"""

from enum import Enum
from math import inf
from typing import NamedTuple

from . import messages as m
from .brokers import Address, Brokers
from .codec import encode
from .connection import Connection
from .errors import CallError, Code, call_error
from .limits import KIB, MAX_INFLIGHT, MIB
from .tickets import State, Ticket, Unreachable

MAX_DIALS = 3
STAGGER = 0.25
"""Seconds until the next candidate is dialled beside one that has not answered yet."""

MAX_LEAVING = 4
"""Connections that finish what they have; one more ends the oldest."""

STEADY = 1.0
"""Seconds a connection must have served for its broker's earlier failures to be forgotten."""

HELLO_SECONDS = 3.0
"""From dialling to WELCOME; a node gives a stranger as long."""

BUSY_QUIET = 1.0
"""Seconds of silence, with questions open, after which the broker is asked whether it is there."""

IDLE_QUIET = 30.0
"""The same with none open; it also keeps address translators on the way from forgetting the connection."""

PONG_SECONDS = 3.0
"""For any sign of life after that. With BUSY_QUIET a dead broker leaves a default call a second."""

SLOWEST = 64 * KIB
"""Bytes a second a line is trusted to carry: the answer to a PING waits behind what was asked before it."""

MOST = 4096
"""In flight on one connection, whatever the broker offers."""

GRACE = 1.0
"""Seconds beyond its deadline after which a call given up holds no slot: a broker has answered all by then."""

ENDLESS = 60.0
"""Seconds that a stream given up holds its slot, unless its end comes."""

MAX_FED = 256 * KIB
"""Unsent bytes above which questions stay in the queue, where they can still go elsewhere."""

MAX_OUT = 4 * MIB
"""Unsent bytes above which a broker that does not read is left; one frame may pass."""


class Phase(Enum):
    """Where a connection is. Only a READY one takes questions; a LEAVING one answers those it has."""

    DIALING = "dialing"
    GREETING = "greeting"
    READY = "ready"
    LEAVING = "leaving"
    GONE = "gone"


NEXT: dict[Phase, frozenset[Phase]] = {
    Phase.DIALING: frozenset({Phase.GREETING, Phase.GONE}),
    Phase.GREETING: frozenset({Phase.READY, Phase.GONE}),
    Phase.READY: frozenset({Phase.LEAVING, Phase.GONE}),
    Phase.LEAVING: frozenset({Phase.GONE}),
    Phase.GONE: frozenset(),
}


class Dial(NamedTuple):
    """Open a connection to `address`; then `connected` or `lost`."""

    line: int
    address: Address


class Flush(NamedTuple):
    """The line has bytes: `take` them and write them as soon as it takes any."""

    line: int


class Close(NamedTuple):
    """End the line; `lost` need not be told. `last_words` are written if that takes no wait."""

    line: int
    last_words: bytes


class Line:
    """One connection. `asked` are its open questions by id; those given up keep their slot for a while."""

    def __init__(self, number: int, address: Address, hello: m.Map, now: float) -> None:
        self.number = number
        self.address = address
        self.connection = Connection.dialer(hello)
        self.phase = Phase.DIALING
        self.since = now
        self.asked: dict[int, Ticket] = {}
        self._given_up: dict[int, float] = {}
        self.max_inflight = MAX_INFLIGHT
        self.pending = 0
        self._quiet_since = now
        self._pong_by: float | None = None
        self._out: list[bytes] = []
        self.flushing = False
        self._last_id = 0

    def turn(self, phase: Phase, now: float) -> None:
        """Go on to `phase`, which must be a next one."""
        if phase not in NEXT[self.phase]:
            raise AssertionError(f"a {self.phase.value} line cannot be {phase.value}")
        self.phase = phase
        self.since = now

    @property
    def young(self) -> bool:
        """Whether WELCOME has not come yet."""
        return self.phase in (Phase.DIALING, Phase.GREETING)

    @property
    def room(self) -> bool:
        """Whether it takes another question now."""
        return (
            self.phase is Phase.READY
            and len(self.asked) + len(self._given_up) < self.max_inflight
            and self.pending < MAX_FED
        )

    # Out

    def send(self, frame: bytes) -> None:
        """Queue whole frames."""
        if frame:
            self._out.append(frame)
            self.pending += len(frame)

    def take(self) -> bytes:
        """Everything queued, to be written in one go."""
        data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
        self._out.clear()
        self.pending = 0
        self.flushing = False
        return data

    @property
    def stuffed(self) -> bool:
        """Whether more waits to be written than a broker that reads would let come together."""
        return self.pending > MAX_OUT and len(self._out) > 1

    # Questions

    def next_id(self) -> int:
        """An id no open question has."""
        self._last_id += 1
        return self._last_id

    def ask(self, ticket: Ticket, id_: int, frame: bytes, now: float) -> None:
        """Send a question."""
        if not self.asked:
            self._quiet_since = max(self._quiet_since, now)
        self.asked[id_] = ticket
        ticket.line, ticket.id, ticket.state = self.number, id_, State.SENT
        self.send(frame)
        ticket.progress(now)

    def cancel(self, ticket: Ticket, now: float) -> None:
        """Nobody waits for it any more: say so. The broker counts it until its work ends."""
        until = now + ENDLESS if ticket.endless else max(now, ticket.deadline + GRACE)
        self._given_up[ticket.id] = until
        self.asked.pop(ticket.id, None)
        self.send(encode(m.Cancel(ticket.id)))

    def ended(self, id_: int) -> None:
        """The broker has given its last answer to that question."""
        self.asked.pop(id_, None)
        self._given_up.pop(id_, None)

    # Signs of life

    def heard(self, now: float) -> None:
        """Bytes have come."""
        self._quiet_since = now
        self._pong_by = None

    def alarm(self) -> float:
        """When to `check` again."""
        if self.young:
            return self.since + HELLO_SECONDS
        slot = min(self._given_up.values(), default=inf)
        if self._pong_by is not None:
            return min(slot, self._pong_by)
        return min(slot, self._quiet_since + (BUSY_QUIET if self.asked else IDLE_QUIET))

    def check(self, now: float) -> str:
        """Why it is dead, or nothing; asks the broker for a sign of life when it is time."""
        for id_ in [id_ for id_, until in self._given_up.items() if until <= now]:
            del self._given_up[id_]
        if now < self.alarm():
            return ""
        if self.young:
            return f"no greeting in {HELLO_SECONDS:g} s"
        if self._pong_by is not None:
            return f"no sign of life for {now - self._quiet_since:.0f} s"
        carried = sum(ticket.size for ticket in self.asked.values())
        self._pong_by = now + PONG_SECONDS + carried / SLOWEST
        self.send(encode(m.Ping(0)))
        return ""


class Lines:
    """All connections of a client. `ready` is the one that takes questions."""

    def __init__(self, brokers: Brokers, hello: m.Map) -> None:
        self.brokers = brokers
        self.ready: Line | None = None
        self.established = 0
        self.closed = False
        self._hello = hello
        self._lines: dict[int, Line] = {}
        self._last = 0
        self._successor = 0
        self._seek_at = -inf
        self._effects: list[Dial | Flush | Close] = []

    def get(self, number: int) -> Line | None:
        """The line of that number, while it lasts."""
        return self._lines.get(number)

    def all(self) -> list[Line]:
        """Every line, oldest first."""
        return list(self._lines.values())

    @property
    def hopeless(self) -> bool:
        """Whether no broker is there, none is being tried, and each has failed."""
        trying = self.ready is not None or any(line.young for line in self._lines.values())
        return not trying and self.brokers.exhausted

    def unreachable(self) -> Unreachable:
        """Why there is none."""
        return Unreachable(self.brokers.explain())

    def why_unsent(self) -> CallError:
        """An error for a question that found no connection with room in its time."""
        if self.ready is None:
            return self.unreachable()
        text = f"{len(self.ready.asked)} calls in flight left no room in time"
        return call_error(Code.OVERLOADED, text)

    def alarm(self) -> float:
        """When to `check` and `seek` again."""
        return min([self._seek_at, *(line.alarm() for line in self._lines.values())])

    def effects(self) -> list[Dial | Flush | Close]:
        """What is to be done; a line whose bytes have not been taken since is not named again."""
        for line in self._lines.values():
            if line.pending and not line.flushing:
                line.flushing = True
                self._effects.append(Flush(line.number))
        effects, self._effects = self._effects, []
        return effects

    def _busy(self) -> set[Address]:
        return {line.address for line in self._lines.values()}

    def seek(self, now: float) -> None:
        """Dial, as long as there is no broker: one candidate at once, a further one after STAGGER."""
        self._seek_at = inf
        if self.ready is not None or self.closed:
            return
        young = [line for line in self._lines.values() if line.young]
        if len(young) >= MAX_DIALS:
            return
        if young and now < young[-1].since + STAGGER:
            self._seek_at = young[-1].since + STAGGER
            return
        busy = self._busy()
        address = self.brokers.choose(now, busy)
        if address is None:
            self._seek_at = self.brokers.next_time(busy)
        else:
            self._dial(address, now)
            self._seek_at = now + STAGGER

    def prefer(self, node: str, now: float) -> None:
        """Have that node for a broker from the moment it greets; until then, and if it does not, all is as it was."""
        address = self.brokers.of_node(node, now)
        if self.ready is None or address is None or address in self._busy() or self._successor in self._lines:
            return
        self._dial(address, now)
        self._successor = self._last

    def _dial(self, address: Address, now: float) -> None:
        self._last += 1
        self._lines[self._last] = Line(self._last, address, self._hello, now)
        self._effects.append(Dial(self._last, address))

    def welcomed(self, line: Line, info: m.Map, now: float) -> None:
        """The broker greeted: it is the one, unless another was faster."""
        self.brokers.learn(info.get("brokers"), self._busy())
        if self.ready is not None and line.number == self._successor and not self.closed:
            self.ready.turn(Phase.LEAVING, now)  # it answers what it has
            self.ready, self._successor = None, 0
        if self.ready is not None or self.closed:
            self.end(line, now, None)
            return
        line.turn(Phase.READY, now)
        limit = info.get("max_inflight")
        line.max_inflight = min(limit, MOST) if type(limit) is int and limit > 0 else MAX_INFLIGHT
        self.ready = line
        self.established += 1
        for other in self.all():
            if other.young:
                self.end(other, now, None)

    def sent_away(self, line: Line, message: m.GoAway, now: float) -> None:
        """The broker wants no new questions: it finishes what it has, the next one is sought."""
        self.brokers.learn((message.info or {}).get("brokers"), self._busy())
        if line.phase is not Phase.READY:
            return
        line.turn(Phase.LEAVING, now)
        self.ready = None
        self.brokers.failed(line.address, f"going away: {message.reason}", now)

    def surplus(self) -> list[Line]:
        """Lines that leave and are not waited for: those with nothing to finish, and too old ones."""
        leaving = [line for line in self._lines.values() if line.phase is Phase.LEAVING]
        idle = [line for line in leaving if not line.asked]
        return idle or leaving[:-MAX_LEAVING]

    def end(
        self, line: Line, now: float, reason: str | None, last_words: bytes = b""
    ) -> list[Ticket]:
        """Forget a line; the questions it leaves open. `reason` is how it failed, None if it did not."""
        served = line.phase is Phase.READY
        if served and now - line.since >= STEADY:
            self.brokers.worked(line.address)
        if reason is not None and line.phase is not Phase.LEAVING:
            self.brokers.failed(line.address, reason, now, refused=bool(last_words) and not served)
        line.turn(Phase.GONE, now)
        if self.ready is line:
            self.ready = None
        del self._lines[line.number]
        self._effects.append(Close(line.number, last_words))
        left = list(line.asked.values())
        line.asked.clear()
        return left
