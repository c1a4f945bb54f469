"""What the words on the command line mean: function, session, method arguments, call id (DESIGN §9)."""

import json
import os
from math import isnan
from typing import Any

import click

from edged_protocol.codec import pack
from edged_protocol.errors import LocalProtocolError
from edged_protocol.ids import METHOD_RE, new_call_id, valid_name, valid_session
from edged_protocol.limits import CALL_ID_BYTES


def function_name(text: str) -> str:
    """A function's name. Raises UsageError."""
    if not valid_name(text):
        raise click.UsageError(f"{text!r} is not a function name")
    return text


def node_name(text: str) -> str:
    """A node's name. Raises UsageError."""
    if not valid_name(text):
        raise click.UsageError(f"{text!r} is not a node name")
    return text


def mesh_name(text: str) -> str:
    """A mesh's name. Raises UsageError."""
    if not valid_name(text):
        raise click.UsageError(f"{text!r} is no name of a mesh")
    return text


def method_name(text: str) -> str:
    """A method's name; empty is the default method. Raises UsageError."""
    if text and not METHOD_RE.match(text):
        raise click.UsageError(f"{text!r} is not a method name")
    return text


def function_session(text: str) -> tuple[str, str | None]:
    """`FN` or `FN/SESSION`; a session key may itself contain slashes. Raises UsageError."""
    function, slash, session = text.partition("/")
    if slash and not valid_session(session):
        raise click.UsageError(f"{session!r} is not a session key")
    return function_name(function), session if slash else None


def session_key(text: str) -> dict[str, Any]:
    """`FN/SESSION` as a verb's parameters. Raises UsageError."""
    function, session = function_session(text)
    if session is None:
        raise click.UsageError(f"{text!r} is not FN/SESSION")
    return {"function": function, "session": session}


def values(words: tuple[str, ...]) -> tuple[Any, ...]:
    """Each word's JSON value, or itself where it is no JSON. Raises UsageError."""
    parsed = tuple(_value(word) for word in words)
    try:
        pack(list(parsed))
    except LocalProtocolError as error:
        raise click.UsageError(f"an argument cannot be sent: {error}") from error
    return parsed


def _value(word: str) -> Any:
    try:
        return json.loads(word, parse_constant=_not_json)
    except (ValueError, RecursionError):
        return word


def _not_json(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")


def call_id(text: str | None, session: str | None, retry: bool) -> bytes | None:
    """The id given, else a fresh one for a session; a stateless call has none to remember it."""
    if text is None:
        if retry:
            raise click.UsageError("--retry needs --id: the id of the call that is repeated")
        return new_call_id(os.urandom) if session is not None else None
    if session is None:
        raise click.UsageError("--id needs a session: a call without one is not remembered")
    try:
        given = bytes.fromhex(text)
    except ValueError:
        given = b""
    if len(given) != CALL_ID_BYTES:
        raise click.UsageError(f"--id: {2 * CALL_ID_BYTES} hex digits are needed")
    return given


_SHIELD = "\0"  # no word of a real command line contains it


def shield_numbers(words: list[str]) -> list[str]:
    """Keep negative numbers from being read as options; `unshield` gives them back."""
    return [_SHIELD + word if word[:1] == "-" and word[1:2].isdigit() else word for word in words]


class Seconds(click.FloatRange):
    """A time that may have been shielded, and is a number."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Raises BadParameter."""
        typed: Any = value.removeprefix(_SHIELD) if isinstance(value, str) else value
        seconds: float = super().convert(typed, param, ctx)
        if isnan(seconds):  # in no range, and beyond none
            self.fail(f"{typed} is no number of seconds", param, ctx)
        return seconds


def unshield(words: tuple[str, ...]) -> tuple[str, ...]:
    """The words as they were typed."""
    return tuple(word.removeprefix(_SHIELD) for word in words)
