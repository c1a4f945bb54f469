"""Plain frames: the usual call and the usual answer of a call without a session, in one form (SPEC "Plain frames").

Decides how that form is written: an answer is passed on by another id before the bytes that came, and nothing is built.
Refuses to know how it is recognised (`forms`). Sans-IO.
"""

import struct
from collections.abc import Callable

import msgpack  # type: ignore[import-untyped]

from . import messages as m
from .codec import decode, encode_invoke, encode_result

MAX_KNOWN = 256
"""Methods of which is kept how their calls are written; then all are forgotten."""

_MAX_UINT32 = 0xFFFFFFFF
AT = 7
"""Of a frame, its length aside: where the fields behind the id begin. Array, type, "uint32", id come first."""

CALL = b"\x99\x10\xce"
ANSWER = b"\x94\x11\xce"
NIL = b"\xc0"
ID16 = b"\xc4\x10"
RAN = b"\x81\xa6run_us\xce"
_NODE, _AND_RAN = b"\x83\xa4node", b"\xa6run_us\xce"
WAITED = b"\xa8queue_us\xce"
ONCE: m.Map = {"hops": 1}
"""The meta of every call that was forwarded once and asks for nothing; not to be changed."""
ONCE_PACKED = b"\x81\xa4hops\x01"

_head = struct.Struct(">I3sI").pack
_head_and_body = struct.Struct(">I3sIBB").pack
_uint32 = struct.Struct(">I").pack
_SHORTEST = AT + 2 + len(RAN) + 4

_pack = msgpack.Packer(use_bin_type=True, autoreset=True).pack


def packed_names(function: str, method: str) -> bytes:
    """As they stand in the frame of a call, with no session between them."""
    names: bytes = _pack(function) + NIL + _pack(method)
    return names


# Answers of a container


def encode_ran(id_: int, body: bytes, run_us: int) -> bytes | None:
    """A container's answer, its length first; None where it has no plain form."""
    size = len(body)
    if size > 255 or run_us > _MAX_UINT32 or id_ > _MAX_UINT32:
        return None
    return _head_and_body(_SHORTEST + size, ANSWER, id_, 0xC4, size) + body + RAN + _uint32(run_us)


def opened(plain: m.Plain) -> m.Result:
    """The same as a message."""
    id_, packed, run, _ = plain
    if len(packed) == 2 + packed[1]:
        return m.Result(id_, packed[2:], {"run_us": run})
    answer = decode(_head(0, ANSWER, id_)[4:] + packed)
    assert isinstance(answer, m.Result), "its head says so"
    return answer


# Answers of a node


def told_by(node: str) -> bytes:
    """What stands behind the body in every plain answer of `node`."""
    name: bytes = _pack(node)
    return _NODE + name + _AND_RAN


class PlainAnswers:
    """Writes what a node's containers have answered."""

    def __init__(self, node: str) -> None:
        self._told = told_by(node)
        self._forms: dict[int, tuple[Callable[..., bytes], int]] = {}
        """By the length of what a container has answered: what packs the frame, and how long that is."""

    def encode(self, id_: int, plain: m.Plain, queue_us: int) -> bytes:
        """A container's answer as its node gives it, the length first."""
        _, packed, run, _ = plain
        pack, length = self._forms.get(len(packed)) or self._form(len(packed))
        queue = queue_us if queue_us < _MAX_UINT32 else _MAX_UINT32  # noqa: FURB136 - for every call; `min` takes thrice as long
        if id_ > _MAX_UINT32:
            return _answer(id_, pack(length, ANSWER, 0, packed, self._told, run, WAITED, queue)[4 + AT :])
        return pack(length, ANSWER, id_, packed, self._told, run, WAITED, queue)

    def _form(self, size: int) -> tuple[Callable[..., bytes], int]:
        frame = struct.Struct(f">I3sI{size}s{len(self._told)}sI{len(WAITED)}sI")
        form = self._forms[size] = frame.pack, frame.size - 4
        return form


def pass_on(id_: int, plain: m.Plain) -> bytes:
    """A node's answer under another id, the length first."""
    packed = plain[1]
    return _answer(id_, packed) if id_ > _MAX_UINT32 else _head(AT + len(packed), ANSWER, id_) + packed


def _answer(id_: int, packed: bytes) -> bytes:
    """Under an id that is too long for a plain answer."""
    _, body, meta, _ = opened(m.Plain(0, packed, 0, 0))
    return encode_result(id_, body, meta)


# Calls of a node


class PlainCalls:
    """Writes calls without a session to other nodes."""

    def __init__(self) -> None:
        self._forms: dict[tuple[str, str, int], tuple[Callable[..., bytes], bytes, int]] = {}
        """By function, method and length of the call id: what packs the head, the names, and the length without the body."""

    def encode(
        self, id_: int, function: str, method: str, call_id: bytes | None, timeout_ms: int, body: bytes
    ) -> bytes:
        """One that is forwarded for the first time and asks for nothing, its length first."""
        size, key = len(body), call_id or b""
        if size > 255 or id_ > _MAX_UINT32 or timeout_ms > _MAX_UINT32:
            return encode_invoke(id_, function, None, method, call_id, timeout_ms, body, ONCE)
        pack, names, rest = self._forms.get((function, method, len(key))) or self._form(function, method, len(key))
        return pack(rest + size, CALL, id_, names, key, 0xCE, timeout_ms, 0xC4, size) + body + ONCE_PACKED

    def _form(self, function: str, method: str, key: int) -> tuple[Callable[..., bytes], bytes, int]:
        if len(self._forms) >= MAX_KNOWN:
            self._forms.clear()
        names = packed_names(function, method) + (ID16 if key else NIL)
        head = struct.Struct(f">I3sI{len(names)}s{key}sBIBB")
        form = self._forms[function, method, key] = head.pack, names, head.size - 4 + len(ONCE_PACKED)
        return form


def hand_over(id_: int, packed: bytes) -> bytes:
    """A call for a container, its length first: the rest as it came from a node, but for its meta."""
    return _head(AT + 1 + len(packed), CALL, id_) + packed + NIL
