"""Messages to frames and back: strict msgpack (SPEC "Encoding"). Refuses to know connections and time.

A frame above 64 KiB is looked at field by field first, because a megabyte of empty arrays costs
75 times its size to decode; what remains bounded by 64 KiB is decoded by msgpack in one go.
"""

import struct
from collections.abc import Callable
from typing import Any

import msgpack  # type: ignore[import-untyped]

from . import messages as m
from .errors import LocalProtocolError, RemoteProtocolError
from .limits import (
    MAX_ARRAY,
    MAX_DEPTH,
    MAX_DEPTH_BODY,
    MAX_FRAME_TRUSTED,
    MAX_MAP,
    MAX_PLAIN,
    MAX_STR,
)

_length = struct.Struct(">I").pack
_pack_frame = msgpack.Packer(use_bin_type=True, autoreset=True).pack

UNPACKABLE = (TypeError, ValueError, OverflowError, RecursionError)
UNREADABLE = (ValueError, TypeError, RecursionError, msgpack.exceptions.UnpackException)
"""What msgpack raises at what it cannot carry, and at bytes that are none of its own."""


def no_extension(code: int, _: bytes) -> None:
    """As msgpack's `ext_hook`: the wire has no extension types, and a limit on their length lets the empty ones pass."""
    raise ValueError(f"extension type {code}")


_new = tuple.__new__
"""A NamedTuple of a tuple that is there already: half the time of its own constructor, which matters for the two
messages that every call consists of."""


def encode(message: m.Message) -> bytes:
    """The whole frame, length first. Raises LocalProtocolError for what msgpack cannot carry."""
    fields: tuple[Any, ...] = (m.TYPE_OF[type(message)], *message)
    if len(fields) > 3 and fields[-1] is None and type(message) in _WITH_BLOB:
        fields = fields[:-1]
    return _frame(fields)


def _frame(fields: tuple[Any, ...]) -> bytes:
    try:
        data: bytes = _pack_frame(fields)
    except UNPACKABLE as error:
        raise LocalProtocolError("unpackable", str(error)) from error
    return _length(len(data)) + data


def encode_invoke(
    id_: int,
    function: str,
    session: str | None,
    method: str,
    call_id: bytes | None,
    timeout_ms: int,
    body: bytes,
    meta: m.Map | None = None,
    blob: bytes | None = None,
) -> bytes:
    """`encode(Invoke(...))` without the tuple between: the relay's hot path."""
    if blob is not None:
        return _frame((16, id_, function, session, method, call_id, timeout_ms, body, meta, blob))
    try:
        data: bytes = _pack_frame((16, id_, function, session, method, call_id, timeout_ms, body, meta))
    except UNPACKABLE as error:
        raise LocalProtocolError("unpackable", str(error)) from error
    return _length(len(data)) + data


def encode_result(id_: int, body: bytes, meta: m.Map | None) -> bytes:
    """`encode(Result(...))` without the tuple between: the relay's hot path."""
    try:
        data: bytes = _pack_frame((17, id_, body, meta))
    except UNPACKABLE as error:
        raise LocalProtocolError("unpackable", str(error)) from error
    return _length(len(data)) + data


def pack(value: Any) -> bytes:
    """A body or a state as msgpack. Raises LocalProtocolError for what msgpack cannot carry."""
    try:
        data: bytes = msgpack.packb(value, use_bin_type=True)
    except UNPACKABLE as error:
        raise LocalProtocolError("unpackable", str(error)) from error
    return data


def unpack(data: bytes) -> Any:
    """A body or a state from msgpack. Raises RemoteProtocolError."""
    try:
        value = msgpack.unpackb(
            data,
            raw=False,
            strict_map_key=True,
            max_ext_len=0,
            ext_hook=no_extension,
            max_bin_len=MAX_FRAME_TRUSTED,
            object_pairs_hook=tuple,
        )
    except UNREADABLE as error:
        raise RemoteProtocolError("bad_msgpack", str(error)[:200]) from error
    return _value(value, MAX_DEPTH_BODY)


