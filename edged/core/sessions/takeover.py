"""A session whose record names nobody that holds it: a lost node, or this one in a former life (reliability §2.2).

Decides when it may be taken, and that it goes back to remote-state at what the store has; from there a wish brings it
into a container here, as it was. To claim it as local at once was the alternative: callers would wait for a container.
"""

from typing import Any

from ..effects import Ask, Done, Effect, Forward, Noted, Release, Tell, Timer
from ..leases import Lost
from ..move_ids import signed_by
from ..records import Record, StoreFailed
from ..rendezvous import rank
from ..transition import S
from .actor import Actor, Wish
from .endings import refuse_all, send_away
from .writes import reclaim

YIELD_SECONDS = 0.3
"""For each node that comes before this one: it may get calls of the session too."""

ASK_SECONDS = 1.0
"""For a node that may have a copy to say so, or, after a start, to be heard of again."""


def read_elsewhere(actor: Actor, record: Record) -> list[Effect]:
    """READING: the record names a container that is not here."""
    if record.owner == actor.node:
        return _take_own(actor, record) if actor.leases.claimed else _yield(actor, YIELD_SECONDS)
    lost = lost_node(actor, record.owner)
    if lost is None:
        return send_away(actor, record)
    before = _place(actor)
    if before and actor.yielded != record.epoch:
        actor.yielded = record.epoch
        return _yield(actor, before * YIELD_SECONDS)
    return _take_or_ask(actor, record, lost)


def fetched_elsewhere(actor: Actor, record: Record) -> list[Effect]:
    """FETCHING: the same, for somebody who wants it here: it is taken first, then localized."""
    lost = lost_node(actor, record.owner)
    if lost is None and record.owner != actor.node:
        return send_away(actor, record)
    effects: list[Effect] = [Release(actor.container)] if actor.container is not None else []
    actor.container = None
    actor.wish, actor.asker = Wish("localize", actor.asker, "", actor.move), None
    return effects + _take_or_ask(actor, record, lost)


def lost_node(actor: Actor, node: str | None) -> Lost | None:
    """The owner, if it may be taken from: with `hold` only when an operator has declared it lost."""
    lost = actor.leases.lost.get(node or "")
    if lost is not None and actor.rules.on_partition == "hold" and not lost.forgotten:
        return None
    return lost


def _place(actor: Actor) -> int:
    """How many nodes come before this one."""
    return rank(actor.key, actor.node, (node for node in actor.candidates() if node not in actor.leases.lost))


def _take_own(actor: Actor, record: Record) -> list[Effect]:
    """What a former life of this node owned. Whoever had moved it here may not have been heard of since the start."""
    by_whom = (record.owner, actor.node, *actor.candidates())
    unheard = record.move is not None and not any(signed_by(record.move, node) for node in by_whom)
    if unheard and actor.yielded != record.epoch:
        actor.yielded = record.epoch
        return _yield(actor, ASK_SECONDS)
    return _take_or_ask(actor, record, None)


def _yield(actor: Actor, seconds: float) -> list[Effect]:
    """To read the record again after that."""
    actor.go(S.YIELDING)
    return [Timer(seconds, actor.number())]


def _take_or_ask(actor: Actor, record: Record, lost: Lost | None) -> list[Effect]:
    """The node that moved the session to its lost owner may have kept more than the record has."""
    keeper = _keeper(actor, record)
    if keeper is None or record.move is None:
        return _take(actor, record, lost)
    actor.record, actor.target = record, keeper
    actor.go(S.ASKING)
    token = actor.number()
    seq = lost.seq if lost is not None else None
    params = {**actor.key._asdict(), "move": record.move, "lost_seq": seq}
    return [Tell(keeper, "session.regain", params, None, token), Timer(ASK_SECONDS, token)]


def _keeper(actor: Actor, record: Record) -> str | None:
    if signed_by(record.move, record.owner):
        return None
    others = (node for node in actor.candidates() if node != actor.node and node not in actor.leases.lost)
    return next((node for node in others if signed_by(record.move, node)), None)


def asked(actor: Actor, code: int, message: str, now: float) -> list[Effect]:
    """ASKING: it takes the session back, and what waits goes there; or it has nothing."""
    if code:
        return no_copy(actor, now)
    node, wish, actor.wish = actor.target, actor.wish, None
    reason = f"{node} has a newer copy of the session and takes it back"
    ended: list[Effect] = [Done(wish.asker, 103, reason, {})] if wish is not None else []
    calls = actor.waiting()
    actor.record = None
    actor.go(S.FREE)
    return [*ended, *(Forward(call, node) for call in calls)]


def no_copy(actor: Actor, now: float) -> list[Effect]:
    """ASKING: the store has the newest, if its owner is still lost."""
    record = actor.record
    assert record is not None
    lost = lost_node(actor, record.owner)
    return _take(actor, record, lost) if lost is not None or record.owner == actor.node else start_over(actor)


def _take(actor: Actor, record: Record, lost: Lost | None) -> list[Effect]:
    """What is told of the loss is decided now: should the outcome be unknown, the record no longer tells."""
    actor.state_lost = actor.rules.durability == "none"
    actor.recovered = None if actor.state_lost else record.version
    actor.record = record
    actor.go(S.RECLAIMING)
    write = reclaim(actor, record, actor.state_lost)
    if lost is not None and record.owner is not None:
        write = write._replace(lease=(record.owner, lost.seq))
    return [Ask(write, actor.number())]


def taken(actor: Actor, outcome: Any, now: float) -> list[Effect]:
    """RECLAIMING: whatever became of it, the record is read again; a store that is away is told."""
    if isinstance(outcome, StoreFailed) and outcome.applied is False:
        return refuse_all(actor, 106, f"state store: {outcome.reason}")
    record = actor.record
    assert record is not None
    won = not isinstance(outcome, StoreFailed) and outcome.won
    if won and actor.wish is None and "local" in actor.rules.allow and actor.leases.good:
        actor.wish = Wish("localize", None, "", actor.next_move())
    about = {"owner": record.owner, "epoch": record.epoch + 1, "version": record.version}
    noted = Noted("session.taken_over", {**about, "state_lost": actor.state_lost})
    return [*([noted] if won else []), *start_over(actor)]


def start_over(actor: Actor) -> list[Effect]:
    """The head, if there is one, begins anew, with the record as it is then."""
    head, actor.head, actor.record = actor.head, None, None
    if head is not None:
        head.container = None
        actor.queue.appendleft(head)
    actor.go(S.FREE)
    return []


def turn_came(actor: Actor, now: float) -> list[Effect]:
    """YIELDING: nobody else took it, as far as the record will tell."""
    return start_over(actor)
