"""The actor of one session: which decision an event belongs to, in which state (DESIGN §5).

Decides nothing but that. A state without a row for an event has nothing under way that it could answer: it is
late, and changes nothing.
"""

from collections.abc import Callable
from typing import Any

from ..calls import Call
from ..effects import Effect, Forward, Release, Said
from ..takes import FIRST_FORM, Takes
from ..transition import OWNING, SERVING_LOCAL, SERVING_REMOTE, S
from . import (
    aside,
    checkpoints,
    closing,
    endings,
    externalize,
    fencing,
    invariants,
    kept,
    leaving,
    local_calls,
    localize,
    migrate,
    readers,
    remote_calls,
    takeover,
    target,
    wishes,
)
from .actor import Actor, Wish
from .answers import fenced

Step = Callable[[Actor, float], list[Effect]]
Answered = Callable[[Actor, Any, float], list[Effect]]
Controlled = Callable[[Actor, Said, float], list[Effect]]
Told = Callable[[Actor, int, str, float], list[Effect]]

STORE: dict[S, Answered] = {
    S.READING: remote_calls.has_read,
    S.COMMITTING: remote_calls.committed,
    S.RECLAIMING: takeover.taken,
    S.FETCHING: localize.fetched,
    S.CLAIMING: localize.claimed,
    S.RESTORING: localize.remembers,
    S.RELEASING: leaving.released,
    S.DOUBT: leaving.looked,
    S.KEEPING: kept.looked,
    S.REGAINING: kept.regained,
    S.FENCED: fencing.verified,
    S.SEALED: target.looked,
}

CONTAINER: dict[S, Callable[[Actor, Any], list[Effect]]] = {
    S.STARTING: localize.started,
    S.INVITED: target.started,
}

def _flushed(actor: Actor, said: Said, now: float) -> list[Effect]:
    """FLUSHING: what the store does not have."""
    return migrate.flushed(actor, said, now) if actor.target else externalize.flushed(actor, said, now)


CONTROL: dict[S, Controlled] = {
    S.RESTORING: localize.restored,
    S.FLUSHING: _flushed,
    S.ASIDE: aside.snapshot_taken,
    S.SEALING: target.loaded,
}

PEER: dict[S, Told] = {
    S.ASKING: takeover.asked,
    S.INVITING: migrate.accepted,
    S.OFFERING: migrate.sealed,
}

TIMER: dict[S, Step] = {
    S.YIELDING: takeover.turn_came,
    S.ASKING: takeover.no_copy,
    S.STARTING: target.out_of_time,
    S.RESTORING: localize.out_of_time,
    S.INVITING: leaving.out_of_time,
    S.COPYING: leaving.out_of_time,
    S.FLUSHING: leaving.out_of_time,
    S.OFFERING: leaving.out_of_time,
    S.DOUBT: leaving.look,
    S.KEEPING: kept.watch,
    S.FENCED: fencing.verify,
    S.ASIDE: aside.out_of_time,
    S.INVITED: target.silent,
    S.SEALING: target.out_of_time,
    S.SEALED: target.look,
}

CONTAINER_LOST: dict[S, Step] = {
    S.RESTORING: localize.restoring_lost,
    S.LOCAL: local_calls.container_lost,
    S.INVITING: local_calls.container_lost,
    S.COPYING: local_calls.container_lost,
    S.DRAINING: local_calls.container_lost,
    S.FLUSHING: local_calls.container_lost,
    S.OFFERING: local_calls.container_lost,
    S.KEEPING: kept.container_lost,
    S.FENCED: local_calls.container_lost,
    S.ASIDE: aside.container_lost,
    S.INVITED: target.container_lost,
    S.SEALING: target.container_lost,
    S.SEALED: target.container_lost,
}


NOTHING: dict[str, frozenset[S]] = {
    # Nothing is asked of the store there under the token of the step; checkpoints and readers have tokens of their own.
    "store": SERVING_LOCAL
    | {S.FREE, S.RUNNING, S.YIELDING, S.ASKING, S.STARTING, S.DRAINING, S.FLUSHING, S.OFFERING, S.ASIDE, S.INVITED, S.SEALING},
    # Nothing is due: there is nothing to wait for, the store answers in time, or a call's hard limit ends the waiting.
    "timer": SERVING_REMOTE - {S.YIELDING}
    | {S.RECLAIMING, S.FETCHING, S.CLAIMING, S.LOCAL, S.DRAINING, S.RELEASING, S.REGAINING},
    # There is none, or a write that is under way decides what its death means.
    "container_lost": SERVING_REMOTE
    | {S.ASKING, S.RECLAIMING, S.STARTING, S.FETCHING, S.CLAIMING, S.RELEASING, S.DOUBT, S.REGAINING},
    # No other node is asked for the step.
    "peer": frozenset(S) - {S.INVITING, S.OFFERING, S.ASKING},
    # Nobody is served here; before that, what the lease allows is asked.
    "lapsed": frozenset(S) - OWNING - {S.FENCED},
    "renewed": frozenset(S) - OWNING - {S.FENCED},
    # Hearsay changes only what is served by it; a record that was read is no hearsay.
    "epoch_seen": frozenset(S) - OWNING,
}
"""Where each thing that may happen changes nothing, and why: with its table it covers every state."""