def decode(frame: bytes) -> m.Message:
    """The message of one frame (without its length). Raises RemoteProtocolError.

    A map comes from msgpack as the tuple of its pairs, which nothing else is: `_map` makes a dict of it and sees a key
    that is there twice. A function of ours as the hook would be called for each map, and cost more than all else.
    """
    if len(frame) > MAX_PLAIN:
        _check_large(frame)
    try:
        fields = msgpack.unpackb(
            frame,
            raw=False,
            strict_map_key=True,
            max_array_len=MAX_ARRAY,
            max_map_len=MAX_MAP,
            max_str_len=MAX_STR,
            max_bin_len=MAX_FRAME_TRUSTED,
            max_ext_len=0,
            ext_hook=no_extension,
            object_pairs_hook=tuple,
        )
    except UNREADABLE as error:
        raise RemoteProtocolError("bad_msgpack", str(error)[:200]) from error
    if type(fields) is not list or not fields:
        raise RemoteProtocolError("bad_frame", "not an array")
    kind = fields[0]
    if kind == 16 and type(kind) is int:
        return _invoke(fields)
    build = _BUILDERS.get(kind) if type(kind) is int else None
    if build is None:
        _value(fields, MAX_DEPTH)
        raise UnknownType(fields)
    return build(fields)


class UnknownType(RemoteProtocolError):
    """A type this version does not know; `id` is set where the frame has one to answer to."""

    def __init__(self, fields: list[Any]) -> None:
        super().__init__("unknown_type", repr(fields[0])[:40])
        known = type(fields[0]) is int and fields[0] >= 16 and len(fields) > 1
        valid = known and type(fields[1]) is int and fields[1] >= 0
        self.id: int | None = fields[1] if valid else None


def _value(value: Any, left: int) -> Any:
    """`value` with its maps as dicts, `left` levels deep at most."""
    kind = type(value)
    if kind is tuple:
        return _map(value, left)
    if kind is list:
        if left == 0:
            raise RemoteProtocolError("too_deep")
        for number, item in enumerate(value):
            if type(item) is tuple or type(item) is list:
                value[number] = _value(item, left - 1)
    return value


def _map(value: Any, left: int = MAX_DEPTH - 1) -> m.Map:
    if type(value) is not tuple:
        raise RemoteProtocolError("bad_field", "a map was expected")
    if left == 0:
        raise RemoteProtocolError("too_deep")
    made = dict(value)
    if len(made) != len(value):
        raise RemoteProtocolError("bad_msgpack", "duplicate map key")
    for key, item in value:
        if type(key) is not str:
            raise RemoteProtocolError("bad_msgpack", "a map key is not a string")
        if type(item) is tuple or type(item) is list:
            made[key] = _value(item, left - 1)
    return made


def _check_large(frame: bytes) -> None:
    """Whether all but the byte strings at the top level fits into MAX_PLAIN."""
    unpacker = msgpack.Unpacker(max_buffer_size=len(frame), max_bin_len=len(frame), max_ext_len=0)
    unpacker.feed(frame)
    plain = len(frame)
    try:
        for _ in range(min(unpacker.read_array_header(), 16)):
            start = unpacker.tell()
            unpacker.skip()  # builds nothing, whatever it passes over
            if 0xC4 <= frame[start] <= 0xC6:
                plain -= unpacker.tell() - start
    except (ValueError, IndexError, msgpack.exceptions.UnpackException) as error:
        raise RemoteProtocolError("bad_msgpack", str(error)[:200]) from error
    if plain > MAX_PLAIN:
        raise RemoteProtocolError("frame_too_large", "too much beside its byte strings")


def _optional_map(value: Any) -> m.Map | None:
    return None if value is None else _map(value)


