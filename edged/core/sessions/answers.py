"""What an answer says: of a call that ran, and of one whose id was seen before (DESIGN §4, §5.1)."""

from typing import Any

from ..alarms import Alarms
from ..calls import Call
from ..effects import Answer, Due, Effect, Noted
from ..records import Entry
from .actor import Actor

NIL = b"\xc0"
"""A body that says nothing."""

PASSED_ON = ("type", "traceback", "ran")


def said(actor: Actor, call: Call, meta: dict[str, Any]) -> dict[str, Any]:
    """The meta of an answer to `call`, of which a container said `meta`."""
    says = {
        "node": actor.node,
        "mode": call.mode,
        "queue_us": max(0, int((call.started - call.arrived) * 1e6)),
        "run_us": meta.get("run_us", 0),
    }
    for name in PASSED_ON:
        if name in meta:
            says[name] = meta[name]
    if actor.recovered is not None and not call.answered:
        says["recovered"] = {"version": actor.recovered}
        actor.told = call.call_id, actor.recovered
        actor.recovered = None
    return says


def kept(code: int, body: bytes, message: str) -> bytes:
    """What the window keeps of an outcome: the body, or of a function error its message."""
    return body if code == 0 else message.encode()


def alarms_after(
    alarms: Alarms, call: Call, code: int, message: str, meta: dict[str, Any], epoch: int, version: int
) -> Alarms:
    """The session's alarms after a call that ran: an effect of it like the state."""
    if code == 0:
        return alarms.succeeded(call.alarm, meta.get("alarms") or {}, epoch, version)
    return alarms if call.alarm is None else alarms.failed(call.alarm, code, message)


def alarms_now(alarms: Alarms, before: Alarms) -> list[Effect]:
    """When the first is due now, and a word for people on each that died."""
    dead = [alarm for alarm in alarms.dead if alarm not in before.dead]
    about = ({"alarm": alarm.name, "code": alarm.code, "message": alarm.message} for alarm in dead)
    return [Due(alarms.due), *(Noted("session.alarm_dead", facts) for facts in about)]


def told_again(actor: Actor, call: Call) -> dict[str, Any]:
    """What a retry's answer says besides: a recovery that was told in an answer which may have been lost."""
    told, version = actor.told
    return {"recovered": {"version": version}} if told is not None and told == call.call_id else {}


def remembered(call: Call, entry: Entry, epoch: int, besides: dict[str, Any] | None = None) -> Answer:
    """The answer a call id seen before gets."""
    meta = {"epoch": epoch, "version": entry.version, "remembered": True, **(besides or {})}
    if entry.code == 0 and entry.body is not None:
        return Answer(call, 0, entry.body, "", meta)
    if entry.code == 0:
        return Answer(call, 302, b"", "done already; the answer was too large to remember", meta)
    return Answer(call, entry.code, b"", (entry.body or b"").decode(errors="replace"), meta)


def too_old(call: Call) -> Answer:
    """A retry whose id the window may have forgotten is not run."""
    return Answer(call, 404, b"", "too old to be remembered", None)


def not_set(call: Call) -> Answer:
    """The alarm it is for is done, or was taken out, or has become another one."""
    return Answer(call, 201, b"", "no such alarm stands any more", {"not_set": True})


def too_large(actor: Actor, call: Call, size: int) -> Answer:
    """The state it would leave behind; a container that knows its bound says so itself."""
    return Answer(call, 205, b"", f"the new state takes {size} bytes, {actor.rules.max_state} are allowed", None)


def state_lost(actor: Actor, call: Call) -> Answer:
    """Told once: the state was in the memory of a container that is gone, and nowhere else."""
    actor.state_lost = False
    return Answer(call, 105, b"", "the session's state was lost; it begins anew", {"state_lost": True})


def fenced(call: Call) -> Answer:
    """The node may own the session no longer, and cannot know."""
    message = "the session's node could not renew its lease"
    return Answer(call, 105, b"", message, {"retry_after_ms": 200})


def queue_full(call: Call) -> Answer:
    """The session has more calls waiting than its function allows."""
    return Answer(call, 101, b"", "the session's queue is full", {"retry_after_ms": 50})


def attached_enough(call: Call) -> Answer:
    """Its id is waited for by more calls than a client that waits for its deadlines sends."""
    return Answer(call, 101, b"", "this call id is being waited for", {"retry_after_ms": 50})
