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
from .actor import STEP_DEADLINE, Actor, Owed
from .arrival import Arrival
from .copying import RESUME_SECONDS
from .endings import give_up, let_go
from .kept import thank
from .leaving import DOUBT_POLL
from .localize import serve
from .migrate import digest_of, seal
from .takeover import lost_node

INVITED_FOR = 30.0
"""Seconds a target keeps its container for a source that says nothing."""

FIRST_LOOK = 0.2
"""Seconds after which the target looks for itself whether it was named."""


def invited(actor: Actor, asker: Any, source: str, move_id: bytes, now: float) -> list[Effect]:
    """Another node wants to move the session here: a container first."""
    effects: list[Effect] = []
    if actor.state is S.INVITED and actor.arrival is not None and actor.arrival.source == source:
        effects = give_up(actor, 103, "invited anew")  # a source that has forgotten the first move, or lost it
    if actor.state is S.KEEPING and actor.target.partition("/")[0] == source:
        effects = let_go(actor)  # who sends it on has it
    if actor.state is not S.FREE:
        return [Done(asker, 103, "the session is busy here", {})]
    if not actor.leases.good:
        return [Done(asker, 106, f"{actor.node} has no lease in the state store", {})]
    actor.asker, actor.move, actor.began = asker, move_id, now
    actor.arrival = Arrival(source)
    actor.go(S.INVITED)
    token = actor.number()
    return [*effects, Start(token), Timer(INVITED_FOR, token)]


def started(actor: Actor, container: Any) -> list[Effect]:
    """INVITED: the container is there."""
    actor.container = container
    return actor.end_move(0, "")


def _is_invited(actor: Actor, move_id: bytes) -> bool:
    return actor.state is S.INVITED and move_id == actor.move and actor.container is not None


def arrived(actor: Actor, asker: Any, params: dict[str, Any], blob: bytes, now: float) -> list[Effect]:
    """INVITED: a piece of the state; whoever sent it gets its credit back when the container has it."""
    arrival = actor.arrival
    if arrival is None or not _is_invited(actor, params["move"]):
        return [Done(asker, 103, "not invited for this move", {})]
    actor.began, arrival.cut = now, False
    if arrival.has(params["n"]):
        return [Done(asker, 0, "", {})]  # the answer went with a connection
    if not arrival.is_next(params["n"]):
        return [Done(asker, 103, "not the next piece of this move", {})]
    try:
        unit = arrival.add(blob, params["more"])
    except ValueError as error:
        return [Done(asker, 205, str(error), {})]
    if unit is None:
        return [Done(asker, 0, "", {})]
    if params["whole"]:
        arrival.whole, arrival.digest = unit, digest_of(unit)
        return [Done(asker, 0, "", {})]
    token = actor.fresh()
    arrival.restoring[token] = asker
    return [Control(actor.container, "worker.restore", unit, token)]


def restored(actor: Actor, token: int, said: Said) -> list[Effect]:
    """INVITED, SEALING: the container has a piece, or cannot take it."""
    assert actor.arrival is not None
    asker = actor.arrival.restoring.pop(token)
    if said.code:
        actor.arrival.failed = said.code, said.message
    else:
        actor.arrival.digest = said.result.get("digest", b"")
    return [Done(asker, said.code, said.message, {})]


def offered(actor: Actor, asker: Any, params: dict[str, Any], now: float) -> list[Effect]:
    """INVITED: all pieces were sent; what the session remembers, and what the store does not have of it."""
    arrival = actor.arrival
    if arrival is None or not _is_invited(actor, params["move"]):
        return [Done(asker, 103, "not invited for this move", {})]
    actor.asker, actor.began, arrival.offer = asker, now, params
    actor.epoch, actor.version, actor.stored = params["epoch"], params["version"], params["stored"]
    actor.recovered, actor.digest = params["recovered"], params["digest"]
    actor.term = actor.leases.term
    entries = tuple(Entry(*entry) for entry in params["results"])
    actor.window = Window(actor.rules.dedup, entries, params["floor"])
    actor.alarms, actor.alarmed = alarms_of(params["alarms"]), params["alarmed"]
    for version, entry in params["changes"]:
        actor.changes.note(version, entry and Entry(*entry))
    actor.go(S.SEALING)
    token = actor.number()
    about = {"epoch": actor.epoch + 1, "version": actor.version, "staged": arrival.whole is None}
    load = Control(actor.container, "worker.load", arrival.whole, token, about)
    return [load, Timer(STEP_DEADLINE, token)]


