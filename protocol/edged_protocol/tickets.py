"""What a client has asked, from question to answer (DESIGN §4 "Three-valued outcome").

Decides the frame of a question and which exception its caller gets: one that never says less was done than
may have been. Refuses to know connections, queues and pauses. Times are monotonic seconds.
"""

from collections import deque
from dataclasses import dataclass
from enum import Enum
from math import inf
from typing import Any, Literal, TypedDict

from . import messages as m
from .codec import encode, encode_invoke, pack, unpack
from .errors import (
    CallError,
    Code,
    NotRun,
    NotRunRetry,
    RemoteProtocolError,
    call_error,
    outcome_of,
)
from .limits import CALL_ID_BYTES, MAX_TIMEOUT_MS, MIB
from .retrying import Verdict, verdict_on

Prefer = Literal["local", "remote", "any"]

CALL_SECONDS = 5.0
READING_SECONDS = 10.0
CHANGING_SECONDS = 65.0
"""A node gives up on a verb after 60; its answer says more than our silence."""

MARGIN = 1.0
"""Seconds a call waits beyond its deadline: the broker's own 401 knows more than our silence."""

READING = frozenset(
    {"node.status", "mesh.nodes", "function.list", "function.logs", "session.list", "session.get"}
)

MAX_ITEMS = 2048
MAX_ITEM_BYTES = 4 * MIB
"""Of a stream, not yet taken; a node keeps 1,000 log lines of a function and sends them at once."""

Answering = m.Result | m.Error | m.Reply | m.Item
"""What answers a question."""

Session = tuple[str, str]
"""(function, session key)"""

TIMINGS = ("queue_us", "run_us", "state_us")


class Unreachable(NotRunRetry):
    """No broker answered, and nothing was changed: repeat it when one is back. Its code is 105."""

    def __init__(self, message: str) -> None:
        super().__init__(Code.OWNER_UNREACHABLE, message)
        self.args = (message,)


class Options(TypedDict, total=False):
    """How a call is made.

    `timeout`: seconds, default 5, at most an hour. `prefer`: the session's mode after the call.
    `call_id`: 16 bytes; the id of an earlier call repeats that call; default: a fresh one.
    `attempt`: earlier tries of that call id, by anybody, that may have run (SPEC "Retries"); default 0.
    `once`: a try that may have run is not repeated; default False. For effects outside the mesh that must
    not happen twice: a session's state is safe from repeats, but a call without session is simply run again.
    """

    timeout: float
    prefer: Prefer | None
    call_id: bytes | None
    attempt: int
    once: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """A call's value and what the mesh says of it.

    `node`, `mode`, `epoch`, `version` are None where the mesh did not say; `timings` has microseconds by
    name (queue_us, run_us, state_us); `attempts` counts the tries, 1 for a call answered at once.
    """

    value: Any
    node: str | None
    mode: str | None
    epoch: int | None
    version: int | None
    timings: dict[str, int]
    call_id: bytes | None
    attempts: int
    meta: dict[str, Any]


class State(Enum):
    """Where a ticket is. Only a SENT one has a line; only a DONE one has an outcome."""

    WAITING = "in the queue"
    SENT = "on a connection"
    PAUSED = "until it may be repeated"
    DONE = "finished"


class Ticket:
    """One question. `waiter` belongs to the front: whoever waits for it."""

    margin = 0.0
    endless = False

    def __init__(self, deadline: float, size: int) -> None:
        self.deadline = deadline
        self.size = size
        self.serial = 0
        self.state = State.WAITING
        self.alarm = inf
        self.line = 0
        self.id = 0
        self.repeated = 0
        self.complete = False
        self.error: Exception | None = None
        self.waiter: Any = None

    @property
    def done(self) -> bool:
        """Whether it has an outcome."""
        return self.state is State.DONE

    def frame(self, id_: int, now: float) -> bytes:
        """The question as it goes to a broker. Raises LocalProtocolError."""
        raise NotImplementedError

    def progress(self, now: float) -> None:
        """It was sent, or a part of its answer has come."""

    def repeats(self, error: CallError) -> bool:
        """Whether it is to be asked again after `error`, which is taken note of."""
        return False

    def accept(self, message: Answering) -> CallError | None:
        """Take an answer, `complete` if that was all of it; the error it is, or makes by its kind."""
        raise NotImplementedError

    def epoch_in(self, message: Answering) -> tuple[Session, int] | None:
        """The session and the epoch an answer speaks of, if it says that a call ran."""
        return None

    def silence(self, code: Code, reason: str) -> CallError:
        """What it means that a question sent is not answered."""
        return call_error(code, reason)

    def unsent(self, reason: CallError) -> CallError:
        """What it means that it was not sent in time, for `reason`."""
        return reason

    def final(self, error: Exception) -> Exception:
        """What the caller is told when it ends with `error`."""
        return error


