"""What of a container's answer is heeded (SPEC "Containers").

Decides which codes and which meta keys may come from a container. It is the function's own code, in any language: an
"overloaded" of its making would have its call repeated though it ran, a "load" would move other brokers' calls. Refuses to
know what the rest leads to.
"""

from edged_protocol import messages as m
from edged_protocol.errors import Code
from edged_protocol.limits import MAX_BODY

MAY_REFUSE = frozenset({201, 205, 206, 207, 301, 401})
"""Arguments, method, state, its form and time: what only the container knows."""

NOT_HELD = 103
"""In local-state only: another container has the session by now."""

MAY_SAY = frozenset({"alarms", "end", "prefer", "ran", "run_us", "shared", "traceback", "type", "version"})


def heeded(message: m.Result | m.Error, mode: str | None) -> m.Result | m.Error:
    """The answer to a call in `mode` without what is not for a container to say."""
    if isinstance(message, m.Error) and message.code not in MAY_REFUSE and (message.code, mode) != (NOT_HELD, "local"):
        text = f"the container answered {message.code}, which is not its to say: {message.message}"
        return m.Error(message.id, Code.FUNCTION_ERROR, text[:500], {"type": "ContainerError", "traceback": ""})
    said = {name: value for name, value in (message.meta or {}).items() if name in MAY_SAY}
    run = said.get("run_us", 0)
    if type(run) is not int or run < 0:
        del said["run_us"]
    return message._replace(meta=said)


def breach(message: m.Result | m.Error) -> str:
    """Why it ends the container, or "": a device that reads no longer frames than it has to would lose its connection."""
    if type(message) is m.Result and len(message.body) > MAX_BODY:
        return f"its answer has {len(message.body)} bytes, {MAX_BODY} are allowed"
    return ""
