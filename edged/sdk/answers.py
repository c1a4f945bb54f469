"""What a container answers when a call cannot be, or a handler did not, succeed (DESIGN §4).

Decides which code and text a failure gets and how a result is packed. Refuses to know calls and states.
"""

import traceback
from typing import Any

import msgpack  # type: ignore[import-untyped]

from edged_protocol.codec import unpack
from edged_protocol.errors import Code, RemoteProtocolError

from .function import Method
from .tracked import PLAIN, StateTooLarge

TRACEBACK_BYTES = 2048
"""Tail of a traceback that travels with a function error."""

MESSAGE_CHARS = 500
"""Of an exception's text; the traceback has the rest."""


class Unpackable(Exception):
    """A handler returned, or called with, what msgpack cannot carry."""


class Refused(Exception):
    """The call is answered with ERROR."""

    def __init__(self, code: Code, message: str, meta: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.meta = code, message, meta


def refusal(id_: int, refused: Refused) -> tuple[Any, ...]:
    """The ERROR that says so."""
    return 18, id_, int(refused.code), refused.message, refused.meta


def failed(error: BaseException) -> Refused:
    """The answer to whatever a handler, a hook or the packing of their values raised."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, StateTooLarge):
        return Refused(Code.TOO_LARGE, str(error))
    kind = type(error).__name__
    return Refused(
        Code.FUNCTION_ERROR,
        f"{kind}: {_text(error)}"[:MESSAGE_CHARS],
        {"type": kind, "traceback": traceback_tail(error)},
    )


def wrong(kind: str, message: str) -> Refused:
    """The answer when what a handler did is no exception, but cannot be."""
    return Refused(Code.FUNCTION_ERROR, message, {"type": kind, "traceback": ""})


def _text(error: BaseException) -> str:
    try:
        return str(error).encode("utf-8", "replace").decode()
    except Exception:  # noqa: BLE001 - the function's own __str__ may raise anything
        return "(its text cannot be had)"


def traceback_tail(error: BaseException) -> str:
    """The last bytes of the traceback as text."""
    try:
        lines = traceback.format_exception(error)
    except Exception:  # noqa: BLE001 - it calls the exception's __str__
        lines = [type(error).__name__]
    text = "".join(lines).rstrip().encode("utf-8", "replace")
    return text[-TRACEBACK_BYTES:].decode("utf-8", "ignore")


def packed(arguments: tuple[Any, ...]) -> bytes:
    """Arguments of a call as its body. Raises Unpackable."""
    try:
        data: bytes = _pack(arguments)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise Unpackable(f"an argument is what msgpack cannot carry: {error}") from error
    return data


def packed_result(method: Method, value: Any) -> bytes:
    """A handler's answer as a body; a dataclass travels as a map."""
    try:
        data: bytes = _pack(value)
        if type(value) not in PLAIN:
            unpack(data)  # as its caller will: an answer that nobody can read must not count
    except (TypeError, ValueError, OverflowError, RecursionError, RemoteProtocolError) as error:
        raise Unpackable(f"{method.name} returned what a body cannot carry: {error}") from error
    return data


def _as_map(value: Any) -> dict[str, Any]:
    names = getattr(type(value), "__dataclass_fields__", None)
    if names is None:
        raise TypeError(f"{type(value).__name__} is no msgpack type: {value!r:.80}")
    return {name: getattr(value, name) for name in names}


_pack = msgpack.Packer(use_bin_type=True, autoreset=True, default=_as_map).pack