class Meeting(Ticket):
    """Waits until there is a broker; it is never sent."""


class Invocation(Ticket):
    """A call of a function. `attempt` counts earlier tries that may have run, `tries` all of them."""

    margin = MARGIN

    def __init__(
        self,
        function: str,
        session: str | None,
        method: str,
        args: tuple[Any, ...],
        options: Options,
        fresh_id: bytes,
        now: float,
    ) -> None:
        timeout = checked_timeout(options.get("timeout", CALL_SECONDS))
        self.body = pack(list(args))
        super().__init__(now + timeout, len(self.body))
        self.function = function
        self.session = session
        self.method = method
        self.prefer = options.get("prefer")
        self.once = options.get("once", False)
        self.call_id = self._call_id(options.get("call_id"), fresh_id)
        self.attempt = options.get("attempt", 0)
        self.tries = 0
        self.result: m.Result | None = None
        self._doubt = _earlier(self.attempt)
        self._refused: CallError | None = None

    def _call_id(self, given: bytes | None, fresh: bytes) -> bytes | None:
        if given is not None:
            if len(given) != CALL_ID_BYTES:
                raise ValueError(f"a call id has {CALL_ID_BYTES} bytes")
            return given
        # Nothing remembers a call without a session; what is never repeated needs no name.
        return None if self.once and self.session is None else fresh

    def frame(self, id_: int, now: float) -> bytes:
        """INVOKE with the time that is left."""
        self.tries += 1
        meta: m.Map = {}
        if self.prefer is not None:
            meta["prefer"] = self.prefer
        if self.attempt:
            meta["attempt"] = self.attempt
        left = min(max(1, int((self.deadline - now) * 1000)), MAX_TIMEOUT_MS)
        target = (self.function, self.session, self.method, self.call_id)
        return encode_invoke(id_, *target, left, self.body, meta or None)

    def repeats(self, error: CallError) -> bool:
        """By the table of outcomes; never what may have run, if `once`."""
        verdict = verdict_on(error)
        if verdict is Verdict.IN_DOUBT:
            self.attempt += 1
            self._doubt = error
            return not self.once
        self._refused = error
        return verdict is Verdict.AGAIN

    def accept(self, message: Answering) -> CallError | None:
        """Only a RESULT will do."""
        if isinstance(message, m.Error):
            return call_error(message.code, message.message, message.meta)
        if not isinstance(message, m.Result):
            return call_error(Code.INTERNAL, "the call was not answered with a RESULT")
        self.result, self.complete = message, True
        return None

    def epoch_in(self, message: Answering) -> tuple[Session, int] | None:
        """Of a RESULT or a 3xx, in a session."""
        if self.session is None or not isinstance(message, m.Result | m.Error):
            return None
        if isinstance(message, m.Error) and outcome_of(message.code) != "ran":
            return None
        epoch = (message.meta or {}).get("epoch")
        return ((self.function, self.session), epoch) if type(epoch) is int else None

    def unsent(self, reason: CallError) -> CallError:
        """The mesh's own words, if there were any, say more than `reason`."""
        return self._refused or reason

    def final(self, error: Exception) -> Exception:
        """After a try that may have run, 'not run' is true of the last try only: it is not said."""
        if self._doubt is None or not isinstance(error, NotRun | NotRunRetry):
            return error
        text = f"{self._doubt.message}; repeated, then {error}"
        return call_error(self._doubt.code, text, {**self._doubt.meta, "last_code": error.code})

    def answer(self) -> Answer:
        """The outcome. Raises CallError, LocalProtocolError."""
        if self.error is not None:
            raise self.error
        if self.result is None:
            raise RuntimeError("the call has no answer yet")
        meta = self.result.meta or {}
        try:
            value = unpack(self.result.body)
        except RemoteProtocolError as error:
            text = f"the answer is no msgpack ({error}); the call has run"
            raise call_error(Code.INTERNAL, text, meta) from error
        return Answer(
            value,
            meta.get("node"),
            meta.get("mode"),
            meta.get("epoch"),
            meta.get("version"),
            {name: meta[name] for name in TIMINGS if name in meta},
            self.call_id,
            self.tries,
            meta,
        )


