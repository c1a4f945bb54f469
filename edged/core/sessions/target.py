"""The target's side of a migration (DESIGN §5, reliability §2.5).

Decides when a state that was sent here may be served: when a record that names this node was read or told of,
never before. A source that falls silent costs a container for a while and nothing else.
"""

from typing import Any

from ..alarms import alarms_of
from ..effects import Ask, Control, Done, Effect, Said, Start, Timer
from ..records import Entry, Load, StoreFailed
from ..transition import S
from ..window import Window
from .actor import STEP_DEADLINE, Actor
from .endings import give_up
from .leaving import DOUBT_POLL
from .localize import serve

INVITED_FOR = 30.0
"""Seconds a target keeps its container for a source that says nothing."""

FIRST_LOOK = 0.2
"""Seconds after which the target looks for itself whether it was named."""


def invited(actor: Actor, asker: Any, move_id: bytes, now: float) -> list[Effect]:
    """Another node wants to move the session here: a container first."""
    if actor.state is not S.FREE:
        return [Done(asker, 103, "the session is busy here", {})]
    actor.asker, actor.move, actor.began = asker, move_id, now
    actor.go(S.INVITED)
    token = actor.number()
    return [Start(token), Timer(INVITED_FOR, token)]


def started(actor: Actor, container: Any) -> list[Effect]:
    """INVITED: the container is there."""
    actor.container = container
    return actor.end_move(0, "")


def offered(actor: Actor, asker: Any, params: dict[str, Any], blob: bytes | None) -> list[Effect]:
    """INVITED: the frozen state and its results."""
    if actor.state is not S.INVITED or params["move"] != actor.move or actor.container is None:
        return [Done(asker, 103, "not invited for this move", {})]
    actor.asker = asker
    actor.epoch, actor.version = params["epoch"], params["version"]
    entries = tuple(Entry(*entry) for entry in params["results"])
    actor.window = Window(actor.rules.dedup, entries, params["floor"])
    actor.alarms = alarms_of(params.get("alarms"))
    actor.go(S.SEALING)
    token = actor.number()
    load = Control(actor.container, "worker.load", blob, token)
    return [load, Timer(STEP_DEADLINE, token)]


def loaded(actor: Actor, said: Said, now: float) -> list[Effect]:
    """SEALING: the container has the state; the source may write."""
    if said.code:
        return give_up(actor, said.code, said.message)
    actor.go(S.SEALED)
    return [*actor.end_move(0, ""), Timer(FIRST_LOOK, actor.number())]


def committed(actor: Actor, move_id: bytes, now: float) -> list[Effect]:
    """SEALED: the source says the record names this node."""
    if actor.state is not S.SEALED or move_id != actor.move:
        return []
    actor.epoch += 1
    actor.stored = actor.version
    actor.changed = now
    actor.number()
    return serve(actor, now)


def look(actor: Actor, now: float) -> list[Effect]:
    """SEALED: nobody said anything; the record may."""
    return [Ask(Load(actor.key, ()), actor.number())]


def looked(actor: Actor, outcome: Any, now: float) -> list[Effect]:
    """SEALED: named, overtaken by another move, or to look again."""
    record = None if isinstance(outcome, StoreFailed) else outcome.record
    if record is not None and record.move == actor.move and record.owner_boot == actor.boot:
        return committed(actor, actor.move, now)
    over = record is not None and record.epoch > actor.epoch
    if over or now - actor.began >= INVITED_FOR:
        return give_up(actor, 105, "the source fell silent")
    return [Timer(DOUBT_POLL, actor.number())]


def container_lost(actor: Actor, now: float) -> list[Effect]:
    """INVITED, SEALING, SEALED: nothing was promised; if the record names this node, it has the state."""
    return give_up(actor, 402, "its container died")


def out_of_time(actor: Actor, now: float) -> list[Effect]:
    """INVITED, SEALING: the source or the container does not answer."""
    return give_up(actor, 401, "no answer in time")
