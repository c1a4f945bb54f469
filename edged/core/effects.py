"""What a session asks of the node around it: the effects of `sessions.Seat`, as plain values.

Those with a `token` are answered through the method of the seat that their comment names, with the same
token; an answer under another token is late and changes nothing.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple, get_args

from .calls import Call
from .records import Entry


class Ask(NamedTuple):
    """A store operation; answered by `on_store`."""

    op: Any
    token: int


class RunPool(NamedTuple):
    """Let any container of the pool run the call; answered by `on_answer` or `on_lost`."""

    call: Call


class RunOwn(NamedTuple):
    """Let the session's own container run the call; answered by `on_answer` or `on_lost`."""

    call: Call
    container: Any


class Answer(NamedTuple):
    """The outcome for the caller of `call` and for all attached to it; code 0 is RESULT."""

    call: Call
    code: int
    body: bytes
    message: str
    meta: dict[str, Any] | None


class Forward(NamedTuple):
    """Let `node` answer the call."""

    call: Call
    node: str


class Start(NamedTuple):
    """A container of the session's own; answered by `on_container`."""

    token: int


class Control(NamedTuple):
    """A worker verb for the session's container, with parameters beside those of every verb; answered by
    `on_control` with a `Said`."""

    container: Any
    verb: str
    blob: bytes | None
    token: int
    params: dict[str, Any] | None = None


class Said(NamedTuple):
    """What a container answered to a Control: code 0 and what it found, or why not."""

    code: int
    message: str
    result: dict[str, Any]
    blob: bytes | None


class Release(NamedTuple):
    """The session's container is no longer needed."""

    container: Any


class Tell(NamedTuple):
    """A verb for another node; answered by `on_peer`, unless token is 0."""

    node: str
    verb: str
    params: dict[str, Any]
    blob: bytes | None
    token: int


class Done(NamedTuple):
    """A move somebody asked for ended: code 0, or why not."""

    asker: Any
    code: int
    message: str
    result: dict[str, Any]


class Timer(NamedTuple):
    """Call `on_timer(token)` after `seconds`."""

    seconds: float
    token: int


class Located(NamedTuple):
    """Where the session is now: a node, or None for remote-state."""

    node: str | None
    epoch: int


class Due(NamedTuple):
    """When the first alarm of the session is due, Unix seconds; None: it has none."""

    at: float | None


class Aside(NamedTuple):
    """A superseded copy: the store has it up to `stored`, it has calls up to `version`. To be kept for the operator."""

    epoch: int
    version: int
    stored: int
    state: bytes
    results: tuple[Entry, ...]
    schema: int = 1


class Noted(NamedTuple):
    """Something about the session that operators want to know of."""

    event: str
    about: dict[str, Any]


Effect = (
    Ask
    | RunPool
    | RunOwn
    | Answer
    | Forward
    | Start
    | Control
    | Release
    | Tell
    | Done
    | Timer
    | Located
    | Due
    | Aside
    | Noted
)


def carried_out_by(node: type[Any]) -> dict[type[Effect], Callable[[Any, Any, Any], None]]:
    """For each effect the method of `node` with its name, which gets the seat and the effect: `_run_own` for RunOwn. Raises
    AttributeError for one that is missing: every node, real or not, carries out all of them."""
    names = {kind: re.sub("(?<=[a-z])(?=[A-Z])", "_", kind.__name__).lower() for kind in get_args(Effect)}
    return {kind: getattr(node, f"_{name}") for kind, name in names.items()}
