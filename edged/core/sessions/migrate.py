"""The source's side of a migration, up to the write that ends its ownership (DESIGN §5, reliability §2.5).

Decides when the target is asked, when the session is frozen and what it is offered. Until the write is sent, anything
wrong means that this node serves on, its queue in order. The store gets no state with that write unless it is small:
the target has it all, and the record still has what the last checkpoint put there. To write the whole state at every
move was the alternative: the pause would be as long as the state.
"""

import hashlib
from typing import Any

from edged_protocol.codec import pack
from edged_protocol.errors import Code

from ..effects import Control, Effect, Said, Tell, Timer
from ..move_ids import signed
from ..transition import S
from .actor import STEP_DEADLINE, Actor
from .arrival import NOTHING
from .basis import Part
from .checkpoints import take, taken
from .copying import RESUME_LOOK, Copy
from .leaving import back, drain, let_out

ROUND_DEADLINE = 60.0
"""Seconds for one round of copying while calls go on."""

CUT = (105, 403)
"""The connection to the target is away, or ended before it answered."""

SEALED = ("version", "stored", "floor", "results", "changes", "alarms", "alarmed")
"""What of an offer its digest covers, beside the state."""

SEAL_DEADLINE = 2.0
"""Seconds a frozen session waits for its target to have everything; forced ones wait as for any step."""


def begin(actor: Actor, now: float) -> list[Effect]:
    """From LOCAL: the target first, which needs a container."""
    wish = actor.wish
    assert wish is not None
    actor.asker, actor.target, actor.move = wish.asker, wish.target, signed(wish.move_id, actor.node)
    actor.forced, actor.frozen = wish.forced, wish.frozen
    actor.wish, actor.began, actor.moved, actor.after.thanked = None, now, 0, False
    actor.go(S.INVITING)
    token = actor.number()
    invite = Tell(actor.target, "session.invite", {**actor.names(), "from": actor.node}, None, token)
    return [invite, Timer(STEP_DEADLINE, token)]


def accepted(actor: Actor, code: int, message: str, now: float) -> list[Effect]:
    """INVITING: the target has a container, or says why not."""
    if code:
        return back(actor, code, f"{actor.target}: {message}", now)
    actor.copy = Copy(now, actor.rules.chunk)
    if actor.frozen or not actor.deltas:
        return drain(actor, now)
    actor.go(S.COPYING)
    return _round(actor)


def _round(actor: Actor) -> list[Effect]:
    return [_ask(actor), Timer(ROUND_DEADLINE, actor.number())]


def _ask(actor: Actor) -> Control:
    copy = actor.copy
    assert copy is not None
    copy.asked = actor.fresh()
    params = {"since": copy.since, "limit": copy.limit, "digest": True}
    return Control(actor.container, "worker.delta", None, copy.asked, params)


def read(actor: Actor, said: Said, now: float) -> list[Effect]:
    """COPYING, FLUSHING: the next piece of the state, between two calls or after the last."""
    copy = actor.copy
    assert copy is not None
    if said.code:
        return back(actor, said.code, said.message, now)
    copy.read(said.result, said.blob)
    return _go_on(actor, now)


def credit(actor: Actor, token: int, code: int, message: str, now: float) -> list[Effect]:
    """COPYING, FLUSHING: the target took a piece, or says why not."""
    copy = actor.copy
    if copy is None or not copy.flies(token):
        return []
    if code in CUT and actor.state is S.COPYING and copy.broke(token, now):
        return [_rest(actor, copy, RESUME_LOOK)]
    if code:
        # Of one that is being offered the offer, which is behind it, will be refused for the same reason.
        return back(actor, code, f"{actor.target}: {message}", now) if actor.state in (S.COPYING, S.FLUSHING) else []
    rest = copy.credit(token, now)
    if actor.state not in (S.COPYING, S.FLUSHING):
        return []
    effects: list[Effect] = [_rest(actor, copy, rest)] if rest else []
    return effects + _go_on(actor, now)


def _rest(actor: Actor, copy: Copy, seconds: float) -> Timer:
    copy.resting = actor.fresh()
    return Timer(seconds, copy.resting)


def rested(actor: Actor, now: float) -> list[Effect]:
    """COPYING: the link is free again, or may be there again."""
    assert actor.copy is not None
    actor.copy.resting = 0
    return _go_on(actor, now) if actor.state is S.COPYING else []


