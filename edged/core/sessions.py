"""One session on one node: the actor behind every stateful call (DESIGN §5, paper Fig. 2).

Decides which concern an event belongs to, by the state it finds, and whom a record that was read names. Time,
store, containers and peers are events in and effects out; nothing here awaits, so no cancellation leaves it
half changed. What holds in each state stands in `transition`, what is done in it in `remote_calls`,
`local_calls`, `leaving` and `arriving`, over the facts of `holding`; how each of them goes about it is not
known here. Both modes live in one actor because the queue and the dedup window must survive the switch; two
actors with a hand-over was the alternative not taken.
"""

from typing import Any

from .arriving import Arriving
from .calls import Call
from .effects import Answer, Ask, Done, Effect, Release, Timer
from .holding import DOUBT_POLL, Rules
from .records import Load, Record, StoreFailed
from .transition import OWNING, S

__all__ = ["Rules", "Seat"]


class Seat(Arriving):
    """`arrived` for calls, `want` for moves, `on_…` for what the effects led to."""

    # Calls

    def arrived(self, call: Call, now: float) -> list[Effect]:
        """A call of this session, from a client or another node."""
        if self.state is S.LOCAL or self.state is S.INVITING:
            return self._admit_local(call, now)
        if len(self._queue) >= self._rules.queue:
            return [Answer(call, 101, b"", "the session's queue is full", {"retry_after_ms": 50})]
        for running in [self._head, *self._queue] if call.call_id is not None else ():
            if running is not None and running.call_id == call.call_id:
                running.attached.append(call)
                return []
        self._queue.append(call)
        return self._next(now) if self.state is S.FREE else []

    def on_answer(
        self, call: Call, code: int, body: bytes, message: str, meta: Any, blob: Any, now: float
    ) -> list[Effect]:
        """A container answered `call`."""
        meta = meta or {}
        if call in self._own:
            return self._own_answer(call, code, body, message, meta, now)
        if call is not self._head or self.state is not S.RUNNING or self._record is None:
            return []
        if code == 0 or code == 301:
            return self._commit(call, code, body, message, meta, blob, now)
        self._head = None
        self._go(S.FREE)
        return [Answer(call, code, body, message, meta), *self._next(now)]

    # Moves

    def want(self, move: str, asker: Any, target: str, move_id: bytes, now: float) -> list[Effect]:
        """Somebody asks for `localize`, `externalize` or `migrate` (to `target`) of this session."""
        reason = self._why_not(move, target)
        if reason is not None:
            return [Done(asker, *reason, {})]
        self._wish = (move, asker, target, move_id)
        if self.state is S.LOCAL:
            return self._begin_leaving(now)
        return self._next(now)

    # The store

    def on_store(self, token: int, outcome: Any, now: float) -> list[Effect]:
        """The answer of an `Ask`."""
        if self._saving is not None and token == self._saving[0]:
            return self._saved(outcome, now)
        if token != self._token:
            return []
        if self.state in (S.READING, S.FETCHING) or self.state is S.SEALED or self.state is S.DOUBT:
            return self._has_read(outcome, now)
        if self.state is S.COMMITTING:
            return self._committed(outcome, now)
        if self.state is S.CLAIMING:
            return self._claimed(outcome, now)
        if self.state is S.RELEASING:
            return self._released(outcome, now)
        return []

    def _has_read(self, outcome: Any, now: float) -> list[Effect]:
        if self.state is S.SEALED:
            return self._sealed_read(outcome, now)
        if self.state is S.DOUBT:
            return self._doubt_read(outcome, now)
        if isinstance(outcome, StoreFailed):
            return self._refuse_all(106, f"state store: {outcome.reason}", now)
        record = outcome.record or Record(
            epoch=0,
            mode="remote",
            owner=None,
            owner_boot=None,
            version=0,
            move=None,
            state=None,
            floor=False,
            schema=1,
            updated=0.0,
            alarms=None,
        )
        elsewhere = record.mode == "local" and (record.owner, record.owner_boot) != (
            self._node,
            self._boot,
        )
        if elsewhere and record.owner != self._node:
            return self._send_away(record, now)
        if record.mode == "local":
            return self._take_back(record, outcome.results)
        if self.state is S.FETCHING:
            return self._claim(record, outcome.results)
        return self._judge_head(record, outcome, now)

    def _doubt_read(self, outcome: Any, now: float) -> list[Effect]:
        record = None if isinstance(outcome, StoreFailed) else outcome.record
        if record is None:
            return [Timer(DOUBT_POLL, self._number())]
        if record.move == self._move and record.owner == self._node and self._record is not None:
            return self._own_it(self._record, now)
        if record.move == self._move and record.epoch == self.epoch + 1:
            return self._left(now)
        if record.epoch == self.epoch and self._container is not None and self._record is None:
            return self._back("the state store did not answer in time", now, 106)
        return self._drop(401, "the session moved while the state store was away", now)

    # Containers and time

    def on_control(
        self, token: int, blob: bytes | None, error: str | None, now: float
    ) -> list[Effect]:
        """The answer of a `Control`."""
        if self._saving is not None and token == self._saving[0]:
            if error is None:
                return self._snapshot_for_save(blob)
            self._saving = None
            return self._resume_leaving(now)
        if token != self._token:
            return []
        if self.state is S.RESTORING:
            return self._undo_claim(error) if error is not None else self._serve(now)
        if self.state is S.SEALING:
            return self._sealing(error, now)
        if self.state is S.FLUSHING:
            return self._back(error, now) if error is not None else self._flushed(blob, now)
        return []

    def on_container_lost(self, now: float) -> list[Effect]:
        """The session's own container died: back to what the record holds."""
        if self._container is None:
            return []
        self._container = None
        if self.state in OWNING:
            self._recovered = self._stored
            running, waiting = self._own[:1], self._own[1:]
            for call in reversed(waiting):
                call.started = 0.0
                self._queue.appendleft(call)
            self._own = running
            return self._drop(402, "the session's container died", now)
        if self.state in (S.INVITED, S.SEALING, S.SEALED):
            self._forget()
            self._go(S.FREE)
            return self._next(now)
        if self.state is S.RESTORING:
            return self._undo_claim("its container died while loading the state")
        return []

    def on_timer(self, token: int, now: float) -> list[Effect]:
        """A `Timer` ran out; -1 is the checkpoint's."""
        if token == -1:
            self._timer_set = False
            self._save_due = True
            return self._maybe_save()
        if token != self._token:
            return []
        if self.state is S.DOUBT or self.state is S.SEALED:
            return [Ask(Load(self.key, ()), self._number())]
        if self.state in (S.INVITING, S.FLUSHING, S.OFFERING):
            return self._back("no answer in time", now, 401)
        if self.state in (S.STARTING, S.INVITED):
            effects = self._end_move(104, "no container in time")
            if self._container is not None:
                effects.append(Release(self._container))
            self._forget()
            self._go(S.FREE)
            return [*effects, *self._next(now)]
        return []
