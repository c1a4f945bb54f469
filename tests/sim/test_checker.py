"""The checker finds what it is there for: each defect, put in on purpose, within a thousand worlds."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from edged.core import row
from edged.core.alarms import NONE, Alarm, Alarms
from edged.core.calls import Call
from edged.core.effects import Effect
from edged.core.leases import TAKE, Leases, Lost
from edged.core.records import ENDED, Op, Record, Renew, StoreFailed, Write, Written
from edged.core.sessions import (
    aside,
    checkpoints,
    endings,
    fencing,
    invariants,
    leaving,
    local_calls,
    localize,
    migrate,
    remote_calls,
    seat,
    target,
    writes,
)
from edged.core.sessions.actor import Actor
from edged.core.sessions.arrival import Arrival
from edged.core.sessions.basis import Basis
from edged.core.sessions.unsaved import Unsaved
from edged.core.transition import S
from edged.core.window import Window

from . import alarms as model
from . import leasing
from .mesh import ANY, Aim, failure
from .node import Node

pytestmark = pytest.mark.ahead

WORLDS = 1000

Patch = pytest.MonkeyPatch


def no_epoch_fence(patch: Patch) -> None:
    """The store compares the version alone."""

    def same_version(op: Any, record: Record | None) -> bool:
        return bool(op.expect_version == (record.version if record is not None else 0))

    patch.setattr(row, "expected", same_version)


def window_lost_on_externalize(patch: Patch) -> None:
    """What the container answered is not handed to the store."""
    patch.setattr(Unsaved, "entries", lambda _: ())


def window_lost_on_migrate(patch: Patch) -> None:
    """The target of a migration starts with an empty window, and nobody compares digests."""
    patch.setattr(target, "Window", lambda keep, entries, floor: Window(keep))
    for side in (migrate, target):
        patch.setattr(side, "seal", lambda *_: b"")


def acknowledged_before_commit(patch: Patch) -> None:
    """With `sync` the answer does not wait for the store."""
    patch.setattr(local_calls, "_gate", lambda actor, answer: [answer])


def serving_in_doubt(patch: Patch) -> None:
    """A release whose outcome is unknown is taken for none."""

    def released(actor: Actor, outcome: Any, now: float) -> list[Effect]:
        if isinstance(outcome, StoreFailed) and actor.container is not None:
            return leaving.back(actor, 106, "no answer", now)
        return leaving.released(actor, outcome, now)

    patch.setitem(seat.STORE, S.RELEASING, released)


def unknown_claim_is_won(patch: Patch) -> None:
    """A claim whose outcome is unknown is taken for won."""

    def claimed(actor: Actor, outcome: Any, now: float) -> list[Effect]:
        unknown = isinstance(outcome, StoreFailed) and outcome.applied is None
        return localize.claimed(actor, Written(True) if unknown else outcome, now)

    patch.setitem(seat.STORE, S.CLAIMING, claimed)


def own_write_is_a_takeover(patch: Patch) -> None:
    """A checkpoint refused because an earlier one was applied after all ends the ownership."""
    patch.setattr(checkpoints, "_refused", lambda actor, current: aside.superseded(actor))


def forgotten_without_a_word(patch: Patch) -> None:
    """The store is not told that the container's window had to forget."""
    made = Unsaved.__init__
    patch.setattr(Unsaved, "__init__", lambda self, keep: made(self, keep - 1))


def expired_retries_are_dropped(patch: Patch) -> None:
    """A retry attached to a call that expired in the queue goes with it."""
    patch.setattr(endings, "drop_expired", lambda call, queue, effects: None)


def late_answers_count(patch: Patch) -> None:
    """An answer to an earlier step is taken for the one that is awaited."""

    def on_timer(self: Any, token: int, now: float) -> list[Effect]:
        step = seat.TIMER.get(self.state)
        return self._then(step(self, now) if step is not None else [], now)

    patch.setattr(seat.Seat, "on_timer", on_timer)


def a_load_is_waited_for_forever(patch: Patch) -> None:
    """A container that does not answer while it loads the state is not given up."""
    patch.delitem(seat.TIMER, S.RESTORING)


