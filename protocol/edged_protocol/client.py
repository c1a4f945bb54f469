"""The client library's decisions, without sockets or clocks (DESIGN §4, §5.1, §5.3, §5.6).

Decides which broker to dial and when to leave it, which question goes on which connection, what is repeated
under which call id, and when a caller hears that the outcome is unknown. Refuses to know how bytes travel and
how anybody waits: the fronts (`trio_client`, `blocking`) do what `effects` says and report what happened.

One connection serves at a time; others are being dialled, or finish what they have. With `follow_home` it changes over
to the broker that answers name as their `home`; a connection per broker, so that each session has its own, was left out:
the mesh forwards anyway. Calls of one session that are in flight together are handed over in order, but a repeat, or a
call on the next connection, may overtake: where order matters, wait.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from . import messages as m
from .book import Book
from .brokers import Brokers
from .codec import encode
from .errors import (
    CallError,
    Code,
    LocalProtocolError,
    ProtocolError,
    RemoteProtocolError,
    call_error,
)
from .homes import Homes
from .limits import CALL_ID_BYTES
from .lines import Close, Dial, Flush, Line, Lines, Phase
from .retrying import Budget, Chance, Fence, pause_after
from .tickets import (
    Answer,
    Answering,
    Control,
    Feed,
    Invocation,
    Meeting,
    Options,
    Prefer,
    State,
    Ticket,
    Unreachable,
    checked_timeout,
)

__all__ = [
    "Answer",
    "Client",
    "Effect",
    "Options",
    "Prefer",
    "Role",
    "Statistics",
    "Unreachable",
    "Wake",
]

Role = Literal["device", "operator"]


class Wake(NamedTuple):
    """The ticket is done, or a feed has an item."""

    ticket: Ticket


Effect = Dial | Flush | Close | Wake


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a client is doing, and did."""

    broker: str | None
    in_flight: int
    waiting: int
    open: int
    connections: int
    repeated: int
    fenced: int
    timed_out: int