def loaded(actor: Actor, said: Said, now: float) -> list[Effect]:
    """SEALING: the container has the state, all pieces before; if it is the source's, the source may write."""
    arrival = actor.arrival
    assert arrival is not None
    code, message = arrival.failed or (said.code, said.message)
    has = {**arrival.offer, "version": actor.version, "results": [list(entry) for entry in actor.window.entries()]}
    if not code and seal(arrival.digest, has) != actor.digest:
        code, message = 500, "what arrived is not what was sent: the digests differ"
    if code:
        return give_up(actor, code, message)
    actor.go(S.SEALED)
    return [*actor.end_move(0, ""), Timer(FIRST_LOOK, actor.number())]


def withdrawn(actor: Actor, move_id: bytes) -> list[Effect]:
    """INVITED, SEALING, SEALED: the source serves on, and has written nothing."""
    if actor.state not in (S.INVITED, S.SEALING, S.SEALED) or move_id != actor.move:
        return []
    return give_up(actor, 103, "the source goes on")


def source_lost(actor: Actor, now: float) -> list[Effect]:
    """INVITED: the source may come back, and go on behind what is here. SEALING: it has written nothing, and serves on or
    is dead. SEALED: the record tells, now."""
    if actor.state is S.SEALED:
        return look(actor, now)
    if actor.state is S.INVITED and actor.container is not None and actor.arrival is not None:
        actor.began, actor.arrival.cut = now, True
        return [Timer(RESUME_SECONDS, actor.token)]
    return source_dead(actor) if actor.state in (S.INVITED, S.SEALING) else []


def source_dead(actor: Actor) -> list[Effect]:
    """INVITED, SEALING: it will send nothing any more."""
    return give_up(actor, 105, "the source is gone")


def committed(actor: Actor, move_id: bytes, now: float) -> list[Effect]:
    """SEALED: the source says the record names this node."""
    if actor.state is not S.SEALED or move_id != actor.move:
        return []
    actor.epoch += 1
    actor.rests.seen(actor.key, actor.epoch, now)
    assert actor.arrival is not None
    actor.after.owed = Owed(actor.arrival.source, actor.version, actor.move)
    actor.arrival = None
    actor.save_due = not actor.changes.all_saved
    actor.number()
    effects = serve(actor, now)
    return effects + thank(actor) if actor.local else effects


def look(actor: Actor, now: float) -> list[Effect]:
    """SEALED: nobody said anything; the record may."""
    return [Ask(Load(actor.key, ()), actor.number())]


def looked(actor: Actor, outcome: Any, now: float) -> list[Effect]:
    """SEALED: named, overtaken by another move, or to look again. A source that is lost is waited for no longer: the
    calls that wait here are what has the session taken over. Should it wake and name this node after all, the record
    is what there is."""
    record = None if isinstance(outcome, StoreFailed) else outcome.record
    if record is not None and record.move == actor.move and record.owner_boot == actor.boot:
        return committed(actor, actor.move, now)
    over = record is not None and (record.epoch > actor.epoch or lost_node(actor, record.owner) is not None)
    if over or now - actor.began >= INVITED_FOR:
        return give_up(actor, 105, "the source fell silent")
    return [Timer(DOUBT_POLL, actor.number())]


def container_lost(actor: Actor, now: float) -> list[Effect]:
    """INVITED, SEALING, SEALED: nothing was promised; if the record names this node, it has the state."""
    return give_up(actor, 402, "its container died")


def silent(actor: Actor, now: float) -> list[Effect]:
    """INVITED: the source has said nothing since the last piece, or this is not that long ago."""
    cut = actor.arrival is not None and actor.arrival.cut
    left = actor.began + (RESUME_SECONDS if cut else INVITED_FOR) - now
    if left > FIRST_LOOK and actor.container is not None:
        return [Timer(left, actor.token)]
    return out_of_time(actor, now)


def out_of_time(actor: Actor, now: float) -> list[Effect]:
    """INVITED, SEALING: the source or the container does not answer."""
    return give_up(actor, 401, "no answer in time")
