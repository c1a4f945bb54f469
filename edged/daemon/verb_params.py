"""What a control verb's parameters must look like (SPEC "Control verbs").

Each function gives one parameter or raises CallError 201 with what was expected of it.
"""

from edged.core.records import SessionKey
from edged_protocol import messages as m
from edged_protocol.errors import Code, call_error


def text(request: m.Request, name: str) -> str:
    """A string that is not empty."""
    value = request.params.get(name)
    if type(value) is not str or not value:
        raise call_error(Code.BAD_REQUEST, f"{request.verb} needs {name}: a string")
    return value


def optional_text(request: m.Request, name: str) -> str | None:
    """A string that is not empty, or None where it is missing or nil."""
    return None if request.params.get(name) is None else text(request, name)


def whole(request: m.Request, name: str, default: int | None = None) -> int:
    """An integer from 0; `default` where it is missing and may be."""
    value = request.params.get(name, default)
    if type(value) is not int or value < 0:
        raise call_error(Code.BAD_REQUEST, f"{request.verb} needs {name}: an integer from 0")
    return value


def session_key(request: m.Request) -> SessionKey:
    """`function` and `session`."""
    return SessionKey(text(request, "function"), text(request, "session"))


def session_after(request: m.Request) -> SessionKey | None:
    """`after`: the last session of an earlier page, if any."""
    after = request.params.get("after")
    if after is None:
        return None
    if not isinstance(after, list) or len(after) != 2 or {type(part) for part in after} != {str}:
        raise call_error(Code.BAD_REQUEST, f"{request.verb}: after is [function, session]")
    return SessionKey(*after)
