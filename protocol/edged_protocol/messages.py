"""The messages of the wire as values (SPEC "Messages"). Refuses to know bytes, sockets and time.

`blob` is the trailing byte string of control and container frames: session states and file pieces,
which would be too large for the parts of a frame that are decoded value by value.
"""

from typing import Any, NamedTuple

Map = dict[str, Any]


class Hello(NamedTuple):
    """First frame of the dialer: `proto`, `role`, `name`, and by choice `token`, `software`."""

    info: Map


class Welcome(NamedTuple):
    """The acceptor's answer: `proto`, `mesh`, `node`, `max_frame`, `max_inflight`, `brokers`."""

    info: Map


class GoAway(NamedTuple):
    """Finish what is in flight, then go elsewhere."""

    reason: str
    info: Map | None = None


class Ping(NamedTuple):
    """Are you there? Any small nonce."""

    nonce: Any


class Pong(NamedTuple):
    """The same nonce back."""

    nonce: Any


class Invoke(NamedTuple):
    """Call `method` of `function`, in `session` or, with None, without state."""

    id: int
    function: str
    session: str | None
    method: str
    call_id: bytes | None
    timeout_ms: int
    body: bytes
    meta: Map | None = None
    blob: bytes | None = None


class Result(NamedTuple):
    """It ran and was committed."""

    id: int
    body: bytes
    meta: Map | None = None
    blob: bytes | None = None


class Plain(NamedTuple):
    """A Result that is passed on as it came (`plain`): `packed` is its body, of a node's answer its meta too, as bytes. Of a
    container `queue_us` is 0."""

    id: int
    packed: bytes
    run_us: int
    queue_us: int


class Error(NamedTuple):
    """It failed; the hundreds of `code` say how much is known."""

    id: int
    code: int
    message: str
    meta: Map | None = None


class Cancel(NamedTuple):
    """Nobody waits for `id` any more."""

    id: int


class Request(NamedTuple):
    """A control verb."""

    id: int
    verb: str
    params: Map
    blob: bytes | None = None


class Reply(NamedTuple):
    """The answer of a control verb."""

    id: int
    result: Any
    blob: bytes | None = None


class Item(NamedTuple):
    """One of a stream of answers; the last has `last` set."""

    id: int
    item: Any
    last: bool


Message = (
    Hello
    | Welcome
    | GoAway
    | Ping
    | Pong
    | Invoke
    | Result
    | Plain
    | Error
    | Cancel
    | Request
    | Reply
    | Item
)

TYPE_OF: dict[type, int] = {
    Hello: 1,
    Welcome: 2,
    GoAway: 3,
    Ping: 4,
    Pong: 5,
    Invoke: 16,
    Result: 17,
    Error: 18,
    Cancel: 19,
    Request: 32,
    Reply: 33,
    Item: 34,
}