def the_fence_is_skipped(patch: Patch) -> None:
    """An owner goes on after its lease, as if its function had chosen to."""
    patch.setattr(fencing, "may_serve", lambda actor: True)
    patch.setattr(invariants, "may_serve", lambda actor: True)


def served_again_without_reading(patch: Patch) -> None:
    """A renewed lease is taken for proof that nobody has taken over meanwhile."""

    def renewed(actor: Actor, now: float) -> list[Effect]:
        actor.term = actor.leases.term
        return fencing.serve(actor, now)

    patch.setitem(seat.RENEWED, S.FENCED, renewed)


def clocks_of_machines_are_compared(patch: Patch) -> None:
    """A lease says when it ends by its owner's clock, and others look at theirs."""
    made, judge = Leases.turn, Leases._judge

    def turn(self: Leases, now: float) -> list[Op]:
        return [op._replace(ttl=now + op.ttl) if isinstance(op, Renew) else op for op in made(self, now)]

    def _judge(self: Leases, now: float) -> None:
        judge(self, now)
        others = ((node, seen) for node, seen in self._seen.items() if node != self._node)
        self.lost = {node: Lost(seen.seq, False) for node, seen in others if now > seen.ttl}

    patch.setattr(Leases, "turn", turn)
    patch.setattr(Leases, "_judge", _judge)


def taken_whatever_the_lease_says(patch: Patch) -> None:
    """A node that was not heard of for a while is taken from, though it may have renewed since."""
    judge = Leases._judge

    def _judge(self: Leases, now: float) -> None:
        judge(self, now + TAKE * self.ttl * 0.7)

    patch.setattr(Leases, "_judge", _judge)
    patch.setattr(Write, "_replace", lambda self, **new: replace_but_lease(self, new))


def replace_but_lease(write: Write, new: dict[str, Any]) -> Write:
    new.pop("lease", None)
    return Write(**{**write._asdict(), **new})


def an_absence_goes_unnoticed(patch: Patch) -> None:
    """Replies are handed out after a pause without a look at the lease."""
    patch.setattr(leasing.Leasing, "look", lambda self: None)


def a_late_retry_is_run(patch: Patch) -> None:
    """A repeated call id that is not remembered runs, though older ones have been forgotten."""
    made = Call.__init__

    def init(self: Call, *words: Any) -> None:
        made(self, *words)
        self.attempt = 0

    patch.setattr(Call, "__init__", init)


def copies_are_thrown_away(patch: Patch) -> None:
    """A superseded owner drops what it has acknowledged beyond the record."""
    patch.setattr(fencing, "superseded", lambda actor: endings.drop(actor, "superseded"))


def a_piece_counts_twice(patch: Patch) -> None:
    """A piece of a state that was delivered twice is taken twice, and nobody compares digests."""
    patch.setattr(Arrival, "has", lambda self, number: False)
    patch.setattr(Arrival, "is_next", lambda self, number: True)
    for side in (migrate, target):
        patch.setattr(side, "seal", lambda *_: b"")


def a_delta_lies_on_what_nobody_knows(patch: Patch) -> None:
    """After a checkpoint whose outcome was not told the next one still holds only what came since."""
    patch.setattr(Basis, "forget", lambda self: None)


def a_delta_is_taken_for_the_state(patch: Patch) -> None:
    """Whoever loads a session forgets the deltas on its state."""
    patch.setattr(localize, "for_container", lambda state, deltas, speaks: (state, False))


def an_alarm_runs_as_often_as_it_is_fired(patch: Patch) -> None:
    """Nobody looks whether it still stands, and its calls have no id."""
    patch.setattr(Alarms, "standing", lambda alarms, firing: Alarm(firing.name, 0.0, "", b"", 0, 0))
    patch.setattr(model, "call_id", lambda key, alarm: None)


def a_failed_try_is_forgotten_by_another_commit(patch: Patch) -> None:
    """A commit puts back the alarms that it had read, whatever became of them since."""
    made = remote_calls.commit
    patch.setattr(remote_calls, "commit", lambda *args: made(*args)._replace(had_alarms=None))