def _uint(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise RemoteProtocolError("bad_field", "an unsigned integer was expected")
    return value


def _str(value: Any) -> str:
    if type(value) is not str:
        raise RemoteProtocolError("bad_field", "a string was expected")
    return value


def _bytes(value: Any) -> bytes:
    if type(value) is not bytes:
        raise RemoteProtocolError("bad_field", "a byte string was expected")
    return value


def _optional(check: Callable[[Any], Any], value: Any) -> Any:
    return None if value is None else check(value)


def _fields(fields: list[Any], need: int, full: int) -> list[Any]:
    """The fields behind the type, missing optional ones as None, those of the future cut off."""
    if len(fields) < need + 1:
        raise RemoteProtocolError("bad_frame", f"{len(fields)} elements, {need + 1} needed")
    if len(fields) > full:
        _value(fields[full + 1 :], MAX_DEPTH)  # nobody knows them, but maps they are
        return fields[1 : full + 1]
    return fields[1:] + [None] * (full + 1 - len(fields))


def _hello(fields: list[Any]) -> m.Hello:
    return m.Hello(_map(_fields(fields, 1, 1)[0]))


def _welcome(fields: list[Any]) -> m.Welcome:
    return m.Welcome(_map(_fields(fields, 1, 1)[0]))


def _goaway(fields: list[Any]) -> m.GoAway:
    reason, info = _fields(fields, 1, 2)
    return m.GoAway(_str(reason), _optional_map(info))


def _ping(fields: list[Any]) -> m.Ping:
    return m.Ping(_scalar(_fields(fields, 1, 1)[0]))


def _pong(fields: list[Any]) -> m.Pong:
    return m.Pong(_scalar(_fields(fields, 1, 1)[0]))


def _scalar(value: Any) -> Any:
    if isinstance(value, list | tuple) or (isinstance(value, str | bytes) and len(value) > 64):
        raise RemoteProtocolError("bad_field", "a small nonce was expected")
    return value


def _invoke(fields: list[Any]) -> m.Invoke:
    if len(fields) == 9:  # the usual form, without a list between
        _, id_, function, session, method, call_id, timeout, body, meta = fields
        blob = None
    else:
        id_, function, session, method, call_id, timeout, body, meta, blob = _fields(fields, 7, 9)
    if (
        type(id_) is not int
        or id_ < 0
        or type(function) is not str
        or type(method) is not str
        or type(timeout) is not int
        or timeout < 0
        or type(body) is not bytes
        or (call_id is not None and (type(call_id) is not bytes or len(call_id) != 16))
        or (session is not None and type(session) is not str)
        or (blob is not None and type(blob) is not bytes)
    ):
        raise RemoteProtocolError("bad_field", "INVOKE")
    if meta is not None:
        meta = _map(meta)
    return _new(m.Invoke, (id_, function, session, method, call_id, timeout, body, meta, blob))


def _result(fields: list[Any]) -> m.Result:
    if len(fields) == 4:
        _, id_, body, meta = fields
        blob = None
    else:
        id_, body, meta, blob = _fields(fields, 2, 4)
    if (
        type(id_) is not int
        or id_ < 0
        or type(body) is not bytes
        or (blob is not None and type(blob) is not bytes)
    ):
        raise RemoteProtocolError("bad_field", "RESULT")
    if meta is not None:
        meta = _map(meta)
    return _new(m.Result, (id_, body, meta, blob))


def _error(fields: list[Any]) -> m.Error:
    id_, code, message, meta = _fields(fields, 3, 4)
    return m.Error(_uint(id_), _uint(code), _str(message), _optional_map(meta))


def _cancel(fields: list[Any]) -> m.Cancel:
    return m.Cancel(_uint(_fields(fields, 1, 1)[0]))


def _request(fields: list[Any]) -> m.Request:
    id_, verb, params, blob = _fields(fields, 3, 4)
    return m.Request(_uint(id_), _str(verb), _map(params), _optional(_bytes, blob))


def _reply(fields: list[Any]) -> m.Reply:
    id_, result, blob = _fields(fields, 2, 3)
    return m.Reply(_uint(id_), _value(result, MAX_DEPTH - 1), _optional(_bytes, blob))


def _item(fields: list[Any]) -> m.Item:
    id_, item, last = _fields(fields, 3, 3)
    if type(last) is not bool:
        raise RemoteProtocolError("bad_field", "last is not a boolean")
    return m.Item(_uint(id_), _value(item, MAX_DEPTH - 1), last)


_BUILDERS: dict[int, Callable[[list[Any]], m.Message]] = {
    1: _hello,
    2: _welcome,
    3: _goaway,
    4: _ping,
    5: _pong,
    16: _invoke,
    17: _result,
    18: _error,
    19: _cancel,
    32: _request,
    33: _reply,
    34: _item,
}
_WITH_BLOB = frozenset({m.Invoke, m.Result, m.Request, m.Reply})
