"""The one table of error codes, and the exceptions that carry them (SPEC "Errors").

The hundreds digit is the contract: what the caller knows about the effect, and whether to repeat.
Codes are never reused.
"""

from enum import IntEnum
from typing import Any, Literal

Outcome = Literal["not_run_retry", "not_run", "ran", "unknown", "defect"]

_OUTCOMES: dict[int, Outcome] = {
    1: "not_run_retry",
    2: "not_run",
    3: "ran",
    4: "unknown",
    5: "defect",
}


class Code(IntEnum):
    """Every code an ERROR frame may carry."""

    OVERLOADED = 101
    DRAINING = 102
    MOVING = 103
    NO_CAPACITY = 104
    OWNER_UNREACHABLE = 105
    STORE_UNAVAILABLE = 106
    CONFLICT = 107
    BAD_REQUEST = 201
    UNAUTHENTICATED = 202
    FORBIDDEN = 203
    NO_SUCH_FUNCTION = 204
    TOO_LARGE = 205
    NO_SUCH_METHOD = 206
    WRONG_SCHEMA = 207
    FUNCTION_ERROR = 301
    ALREADY_DONE = 302
    DEADLINE_EXCEEDED = 401
    WORKER_LOST = 402
    NODE_LOST = 403
    OUTCOME_FORGOTTEN = 404
    INTERNAL = 500

    @property
    def wire_name(self) -> str:
        """The name the specification gives the code: `overloaded`."""
        return self.name.lower()


def outcome_of(code: int) -> Outcome:
    """What an error code says of the effect; a code of the future counts by its hundreds."""
    return _OUTCOMES.get(code // 100, "defect")


def describe(code: int) -> str:
    """`101 overloaded`, also for a code this version does not know."""
    try:
        return f"{code} {Code(code).wire_name}"
    except ValueError:
        return f"{code} {outcome_of(code)}"


class ProtocolError(Exception):
    """The wire's rules were broken; `reason` is the word GOAWAY carries."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


class LocalProtocolError(ProtocolError):
    """By this program: a defect here."""


class RemoteProtocolError(ProtocolError):
    """By the peer: drop the connection, count it, go on."""


class CallError(Exception):
    """A call answered with ERROR. `code` is on the table above, `meta` what the mesh added."""

    def __init__(self, code: int, message: str, meta: dict[str, Any] | None = None) -> None:
        super().__init__(f"{describe(code)}: {message}" if message else describe(code))
        self.code = code
        self.message = message
        self.meta: dict[str, Any] = meta or {}


class NotRunRetry(CallError):
    """1xx: certainly not run; repeat it."""


class NotRun(CallError):
    """2xx: certainly not run; repeating will not help."""


class RanError(CallError):
    """3xx: it ran, nothing was committed by this attempt."""


class UnknownOutcome(CallError):
    """4xx: it may have run; repeating with the same call id is safe."""


class Defect(CallError):
    """5xx: a bug in the mesh."""


_CLASSES: dict[Outcome, type[CallError]] = {
    "not_run_retry": NotRunRetry,
    "not_run": NotRun,
    "ran": RanError,
    "unknown": UnknownOutcome,
    "defect": Defect,
}


def call_error(code: int, message: str, meta: dict[str, Any] | None = None) -> CallError:
    """The exception class that says what `code` means for the caller."""
    return _CLASSES[outcome_of(code)](code, message, meta)