def alarms_stay_behind(patch: Patch) -> None:
    """A session that turns local takes no alarms along, and writes that it has none with its next ones."""
    patch.setattr(localize, "alarms_of", lambda blob: NONE)


def an_end_without_an_epoch(patch: Patch) -> None:
    """A session that begins again has the epoch it had before."""
    made = writes.close

    def close(write: Write, move: bytes) -> Write:
        return made(write, move)._replace(epoch=write.expect_epoch)

    for module in (writes, remote_calls):
        patch.setattr(module, "close", close)


def an_end_that_forgets_call_ids(patch: Patch) -> None:
    """What a session remembers of its calls goes with it, and nobody is told that it did."""
    forget = row.Row._apply

    def _apply(self: row.Row, op: Write, updated: float) -> None:
        forget(self, op, updated)
        if op.schema == ENDED and self.record is not None:
            self._trim(0, 0)
            self.record = replace(self.record, floor=False)

    patch.setattr(row.Row, "_apply", _apply)


def served_on_after_its_end(patch: Patch) -> None:
    """A session whose function has ended it is served on when the store cannot be told, as any other would be."""

    def released(actor: Actor, outcome: Any, now: float) -> list[Effect]:
        if isinstance(outcome, StoreFailed) and outcome.applied is False and actor.over:
            actor.over = False
            return leaving.back(actor, 106, "no answer", now)
        return leaving.released(actor, outcome, now)

    patch.setitem(seat.STORE, S.RELEASING, released)


def calls_from_before_a_pause_are_run(patch: Patch) -> None:
    """A first try that lay in a paused node's socket is taken, though it may have been repeated, run and forgotten."""
    patch.setattr(Node, "stale", lambda self, take, origin: take())


DEFECTS: dict[Callable[[Patch], None], Aim] = {
    no_epoch_fence: ANY,
    window_lost_on_externalize: ANY,
    window_lost_on_migrate: ANY,
    acknowledged_before_commit: ANY,
    serving_in_doubt: Aim(("store_late",)),
    unknown_claim_is_won: Aim(("store_lost", "store_late")),
    own_write_is_a_takeover: Aim(("store_applied",)),
    forgotten_without_a_word: Aim(keep=4),
    expired_retries_are_dropped: ANY,
    late_answers_count: Aim(("verb_swallowed",)),
    a_load_is_waited_for_forever: Aim(("verb_swallowed",)),
    the_fence_is_skipped: Aim(("node_cut", "node_paused")),
    served_again_without_reading: Aim(("node_cut", "node_paused")),
    clocks_of_machines_are_compared: Aim(("client_lost",)),
    taken_whatever_the_lease_says: Aim(("store_slow", "node_cut")),
    an_absence_goes_unnoticed: Aim(("node_paused",)),
    calls_from_before_a_pause_are_run: Aim(("node_paused", "client_lost"), keep=4),
    a_late_retry_is_run: Aim(("client_lost", "store_lost")),
    copies_are_thrown_away: Aim(("node_cut", "node_paused")),
    an_alarm_runs_as_often_as_it_is_fired: ANY,
    a_failed_try_is_forgotten_by_another_commit: ANY,
    alarms_stay_behind: ANY,
    an_end_without_an_epoch: ANY,
    an_end_that_forgets_call_ids: ANY,
    served_on_after_its_end: Aim(("store_refused",)),
    a_piece_counts_twice: Aim(("tell_twice",)),
    a_delta_lies_on_what_nobody_knows: Aim(("store_late", "store_applied")),
    a_delta_is_taken_for_the_state: ANY,
}
"""Each with the worlds that bring it to light."""


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.__name__)
def test_a_defect_is_found(defect: Callable[[Patch], None], monkeypatch: Patch) -> None:
    """A world in which something does not hold turns up soon once the defect is in."""
    defect(monkeypatch)
    assert any(failure(seed, DEFECTS[defect])[0] for seed in range(WORLDS))