class Client:
    """Ask with `call`, `request`, `feed`; report what happens; then, each time, do the `effects`.

    `chance` spreads pauses, `random_bytes` makes call ids (`os.urandom`). Raises ValueError for addresses
    that are none.
    """

    def __init__(
        self,
        brokers: Sequence[str],
        *,
        name: str,
        role: Role = "device",
        token: str | None = None,
        chance: Chance,
        random_bytes: Callable[[int], bytes],
        follow_home: bool = False,
    ) -> None:
        hello = {"role": role, "name": name, **({} if token is None else {"token": token})}
        self._lines = Lines(Brokers(brokers, chance), hello)
        self._chance = chance
        self._random_bytes = random_bytes
        self._budget = Budget()
        self._fence = Fence()
        self._homes = Homes() if follow_home else None
        self._meetings: list[Ticket] = []
        self._book = Book()
        self._woken: list[Effect] = []
        self._repeated = self._timed_out = 0

    # Asking

    def meet(self, timeout: float, now: float) -> Ticket:
        """Done when there is a broker; fails with Unreachable when every candidate failed, or in time."""
        ticket = Meeting(now + checked_timeout(timeout), 0)
        self._admit(ticket)
        self._meetings.append(ticket)
        self._book.arm(ticket, ticket.deadline)
        self._settle(now)
        return ticket

    def call(
        self,
        function: str,
        session: str | None,
        method: str,
        args: tuple[Any, ...],
        options: Options,
        now: float,
    ) -> Invocation:
        """Start a call. Raises NotRunRetry (101) when full, LocalProtocolError, ValueError."""
        fresh = self._random_bytes(CALL_ID_BYTES)
        ticket = Invocation(function, session, method, args, options, fresh, now)
        self._budget.earn()
        self._start(ticket, now)
        return ticket

    def request(
        self, verb: str, params: m.Map, blob: bytes | None, timeout: float | None, now: float
    ) -> Control:
        """Start a control verb. Raises as `call`."""
        ticket = Control(verb, params, blob, timeout, now)
        self._start(ticket, now)
        return ticket

    def feed(self, verb: str, params: m.Map, timeout: float | None, now: float) -> Feed:
        """Start a stream of items. Raises as `call`."""
        ticket = Feed(verb, params, timeout, now)
        self._start(ticket, now)
        return ticket

    def _start(self, ticket: Ticket, now: float) -> None:
        self._admit(ticket)
        self._book.enqueue(ticket)
        self._settle(now)

    def _admit(self, ticket: Ticket) -> None:
        if self._lines.closed:
            raise Unreachable("the client is closed")
        self._book.admit(ticket)

    def cancel(self, ticket: Ticket, now: float) -> None:
        """Nobody waits for it any more."""
        if not ticket.done:
            self._withdraw(ticket, now)
            self._book.strike(ticket)
            self._settle(now)

    def close(self, now: float) -> None:
        """End every connection and every question; none can be asked any more."""
        self._lines.closed = True
        for ticket in self._book.all():
            gone = "the client was closed"
            sent = ticket.state is State.SENT
            self._finish(
                ticket, ticket.silence(Code.NODE_LOST, gone) if sent else Unreachable(gone)
            )
        for line in self._lines.all():
            self._lines.end(line, now, None)

    # What happens

    def connected(self, number: int, now: float) -> None:
        """The line's socket is connected."""
        line = self._lines.get(number)
        if line is not None and line.phase is Phase.DIALING:
            line.turn(Phase.GREETING, line.since)
            line.send(line.connection.outgoing())

    def received(self, number: int, data: bytes, now: float) -> None:
        """Bytes from the line's broker."""
        line = self._lines.get(number)
        if line is None:
            return
        line.heard(now)
        try:
            for message in line.connection.receive(data):
                self._handle(line, message, now)
                if line.phase is Phase.GONE:
                    break
            line.send(line.connection.outgoing())
        except ProtocolError as error:
            self._end(line, now, str(error), encode(m.GoAway(error.reason)))
        self._settle(now)

    def lost(self, number: int, reason: str, now: float) -> None:
        """The line could not be opened, or has ended."""
        line = self._lines.get(number)
        if line is not None:
            self._end(line, now, reason)
            self._settle(now)

    def next_deadline(self) -> float:
        """When to call `on_deadline`; infinite when nothing is under way."""
        return min(self._book.alarm(), self._lines.alarm())

    def on_deadline(self, now: float) -> None:
        """Time has passed. What has come must have been told by `received` before."""
        for ticket in self._book.due(now):
            self._ring(ticket, now)
        for line in self._lines.all():
            reason = line.check(now)
            if reason:
                self._end(line, now, reason)
        self._settle(now)

    def effects(self) -> list[Effect]:
        """What is to be done now, in this order; each is told once."""
        woken, self._woken = self._woken, []
        return [*self._lines.effects(), *woken]

    def take(self, number: int) -> bytes:
        """Everything to be written on a line now."""
        line = self._lines.get(number)
        return b"" if line is None else line.take()

    @property
    def in_flight(self) -> int:
        """Questions on a connection."""
        return sum(len(line.asked) for line in self._lines.all())

    def statistics(self) -> Statistics:
        """What it is doing, and did."""
        ready = self._lines.ready
        return Statistics(
            None if ready is None else str(ready.address),
            self.in_flight,
            len(self._book.queue),
            len(self._book),
            self._lines.established,
            self._repeated,
            self._fence.refused,
            self._timed_out,
        )

    # Connections

    def _settle(self, now: float) -> None:
        """What follows from any of the above."""
        for line in self._lines.all():
            if line.stuffed:
                self._end(line, now, "it does not read")
        for line in self._lines.surplus():
            self._end(line, now, "it was going away")
        self._lines.seek(now)
        self._meet()
        ready, queue = self._lines.ready, self._book.queue
        while ready is not None and queue and ready.room:
            self._send(ready, queue.popitem(last=False)[1], now)

    def _meet(self) -> None:
        if self._meetings and (self._lines.ready is not None or self._lines.hopeless):
            meetings, self._meetings = self._meetings, []
            for ticket in meetings:
                if not ticket.done:
                    self._finish(ticket, None if self._lines.ready else self._lines.unreachable())

    def _end(self, line: Line, now: float, reason: str, last_words: bytes = b"") -> None:
        """A line has ended: what was in flight on it goes elsewhere, before all else."""
        for ticket in reversed(self._lines.end(line, now, reason, last_words)):
            lost = f"the connection to {line.address} was lost: {reason}"
            error = ticket.silence(Code.NODE_LOST, lost)
            if ticket.repeats(error):
                self._repeated += 1
                self._book.enqueue(ticket, first=True)
            else:
                self._finish(ticket, error)

    # Questions and answers

    def _send(self, line: Line, ticket: Ticket, now: float) -> None:
        if now >= ticket.deadline:
            self._finish(ticket, ticket.unsent(self._lines.why_unsent()))
            return
        id_ = line.next_id()
        try:
            frame = ticket.frame(id_, now)
        except LocalProtocolError as error:
            self._finish(ticket, error)
            return
        size, most = len(frame) - 4, line.connection.max_frame
        if size > most:
            text = f"a frame of {size} bytes, the broker takes {most}"
            self._finish(ticket, call_error(Code.TOO_LARGE, text))
            return
        line.ask(ticket, id_, frame, now)
        if ticket.alarm != ticket.deadline:
            self._book.arm(ticket, ticket.deadline)

    def _handle(self, line: Line, message: m.Message, now: float) -> None:
        if isinstance(message, Answering):
            ticket = line.asked.get(message.id)
            if ticket is not None:
                self._answered(line, ticket, message, now)
            elif not isinstance(message, m.Item) or message.last:
                line.ended(message.id)
        elif isinstance(message, m.Ping):
            line.send(encode(m.Pong(message.nonce)))
        elif isinstance(message, m.Welcome):
            self._lines.welcomed(line, message.info, now)
        elif isinstance(message, m.GoAway):
            if line.young:
                raise RemoteProtocolError(message.reason, "refused by the broker")
            self._lines.sent_away(line, message, now)
        elif not isinstance(message, m.Pong):
            kind = type(message).__name__
            raise RemoteProtocolError("bad_message", f"{kind} is not for a client")

    def _answered(self, line: Line, ticket: Ticket, message: Answering, now: float) -> None:
        told = ticket.epoch_in(message)
        error = (self._fence.refuses(*told, now) if told is not None else None) or ticket.accept(message)
        if error is None and not ticket.complete:
            ticket.progress(now)
            self._book.arm(ticket, ticket.deadline)
            self._woken.append(Wake(ticket))
            return
        if self._homes is not None and isinstance(ticket, Invocation) and ticket.session is not None:
            self._go_home(self._homes, message, now)
        if isinstance(message, m.Item) and not message.last:
            line.cancel(ticket, now)  # the broker would go on
        else:
            line.ended(ticket.id)
        if error is not None and ticket.repeats(error):
            self._pause(ticket, error, now)
        else:
            self._finish(ticket, error)

    def _go_home(self, homes: Homes, message: Answering, now: float) -> None:
        """Another broker may be nearer to the sessions."""
        if isinstance(message, m.Result):
            node = homes.told((message.meta or {}).get("home"))
            if node is not None:
                self._lines.prefer(node, now)

    def _pause(self, ticket: Ticket, error: CallError, now: float) -> None:
        """Repeat it later, if there is time."""
        wait = max(pause_after(error, ticket.repeated, self._chance), self._budget.take(now))
        if now + wait >= ticket.deadline:
            self._budget.give_back()
            self._finish(ticket, error)
            return
        ticket.state = State.PAUSED
        ticket.repeated += 1
        self._repeated += 1
        self._book.arm(ticket, now + wait)

    def _finish(self, ticket: Ticket, error: Exception | None) -> None:
        self._book.strike(ticket)
        ticket.error = None if error is None else ticket.final(error)
        self._woken.append(Wake(ticket))

    def _withdraw(self, ticket: Ticket, now: float) -> None:
        line = self._lines.get(ticket.line)
        if ticket.state is State.SENT and line is not None:
            line.cancel(ticket, now)

    # Time

    def _ring(self, ticket: Ticket, now: float) -> None:
        if ticket.state is State.PAUSED:
            self._book.enqueue(ticket)
        elif ticket.state is State.WAITING:
            self._finish(ticket, ticket.unsent(self._lines.why_unsent()))
        elif now < ticket.deadline + ticket.margin:
            self._book.arm(ticket, ticket.deadline + ticket.margin)
        else:
            self._timed_out += 1
            self._withdraw(ticket, now)
            self._finish(ticket, ticket.silence(Code.DEADLINE_EXCEEDED, "no answer in time"))
