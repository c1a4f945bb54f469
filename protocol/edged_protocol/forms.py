"""Reads plain frames (SPEC "Plain frames"): in a frame as long as one that was seen before every field has a known place.

Decides whether a frame is of a form that is known: it is taken apart in one step, and what stands between the fields must be
what the form has there. Any other frame means the same decoded, in twice the time; a call that was decoded shows a form.
Refuses to know how plain frames are written (`plain`). To find the places anew in each call was the alternative, and took
as long as to decode it. Sans-IO.
"""

import struct
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from . import messages as m
from .codec import decode
from .plain import (
    ANSWER,
    AT,
    CALL,
    ID16,
    NIL,
    ONCE,
    ONCE_PACKED,
    RAN,
    WAITED,
    packed_names,
    told_by,
)

MAX_FORMS = 256
"""Lengths of calls that are known on one connection; then all are forgotten."""

MAX_FORMS_OF_CLIENT = 16
"""The same where there are thousands of connections."""

_Unpack = Callable[[bytes], tuple[Any, ...]]
_Form = tuple[_Unpack, bytes, bytes, bytes, bytes, str, str]
"""Of a call: what takes it apart; what stands before its id, around its names, before its timeout and before its body; the
function and the method."""

_WIDTHS = {0xCD: "H", 0xCE: "I"}
"""Integers above 255, as ids and times are."""

_CALL_OF_NINE = CALL[:2]
_BEFORE_ONCE = -len(ONCE_PACKED)
_BEFORE_RAN = -len(RAN) - 4

_new = tuple.__new__


@lru_cache(64)
def _answers(behind: str) -> dict[int, tuple[_Unpack, bytes]]:
    """By its length: what takes an answer apart that has that behind its body, and what stands before the body."""
    rows = ((struct.Struct(f">3sI2s{size}x{behind}"), bytes((0xC4, size))) for size in range(256))
    return {form.size: (form.unpack, short) for form, short in rows}


_OF_CONTAINERS = _answers(f"{len(RAN)}sI")


def decode_ran(frame: bytes) -> m.Message:
    """One frame of a container. Raises RemoteProtocolError."""
    form = _OF_CONTAINERS.get(len(frame))
    if form is not None:
        unpack, size = form
        head, id_, short, ran, run = unpack(frame)
        if head == ANSWER and short == size and ran == RAN:
            return _new(m.Plain, (id_, frame[AT:_BEFORE_RAN], run, 0))
    return decode(frame)


class FromNode:
    """Reads what the node of that name says on one connection. The `blob` of a plain call is what stands between id and
    meta, for `plain.hand_over`."""

    def __init__(self, node: str) -> None:
        self._told = told_by(node)
        self._answers = _answers(f"{len(self._told)}sI{len(WAITED)}sI")
        self._calls: dict[int, _Form] = {}

    def decode(self, frame: bytes) -> m.Message:
        """One frame. Raises RemoteProtocolError."""
        length = len(frame)
        form = self._calls.get(length)
        if form is not None:
            unpack, _, names, wide, size, function, method = form
            head, id_, named, key, width, timeout, short, body, meta = unpack(frame)
            if head == CALL and named == names and width == wide and short == size and meta == ONCE_PACKED:
                return _new(m.Invoke, (id_, function, None, method, key or None, timeout, body, ONCE, frame[AT:_BEFORE_ONCE]))
        answer = self._answers.get(length)
        if answer is not None:
            unpack, size = answer
            head, id_, short, told, run, waited, queue = unpack(frame)
            if head == ANSWER and short == size and told == self._told and waited == WAITED:
                return _new(m.Plain, (id_, frame[AT:], run, queue))
        message = decode(frame)
        if type(message) is m.Invoke and frame.startswith(CALL):
            _learn(self._calls, MAX_FORMS, frame, message, ONCE_PACKED)
        return message


class FromClient:
    """Reads what a client says on one connection: calls without a session and without a meta by their form."""

    __slots__ = ("_calls",)

    def __init__(self) -> None:
        self._calls: dict[int, _Form] = {}

    def decode(self, frame: bytes) -> m.Message:
        """One frame. Raises RemoteProtocolError."""
        form = self._calls.get(len(frame))
        if form is not None:
            unpack, first, names, wide, size, function, method = form
            head, id_, named, key, width, timeout, short, body, meta = unpack(frame)
            if head == first and named == names and width == wide and short == size and meta == NIL:
                return _new(m.Invoke, (id_, function, None, method, key or None, timeout, body, None, None))
        message = decode(frame)
        if type(message) is m.Invoke:
            _learn(self._calls, MAX_FORMS_OF_CLIENT, frame, message, NIL)
        return message


def _learn(forms: dict[int, _Form], most: int, frame: bytes, call: m.Invoke, meta: bytes) -> None:
    """The form of calls of that length, if this one has one. The first of a length stays: where two methods take turns it is
    cheaper to decode one of them than to learn each time."""
    if call.session is not None or len(frame) in forms or not frame.endswith(meta):
        return
    form = _form(frame, call, meta)
    if form is not None:
        if len(forms) >= most:
            forms.clear()
        forms[len(frame)] = form


def _form(frame: bytes, call: m.Invoke, meta: bytes) -> _Form | None:
    key = call.call_id or b""
    names = packed_names(call.function, call.method) + (ID16 if key else NIL)
    id_ = _WIDTHS.get(frame[2])
    at = 3 + struct.calcsize(f">{id_}") + len(names) + len(key) if id_ else 0
    timeout = _WIDTHS.get(frame[at]) if at < len(frame) else None
    if not (id_ and timeout and frame.startswith(_CALL_OF_NINE) and frame.startswith(names + key, at - len(names) - len(key))):
        return None
    form = struct.Struct(f">3s{id_}{len(names)}s{len(key)}ss{timeout}2s{len(call.body)}s{len(meta)}s")
    if form.size != len(frame) or len(call.body) > 255:
        return None
    size = bytes((0xC4, len(call.body)))
    return form.unpack, frame[:3], names, frame[at : at + 1], size, call.function, call.method