def _go_on(actor: Actor, now: float) -> list[Effect]:
    """As much as there is credit for; then the next question, round or step."""
    copy = actor.copy
    assert copy is not None
    effects: list[Effect] = []
    token = actor.fresh()
    while (numbered := copy.next_piece(token, now)) is not None:
        number, piece = numbered
        params = {**actor.names(), "n": number, "more": piece.more, "whole": piece.whole}
        effects.append(Tell(actor.target, "session.chunk", params, piece.data, token))
        token = actor.fresh()
    actor.moved = copy.sent
    if actor.state is S.FLUSHING:
        return effects + _end(actor, copy)
    if not copy.round_read:
        return [*effects, _ask(actor)] if copy.hungry else effects
    return effects + _round_over(actor, copy, now) if copy.arrived else effects


def _round_over(actor: Actor, copy: Copy, now: float) -> list[Effect]:
    allowed = float("inf") if actor.forced else actor.rules.max_pause
    verdict = copy.verdict(allowed)
    if verdict == "freeze":
        return drain(actor, now)
    if verdict == "again":
        copy.next_round()
        return _round(actor)
    reason = f"{copy.left} bytes are behind after {copy.rounds} rounds, a pause of {copy.pause():.3f} s"
    return back(actor, 107, f"not_converging: {reason}; {allowed:g} s are allowed", now)


# Frozen


def flush(actor: Actor) -> list[Effect]:
    """FLUSHING: what the store and the target do not have, asked for at once."""
    copy = actor.copy
    assert copy is not None
    actor.part, actor.complete, actor.missing = Part(), actor.changes.all_saved, 0
    token = actor.number()
    effects: list[Effect] = [Timer(STEP_DEADLINE, token)]
    copy.freeze()
    if not actor.deltas:
        return [*effects, Control(actor.container, "worker.snapshot", None, token)]
    if not actor.complete and _is_cheap(actor):
        actor.missing = 1
        effects.append(take(actor, token))
    return [*effects, _ask(actor)]


def _is_cheap(actor: Actor) -> bool:
    """Whether the write shall bring the store up to date. With `sync` answers wait for that."""
    if actor.rules.durability == "none":
        return False
    basis = actor.basis
    small = basis.serial is not None and basis.size <= actor.rules.chunk
    return small or actor.rules.durability == "sync" or basis.since(actor.rules.deltas_from) is not None


def flushed(actor: Actor, said: Said, now: float) -> list[Effect]:
    """FLUSHING: what the store does not have; from a container without deltas that is what the target needs too."""
    copy = actor.copy
    assert copy is not None
    if said.code == Code.TOO_LARGE and actor.deltas and actor.rules.durability != "sync":
        actor.missing = 0  # it was small when last heard of, and the write need not bring the store up to date
        return _go_on(actor, now)
    if said.code:
        return back(actor, said.code, said.message, now)
    part = taken(actor, said)
    if part is not None:
        actor.part, actor.complete = part, True
    elif actor.rules.durability == "sync":
        return [take(actor, actor.token)]
    if not actor.deltas:
        copy.add_whole(said.blob or b"", digest_of(said.blob) if said.blob else NOTHING)
    actor.missing = 0
    return _go_on(actor, now)


def _end(actor: Actor, copy: Copy) -> list[Effect]:
    """The offer follows the last piece without waiting: the target takes them in their order."""
    if not copy.caught_up:
        return [_ask(actor)] if copy.hungry else []
    return [] if actor.missing or copy.waits else _offer(actor, copy)


def _offer(actor: Actor, copy: Copy) -> list[Effect]:
    actor.go(S.OFFERING)
    token = actor.number()
    params = {
        **actor.names(),
        "results": [list(entry) for entry in actor.window.entries()],
        "floor": actor.window.floor,
        "alarms": actor.alarms.packed(),
        "alarmed": actor.alarmed,
        "stored": actor.version if actor.complete else actor.stored,
        "changes": [] if actor.complete else actor.changes.listed(),
        "recovered": actor.recovered,
    }
    params["digest"] = seal(copy.digest, params)
    offer = Tell(actor.target, "session.offer", params, None, token)
    return [offer, Timer(STEP_DEADLINE if actor.forced else SEAL_DEADLINE, token)]


def digest_of(whole: bytes) -> bytes:
    """Of a state that moves in one."""
    return hashlib.blake2b(whole, digest_size=16).digest()


def seal(state: bytes, offer: dict[str, Any]) -> bytes:
    """The digest of all that moves: both sides make it of what they have."""
    return hashlib.blake2b(pack([state, *(offer[name] for name in SEALED)]), digest_size=16).digest()


def sealed(actor: Actor, code: int, message: str, now: float) -> list[Effect]:
    """OFFERING: the target has it all, and promises nothing."""
    if code:
        return back(actor, code, f"{actor.target}: {message}", now)
    return let_out(actor)
