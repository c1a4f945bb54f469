"""The control verbs about dead letters: alarms whose tries have all failed (SPEC "Control verbs").

Decides nothing: the session's owner changes them, like any effect of a call (`core.alarms`). They are listed as the store
has them: one that died a moment ago in a local session is there with its next checkpoint.
"""

from typing import TYPE_CHECKING, Any

from edged.core.alarms import Alarm, alarms_of
from edged.core.records import Listed, ListSessions, Load, Loaded, SessionKey
from edged_protocol import messages as m
from edged_protocol.errors import CallError, Code, call_error

from .link import Link
from .lookup import asked, check_deployed
from .verb_params import optional_text, session_after, session_key

if TYPE_CHECKING:
    from .node import Node

PAGE = 500
"""Sessions that one listing looks through."""

MAX_ROWS = 100
"""Dead letters of one answer: with the longest names and texts they fit into what a frame may hold."""

Answer = tuple[Any, bytes | None]


async def session_dead(node: "Node", link: Link, request: m.Request) -> Answer:
    """A page of dead letters; `after` says where to go on, nil: that was all."""
    function, after = optional_text(request, "function"), session_after(request)
    outcome = await asked(node, ListSessions(function, after, PAGE))
    if function is not None and after is None and not (isinstance(outcome, Listed) and outcome.rows):
        check_deployed(node, function)
    found: list[m.Map] = []
    last = None
    for key, record in outcome.rows if isinstance(outcome, Listed) else ():
        if len(found) >= MAX_ROWS:
            break
        found += [_row(key, alarm) for alarm in alarms_of(record.alarms).dead]
        last = list(key)
    return {"dead": found, "after": last}, None


def _row(key: SessionKey, alarm: Alarm) -> m.Map:
    return {
        "function": key.function,
        "session": key.session,
        "alarm": alarm.name,
        "method": alarm.method,
        "tries": alarm.fails,
        "code": alarm.code,
        "message": alarm.message,
        "due": alarm.due,
    }


async def session_dead_edit(node: "Node", link: Link, request: m.Request) -> Answer:
    """`session.replay`, `session.drop`: the dead letters of a session, or the one named."""
    key, name = session_key(request), optional_text(request, "alarm")
    outcome = await asked(node, Load(key, ()))
    record = outcome.record if isinstance(outcome, Loaded) else None
    dead = alarms_of(record.alarms).dead if record is not None else ()
    meant = [alarm for alarm in dead if name in (None, alarm.name)]
    if not meant:
        raise CallError(Code.BAD_REQUEST, f"{'/'.join(key)} has no such dead letter", {"not_found": True})
    act = request.verb.removeprefix("session.")
    for alarm in meant:
        answer = await node.alarms.edit(key, act, alarm)
        if isinstance(answer, m.Error):
            raise call_error(answer.code, f"{alarm.name}: {answer.message}")
    return {"function": key.function, "session": key.session, "alarms": [alarm.name for alarm in meant]}, None

