"""Plain frames: the usual call and the usual answer of a call without a session, in one form (SPEC "Plain frames").

Decides how that form is written, and reads it by its places in the frame: an answer is passed on by another id before the
bytes that came, and nothing is built. Any other form means the same and is decoded, in twice the time. Sans-IO.
"""

import struct

import msgpack  # type: ignore[import-untyped]

from . import messages as m
from .codec import decode, encode_invoke, encode_result

MAX_KNOWN = 256
"""Methods whose plain calls are written and recognised by their bytes; a call of a further one is decoded."""

_MAX_UINT32 = 0xFFFFFFFF
_AT = 7
"""Of a frame, its length aside: where the fields behind the id begin. Array, type, "uint32", id come first."""

_CALL = b"\x99\x10\xce"
_ANSWER = b"\x94\x11\xce"
_NIL = b"\xc0"
_ID16 = b"\xc4\x10"
_RAN = b"\x81\xa6run_us\xce"
_NODE, _AND_RAN = b"\x83\xa4node", b"\xa6run_us\xce"
_WAITED = b"\xa8queue_us\xce"
_ONCE = b"\x81\xa4hops\x01"
ONCE: m.Map = {"hops": 1}
"""The meta of every call that was forwarded once and asks for nothing; not to be changed."""

_head = struct.Struct(">I3sI").pack
_head_and_body = struct.Struct(">I3sIBB").pack
_head_at = struct.Struct(">3sIBB").unpack_from
_time_and_body = struct.Struct(">BIBB").pack
_time_and_body_at = struct.Struct(">BIBB").unpack_from
_uint32 = struct.Struct(">I").pack
_uint32_at = struct.Struct(">I").unpack_from
_times = struct.Struct(">I10sI")
_times_at = _times.unpack_from
_SHORTEST = _AT + 2 + len(_RAN) + 4
_TIMES = _times.size

_pack = msgpack.Packer(use_bin_type=True, autoreset=True).pack
_new = tuple.__new__


# Answers of a container


def encode_ran(id_: int, body: bytes, run_us: int) -> bytes | None:
    """A container's answer, its length first; None where it has no plain form."""
    size = len(body)
    if size > 255 or run_us > _MAX_UINT32 or id_ > _MAX_UINT32:
        return None
    return _head_and_body(_SHORTEST + size, _ANSWER, id_, 0xC4, size) + body + _RAN + _uint32(run_us)


def decode_ran(frame: bytes) -> m.Message:
    """A frame of a container. Raises RemoteProtocolError."""
    if len(frame) >= _SHORTEST:
        head, id_, short, size = _head_at(frame)
        if head == _ANSWER and short == 0xC4 and len(frame) == _SHORTEST + size and frame.startswith(_RAN, 9 + size):
            (run,) = _uint32_at(frame, 18 + size)
            return _new(m.Plain, (id_, frame[_AT : 9 + size], run, 0))
    return decode(frame)


def opened(plain: m.Plain) -> m.Result:
    """The same as a message."""
    id_, packed, run, _ = plain
    if len(packed) == 2 + packed[1]:
        return m.Result(id_, packed[2:], {"run_us": run})
    answer = decode(_head(0, _ANSWER, id_)[4:] + packed)
    assert isinstance(answer, m.Result), "its head says so"
    return answer


# Answers of a node


def told_by(node: str) -> bytes:
    """What stands behind the body in every plain answer of `node`."""
    name: bytes = _pack(node)
    return _NODE + name + _AND_RAN


def encode_plain(id_: int, plain: m.Plain, queue_us: int, told: bytes) -> bytes:
    """A container's answer as its node gives it, the length first; `told`: `told_by` that node."""
    packed = plain[1] + told + _times.pack(plain[2], _WAITED, min(_MAX_UINT32, queue_us))
    return _answer(id_, packed) if id_ > _MAX_UINT32 else _head(_AT + len(packed), _ANSWER, id_) + packed


def pass_on(id_: int, plain: m.Plain) -> bytes:
    """A node's answer under another id, the length first."""
    packed = plain[1]
    return _answer(id_, packed) if id_ > _MAX_UINT32 else _head(_AT + len(packed), _ANSWER, id_) + packed