LAPSED: dict[S, Step] = {**dict.fromkeys(OWNING, fencing.lapsed), S.FENCED: fencing.lapsed_again}
RENEWED: dict[S, Step] = {**dict.fromkeys(OWNING, fencing.renewed), S.FENCED: fencing.verify}
HIGHER_EPOCH: dict[S, Step] = dict.fromkeys(OWNING, fencing.higher_epoch)


def _begin(actor: Actor, now: float) -> list[Effect]:
    """FREE: the move that is wished for, else the next call."""
    return localize.begin(actor, now) if actor.wish is not None else remote_calls.begin(actor)


def _serve_on(actor: Actor, now: float) -> list[Effect]:
    """LOCAL: its end, the move that is wished for, or else what keeps the state safe."""
    if actor.over:
        return closing.said_so(actor, now)
    if actor.wish is None:
        return checkpoints.save_if_due(actor, now)
    return LEAVE[actor.wish.move](actor, now)


LEAVE: dict[str, Step] = {"migrate": migrate.begin, "externalize": externalize.begin, "end": closing.begin}


def _flush_when_idle(actor: Actor, now: float) -> list[Effect]:
    """DRAINING: once nothing runs, what only the container has."""
    if not leaving.is_idle(actor):
        return []
    if actor.closing or actor.over:
        return closing.close(actor)
    actor.go(S.FLUSHING)
    return migrate.flush(actor) if actor.target else externalize.flush(actor)


THEN: dict[S, Step] = {
    S.FREE: _begin,
    S.LOCAL: _serve_on,
    S.INVITING: checkpoints.save_if_due,
    S.COPYING: checkpoints.save_if_due,
    S.DRAINING: _flush_when_idle,
}
"""What a state leads to by itself, when nothing it waits for is missing."""


