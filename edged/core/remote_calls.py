"""Calls of a session in remote-state: read the record, run, commit, answer (DESIGN §5, paper Fig. 2).

Decides which call runs next, what its commit carries, and what becomes of it and of those queued behind it
when the commit is lost, the store fails or the session turns out to live elsewhere. Refuses to know containers
of the session's own and how a move goes on once begun. The record of the last commit is kept for the next
call: the commit's compare-and-set finds out whether it was still true, a read beforehand would not.
"""

from dataclasses import replace
from typing import Any

from .calls import Call
from .effects import Answer, Ask, Effect, Forward, Located, Release, RunPool
from .holding import Holding, kept, remembered
from .records import Load, Loaded, Record, StoreFailed
from .transition import S
from .window import Window

MAX_TRIES = 3
"""Runs of one remote call that lost their commit before it is answered 107."""


class RemoteCalls(Holding):
    """One call at a time, from the front of the queue."""

    def _next(self, now: float) -> list[Effect]:
        """From FREE: begin the move that is wished for, else the next call."""
        if self.state is not S.FREE:
            return []
        if self._wish is not None:
            return self._localize(now)
        while self._queue and self._queue[0].answered:
            self._queue.popleft()
        if not self._queue:
            self._record = None
            return []
        self._head = head = self._queue.popleft()
        if self._record is not None and head.attempt == 0:
            return self._run_head(head, self._record)
        return self._read((head.call_id,) if head.call_id else ())

    def _read(self, ask: tuple[bytes, ...] | None) -> list[Effect]:
        self._go(S.READING)
        return [Ask(Load(self.key, ask), self._number())]

    def _run_head(self, head: Call, record: Record) -> list[Effect]:
        self._go(S.RUNNING)
        self._record = record
        self.epoch, self.version = record.epoch, record.version
        head.mode, head.state = "remote", record.state
        return [RunPool(head)]

    def _judge_head(self, record: Record, outcome: Loaded, now: float) -> list[Effect]:
        head = self._head
        if head is None:
            self._go(S.FREE)
            return self._next(now)
        if outcome.results:
            self._head = None
            self._go(S.FREE)
            return [remembered(head, outcome.results[0], record.epoch), *self._next(now)]
        if head.attempt > 0 and record.floor and head.call_id is not None:
            self._head = None
            self._go(S.FREE)
            return [Answer(head, 404, b"", "too old to be remembered", None), *self._next(now)]
        return self._run_head(head, record)

    def _commit(
        self, call: Call, code: int, body: bytes, message: str, meta: Any, blob: Any, now: float
    ) -> list[Effect]:
        record = self._record
        assert record is not None
        said = self._meta(call, "remote", meta, now)
        if meta.get("shared") or (code and call.call_id is None):
            self._head = None
            self._go(S.FREE)
            said.update(epoch=record.epoch, version=record.version)
            return [Answer(call, code, body, message, said), *self._next(now)]
        version = record.version + (code == 0)
        window = Window(1)
        entry = window.settle(call, code, kept(code, body, message, meta), version)
        said.update(epoch=record.epoch, version=version)
        call.entry = (Answer(call, code, body, message, said), blob, version, meta.get("prefer"))
        self._go(S.COMMITTING)
        write = self._write(record, version=version, state=blob, results=(entry,) if entry else ())
        return [Ask(write, self._number())]

    def _committed(self, outcome: Any, now: float) -> list[Effect]:
        head, record = self._head, self._record
        assert head is not None
        assert record is not None
        answer, blob, version, prefer = head.entry
        self._go(S.FREE)
        if isinstance(outcome, StoreFailed):
            self._head, self._record = None, None
            code = 106 if outcome.applied is False else 401
            return [
                Answer(head, code, b"", f"state store: {outcome.reason}", None),
                *self._next(now),
            ]
        if outcome.won:
            self._head = None
            state = record.state if blob is None else blob
            self._record = replace(record, version=version, state=state)
            self.version = version
            self._prefer(prefer or head.prefer, now)
            return [answer, *self._next(now)]
        self._record = None
        if outcome.duplicate is not None:
            self._head = None
            return [remembered(head, outcome.duplicate, record.epoch), *self._next(now)]
        head.tries += 1
        if head.tries >= MAX_TRIES:
            self._head = None
            lost = Answer(head, 107, b"", "others commit to this session", {"retry_after_ms": 20})
            return [lost, *self._next(now)]
        return self._read((head.call_id,) if head.call_id else ())

    def on_lost(self, call: Call, code: int, message: str, now: float) -> list[Effect]:
        """The pool could not run `call`, or the container that ran it died."""
        if call is not self._head or self.state is not S.RUNNING:
            return []
        self._head = None
        self._go(S.FREE)
        return [Answer(call, code, b"", message, None), *self._next(now)]

    # Calls that cannot run here

    def _send_away(self, record: Record, now: float) -> list[Effect]:
        owner = record.owner or ""
        effects = self._end_move(103, f"the session is local on {owner}")
        effects.append(Located(owner, record.epoch))
        if self._container is not None:
            effects.append(Release(self._container))
        calls = [self._head] if self._head is not None else []
        self._head = None
        calls += self._queue
        self._queue.clear()
        self._forget()
        self._go(S.FREE)
        return [*effects, *(Forward(call, owner) for call in calls), *self._next(now)]

    def _refuse_all(self, code: int, message: str, now: float) -> list[Effect]:
        effects = self._end_move(code, message)
        if self._container is not None:
            effects.append(Release(self._container))
        calls = [self._head] if self._head is not None else []
        self._head = None
        calls += self._queue
        self._queue.clear()
        self._forget()
        self._go(S.FREE)
        answers = [Answer(call, code, b"", message, None) for call in calls]
        return [*effects, *answers, *self._next(now)]