def _answer(id_: int, packed: bytes) -> bytes:
    """Under an id that is too long for a plain answer."""
    _, body, meta, _ = opened(m.Plain(0, packed, 0, 0))
    return encode_result(id_, body, meta)


# Calls of a node


class PlainCalls:
    """Writes calls without a session to other nodes."""

    def __init__(self) -> None:
        self._named: dict[tuple[str, str], bytes] = {}

    def encode(
        self, id_: int, function: str, method: str, call_id: bytes | None, timeout_ms: int, body: bytes
    ) -> bytes:
        """One that is forwarded for the first time and asks for nothing, its length first."""
        size = len(body)
        if size > 255 or id_ > _MAX_UINT32 or timeout_ms > _MAX_UINT32:
            return encode_invoke(id_, function, None, method, call_id, timeout_ms, body, ONCE)
        named = self._named.get((function, method)) or self._name(function, method)
        key = _NIL if call_id is None else _ID16 + call_id
        rest = named + key + _time_and_body(0xCE, timeout_ms, 0xC4, size) + body + _ONCE
        return _head(_AT + len(rest), _CALL, id_) + rest

    def _name(self, function: str, method: str) -> bytes:
        if len(self._named) >= MAX_KNOWN:
            self._named.clear()
        named = self._named[function, method] = _names(function, method)
        return named


def hand_over(id_: int, packed: bytes) -> bytes:
    """A call for a container, its length first: the rest as it came from a node, but for its meta."""
    return _head(_AT + 1 + len(packed), _CALL, id_) + packed + _NIL


class FromNode:
    """Reads what the node of that name says on one connection. The `blob` of a plain call is what stands between id and
    meta, for `hand_over`."""

    def __init__(self, node: str) -> None:
        self._told = told_by(node)
        self._rest = len(self._told) + _TIMES
        """Bytes behind the body of its plain answers."""
        self._named: dict[bytes, tuple[str, str]] = {}
        """Functions and methods of its plain calls so far, by their bytes."""

    def decode(self, frame: bytes) -> m.Message:
        """One frame. Raises RemoteProtocolError."""
        if len(frame) < _SHORTEST:
            return decode(frame)
        head, id_, short, size = _head_at(frame)
        if head == _ANSWER:
            end = 9 + size
            if short == 0xC4 and len(frame) == end + self._rest and frame.startswith(self._told, end):
                run, waited, queue = _times_at(frame, len(frame) - _TIMES)
                if waited == _WAITED:
                    return _new(m.Plain, (id_, frame[_AT:], run, queue))
        elif head == _CALL:
            call = self._plain_call(frame, id_)
            if call is not None:
                return call
        return self._learnt(decode(frame))

    def _plain_call(self, frame: bytes, id_: int) -> m.Invoke | None:
        try:
            at = _AT + 1 + (frame[_AT] & 31)  # of what is no short string a piece is taken that is nobody's name
            at += 2 + (frame[at + 1] & 31)
            names = self._named.get(frame[_AT:at])
            if names is None:
                return None
            call_id = None
            if frame[at] != 0xC0:
                if not frame.startswith(_ID16, at):
                    return None
                call_id = frame[at + 2 : at + 18]
                at += 17
            wide, timeout, short, size = _time_and_body_at(frame, at + 1)
        except (IndexError, struct.error):
            return None
        at += 8
        if wide != 0xCE or short != 0xC4 or frame[at + size :] != _ONCE:
            return None
        body, packed = frame[at : at + size], frame[_AT : at + size]
        return _new(m.Invoke, (id_, names[0], None, names[1], call_id, timeout, body, ONCE, packed))

    def _learnt(self, message: m.Message) -> m.Message:
        if type(message) is m.Invoke and message.session is None and len(self._named) < MAX_KNOWN:
            self._named[_names(message.function, message.method)] = message.function, message.method
        return message


def _names(function: str, method: str) -> bytes:
    """As they stand in a frame, with no session between them."""
    names: bytes = _pack(function) + _NIL + _pack(method)
    return names