class Seat(Actor):
    """`arrived` for calls, `want` for moves, `on_…` for what the effects led to."""

    _checked = S.FREE

    def arrived(self, call: Call, now: float) -> list[Effect]:
        """A call of this session, from a client or another node."""
        if self.state in SERVING_LOCAL:
            effects = local_calls.admit(self, call, now)
            return effects if call.alarm is None else self._then(effects, now)
        if call.method in self.rules.shared and self.state in SERVING_REMOTE and call.alarm is None:
            return readers.begin(self, call)
        if self.state is S.FENCED and not self.leases.good:
            return [fenced(call)]
        if self.state is S.INVITED and self.arrival is not None:
            if self.arrival.source not in self.leases.lost:
                return [Forward(call, self.arrival.source)]
            return target.source_dead(self) + self.arrived(call, now)
        if self.state is S.KEEPING:
            return kept.arrived(self, call)
        effects = remote_calls.enqueue(self, call)
        return self._then(effects, now) if self.state is S.FREE else effects

    def on_answer(
        self, call: Call, code: int, body: bytes, message: str, meta: Any, blob: Any, now: float
    ) -> list[Effect]:
        """A container answered `call`."""
        meta = meta or {}
        if call in self.own:
            effects = local_calls.answered(self, call, code, body, message, meta, now)
        elif call is self.head and self.state is S.RUNNING:
            effects = remote_calls.answered(self, call, code, body, message, meta, blob)
        elif (token := readers.token_of(self, call)) is not None:
            effects = readers.answered(self, token, code, body, message, meta)
            return self._then(effects, now) if self.state is S.FREE else effects
        else:
            return []
        return self._then(effects, now)

    def on_lost(self, call: Call, code: int, message: str, now: float) -> list[Effect]:
        """The pool could not run `call`, or the container that ran it died."""
        if (token := readers.token_of(self, call)) is not None:
            return readers.lost(self, token, code, message)
        if call is not self.head or self.state is not S.RUNNING:
            return []
        return self._then(remote_calls.lost(self, call, code, message), now)

    def on_store(self, token: int, outcome: Any, now: float) -> list[Effect]:
        """The answer of an `Ask`."""
        if self.saving is not None and token == self.saving.token:
            return self._then(checkpoints.stored(self, outcome) + kept.thank(self), now)
        if token in self.readers:
            effects = readers.has_read(self, token, outcome)
            return self._then(effects, now) if self.state is S.FREE else effects
        step = STORE.get(self.state) if token == self.token else None
        return self._then(step(self, outcome, now), now) if step is not None else []

    def on_container(
        self, token: int, container: Any, reason: str, now: float, deltas: bool = False, takes: Takes = FIRST_FORM
    ) -> list[Effect]:
        """The container a `Start` asked for, whether it speaks of deltas and which states it takes; None with the reason when
        there is none."""
        step = CONTAINER.get(self.state) if token == self.token else None
        if step is None:
            return [Release(container)] if container is not None else []
        if container is None:
            return self._then(endings.give_up(self, 104, reason), now)
        self.deltas, self.takes = deltas, takes
        return step(self, container)

    def on_control(self, token: int, said: Said, now: float) -> list[Effect]:
        """The answer of a `Control`."""
        if self.saving is not None and token == self.saving.token:
            return self._then(checkpoints.snapshot_taken(self, said), now)
        if self.copy is not None and token == self.copy.asked:
            return self._then(migrate.read(self, said, now), now)
        if self.arrival is not None and token in self.arrival.restoring:
            return target.restored(self, token, said)
        step = CONTROL.get(self.state) if token == self.token else None
        return self._then(step(self, said, now), now) if step is not None else []

    def on_container_lost(self, now: float) -> list[Effect]:
        """The session's own container died."""
        if self.container is None:
            return []
        self.container = None
        step = CONTAINER_LOST.get(self.state)
        return self._then(step(self, now), now) if step is not None else []

    def on_peer(self, token: int, code: int, message: str, now: float) -> list[Effect]:
        """The answer of a `Tell`; code 0 is consent."""
        step = PEER.get(self.state) if token == self.token else None
        if step is None:
            return self._then(migrate.credit(self, token, code, message, now), now)
        return self._then(step(self, code, message, now), now)

    def on_timer(self, token: int, now: float) -> list[Effect]:
        """A `Timer` ran out."""
        if token == checkpoints.DUE:
            checkpoints.due(self)
            return self._then([], now)
        if token == checkpoints.WATCH:
            return self._then(checkpoints.look_after(self), now)
        if self.copy is not None and token == self.copy.resting:
            return self._then(migrate.rested(self, now), now)
        step = TIMER.get(self.state) if token == self.token else None
        return self._then(step(self, now), now) if step is not None else []

    # The lease

    def on_lapsed(self, now: float) -> list[Effect]:
        """This node's lease has ended."""
        return self._environment(LAPSED, now)

    def on_renewed(self, now: float) -> list[Effect]:
        """It is good again, in a new term."""
        return self._environment(RENEWED, now)

    def on_epoch_seen(self, epoch: int, now: float) -> list[Effect]:
        """Somebody says that the session is at `epoch`."""
        return self._environment(HIGHER_EPOCH, now) if epoch > self.epoch else []

    def _environment(self, table: dict[S, Step], now: float) -> list[Effect]:
        step = table.get(self.state)
        return self._then(step(self, now), now) if step is not None else []

    # Moves

    def want(
        self,
        move: str,
        asker: Any,
        target: str,
        move_id: bytes,
        now: float,
        forced: bool = False,
        frozen: bool = False,
        dwells: bool = False,
    ) -> list[Effect]:
        """Somebody asks for `localize`, `externalize`, `migrate` (to `target`) or `end` of this session."""
        wish = Wish(move, asker, target, move_id, forced, frozen, dwells)
        return self._then(wishes.want(self, wish, now), now)

    def invited(self, asker: Any, source: str, move_id: bytes, now: float) -> list[Effect]:
        """The node `source` wants to move the session here."""
        return target.invited(self, asker, source, move_id, now)

    def node_lost(self, node: str, now: float) -> list[Effect]:
        """There is no connection to `node` any more."""
        if self.arrival is None or self.arrival.source != node:
            return []
        return self._then(target.source_lost(self, now), now)

    def piece(self, asker: Any, params: dict[str, Any], blob: bytes, now: float) -> list[Effect]:
        """A part of the state of a session that moves here."""
        return self._then(target.arrived(self, asker, params, blob, now), now)

    def offered(self, asker: Any, params: dict[str, Any], now: float) -> list[Effect]:
        """The source of a migration has frozen the session and sent everything."""
        return self._then(target.offered(self, asker, params, now), now)

    def withdrawn(self, move_id: bytes, now: float) -> list[Effect]:
        """The source of a migration goes on."""
        return self._then(target.withdrawn(self, move_id), now)

    def committed(self, move_id: bytes, now: float) -> list[Effect]:
        """The source says the record names this node."""
        return self._then(target.committed(self, move_id, now), now)

    def regain(self, asker: Any, move: bytes, lost_seq: int | None, now: float) -> list[Effect]:
        """The node to which this one moved the session with `move` has lost it, and `asker` would take it over."""
        return self._then(kept.asked(self, asker, move, lost_seq), now)

    def safe_there(self, move: bytes, now: float) -> list[Effect]:
        """The target of the migration `move` has the session, and all of it safe."""
        return self._then(kept.thanked(self, move), now)

    def _then(self, effects: list[Effect], now: float) -> list[Effect]:
        """What follows by itself, until it stays in a state."""
        state = self.state
        while (step := THEN.get(state)) is not None:
            effects += step(self, now)
            if self.state is state:
                break
            state = self.state
        if state is not self._checked:
            invariants.check(self)
            self._checked = state
        return effects