def _earlier(attempt: int) -> CallError | None:
    """What is in doubt before the first try of ours. Raises ValueError."""
    if attempt < 0:
        raise ValueError("attempt counts tries: it is 0 or more")
    return call_error(Code.DEADLINE_EXCEEDED, "an earlier try may have run") if attempt else None


class Control(Ticket):
    """A control verb; asked once, since only its caller knows whether a repeat does harm."""

    def __init__(
        self, verb: str, params: m.Map, blob: bytes | None, timeout: float | None, now: float
    ) -> None:
        self.reading = verb in READING
        default = READING_SECONDS if self.reading else CHANGING_SECONDS
        seconds = default if timeout is None else checked_timeout(timeout)
        super().__init__(now + seconds, len(blob or b""))
        self.verb, self.params, self.blob = verb, params, blob
        self.reply: m.Reply | None = None

    def frame(self, id_: int, now: float) -> bytes:
        """REQUEST."""
        return encode(m.Request(id_, self.verb, self.params, self.blob))

    def accept(self, message: Answering) -> CallError | None:
        """Only a REPLY will do."""
        if isinstance(message, m.Error):
            return call_error(message.code, message.message, message.meta)
        if not isinstance(message, m.Reply):
            return call_error(Code.INTERNAL, f"{self.verb} was not answered with a REPLY")
        self.reply, self.complete = message, True
        return None

    def silence(self, code: Code, reason: str) -> CallError:
        """Nothing was changed by a verb that only reads; after any other the outcome is unknown."""
        return Unreachable(reason) if self.reading else call_error(code, reason)

    def outcome(self) -> tuple[Any, bytes | None]:
        """The reply's result and byte string. Raises CallError, LocalProtocolError."""
        if self.error is not None:
            raise self.error
        if self.reply is None:
            raise RuntimeError("the verb has no answer yet")
        return self.reply.result, self.reply.blob


class Feed(Control):
    """A verb answered with a stream of items; one with `follow` waits for each without end."""

    endless = True

    def __init__(self, verb: str, params: m.Map, timeout: float | None, now: float) -> None:
        super().__init__(verb, params, None, timeout, now)
        self.reading = True
        endless = timeout is None and bool(params.get("follow"))
        self._patience = inf if endless else self.deadline - now
        self._items: deque[tuple[Any, int]] = deque()
        self._bytes = 0

    def progress(self, now: float) -> None:
        """The patience counts for each item anew."""
        self.deadline = now + self._patience

    def accept(self, message: Answering) -> CallError | None:
        """An ITEM, the last of which may be empty; anything else ends the stream as well."""
        if isinstance(message, m.Error):
            return call_error(message.code, message.message, message.meta)
        self.complete = not isinstance(message, m.Item) or message.last
        if not isinstance(message, m.Item) or message.item is None:
            return None
        size = len(pack(message.item))
        if len(self._items) >= MAX_ITEMS or self._bytes + size > MAX_ITEM_BYTES:
            return call_error(Code.OVERLOADED, "items come faster than they are taken")
        self._items.append((message.item, size))
        self._bytes += size
        return None

    @property
    def ready(self) -> bool:
        """Whether `take` has something to say: an item, the end or an error."""
        return bool(self._items) or self.done

    def take(self) -> list[Any]:
        """The next item in a list; empty at the end. Raises CallError, after the last item."""
        if self._items:
            item, size = self._items.popleft()
            self._bytes -= size
            return [item]
        if self.error is not None:
            raise self.error
        return []


def checked_timeout(seconds: float) -> float:
    """A timeout the wire can carry. Raises ValueError."""
    if not 0 < seconds <= MAX_TIMEOUT_MS / 1000:
        raise ValueError(f"a timeout is more than 0 and at most {MAX_TIMEOUT_MS // 1000} seconds")
    return float(seconds)
