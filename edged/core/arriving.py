"""A session's way to this node: localize, or migrate as the target (DESIGN §5, reliability §2.5).

Decides when to claim the record, what undoes a claim, and when the restored container may serve. Refuses to
know how calls run once it does. A target learns of the source's write from the source or, when that stays
silent, from the record; a deadline alone never makes it the owner.
"""

from collections import deque
from dataclasses import replace
from typing import Any

from .effects import Ask, Control, Done, Effect, Located, Release, Start, Timer
from .holding import DOUBT_POLL, STEP_DEADLINE
from .leaving import Leaving
from .records import Entry, Load, Record, StoreFailed
from .transition import S
from .window import Window

INVITED_FOR = 30.0
"""Seconds a target keeps its slot for a source that says nothing."""


class Arriving(Leaving):
    """From FREE until this node's container serves."""

    # Localize

    def _localize(self, now: float) -> list[Effect]:
        assert self._wish is not None
        _, self._asker, _, self._move = self._wish
        self._wish = None
        self._began = now
        self._record = None
        self._go(S.STARTING)
        token = self._number()
        return [Start(token), Timer(STEP_DEADLINE, token)]

    def on_container(self, token: int, container: Any, reason: str, now: float) -> list[Effect]:
        """The container a `Start` asked for; None with the reason when there is none."""
        if token != self._token or self.state not in (S.STARTING, S.INVITED):
            return [Release(container)] if container is not None else []
        if container is None:
            asker_code = 104
            self._go(S.FREE)
            return [*self._end_move(asker_code, reason), *self._next(now)]
        self._container = container
        if self.state is S.INVITED:
            return self._end_move(0, "")
        self._go(S.FETCHING)
        return [Ask(Load(self.key, None), self._number())]

    def _claim(self, record: Record, results: tuple[Entry, ...]) -> list[Effect]:
        self._go(S.CLAIMING)
        self._record = record
        self._window = Window(self._rules.dedup, results, record.floor)
        write = self._write(
            record, epoch=record.epoch + 1, mode="local", move=self._move, state=None, results=()
        )
        return [Ask(write, self._number())]

    def _take_back(self, record: Record, results: tuple[Entry, ...]) -> list[Effect]:
        """The record names this node, but no container here holds the session: its last life did."""
        self._recovered = record.version
        self._go(S.CLAIMING)
        self._record = record
        move = self._move if self._container is not None else b"\1" * 16
        write = self._write(record, epoch=record.epoch + 1, mode="remote", move=move, state=None)
        return [Ask(write, self._number())]

    def _claimed(self, outcome: Any, now: float) -> list[Effect]:
        record = self._record
        assert record is not None
        if isinstance(outcome, StoreFailed) and outcome.applied is not False:
            self._go(S.DOUBT)
            token = self._number()
            return [Timer(DOUBT_POLL, token)]
        if isinstance(outcome, StoreFailed):
            return self._refuse_all(106, f"state store: {outcome.reason}", now)
        if self._container is None:
            self._go(S.FREE)
            if self._head is not None:
                self._queue.appendleft(self._head)
                self._head = None
            self._record = None
            return self._next(now)
        if not outcome.won:
            self._go(S.FETCHING)
            return [Ask(Load(self.key, None), self._number())]
        return self._own_it(record, now)

    def _own_it(self, record: Record, now: float) -> list[Effect]:
        self.epoch, self.version, self._stored = record.epoch + 1, record.version, record.version
        self._changed = now
        self._go(S.RESTORING)
        return [Control(self._container, "worker.load", record.state, self._number())]

    def _undo_claim(self, error: str) -> list[Effect]:
        record = self._record
        assert record is not None
        self._asker, asker = None, self._asker
        self._target = ""
        self._go(S.RELEASING)
        write = self._write(
            replace(record, epoch=self.epoch), epoch=self.epoch + 1, mode="remote", move=self._move
        )
        effects: list[Effect] = [Done(asker, 301, error, {})] if asker is not None else []
        return [*effects, Ask(write, self._number())]

    def _serve(self, now: float) -> list[Effect]:
        self._go(S.LOCAL)
        self._record = None
        effects = [*self._end_move(0, ""), Located(self._node, self.epoch)]
        if self._head is not None:
            self._queue.appendleft(self._head)
            self._head = None
        waiting, self._queue = self._queue, deque()
        for call in waiting:
            effects += [] if call.answered else self._admit_local(call, now)
        return [*effects, *self._after_own(now)]

    # Being the target of a migration

    def invited(self, asker: Any, move_id: bytes, now: float) -> list[Effect]:
        """Another node wants to move the session here: a container first."""
        if self.state is not S.FREE or self._head is not None:
            return [Done(asker, 103, "the session is busy here", {})]
        self._asker, self._move, self._began = asker, move_id, now
        self._go(S.INVITED)
        token = self._number()
        return [Start(token), Timer(INVITED_FOR, token)]

    def offered(
        self, asker: Any, params: dict[str, Any], blob: bytes | None, now: float
    ) -> list[Effect]:
        """The frozen state and its results, from the source of a migration."""
        if self.state is not S.INVITED or params["move"] != self._move or self._container is None:
            return [Done(asker, 103, "not invited for this move", {})]
        self._asker = asker
        self.epoch, self.version = params["epoch"], params["version"]
        entries = tuple(Entry(*entry) for entry in params["results"])
        self._window = Window(self._rules.dedup, entries, params["floor"])
        self._go(S.SEALING)
        return [Control(self._container, "worker.load", blob, self._number())]

    def _sealing(self, error: str | None, now: float) -> list[Effect]:
        if error is not None:
            effects = [*self._end_move(301, error), Release(self._container)]
            self._forget()
            self._go(S.FREE)
            return [*effects, *self._next(now)]
        self._go(S.SEALED)
        return [*self._end_move(0, ""), Timer(0.2, self._number())]

    def committed(self, move_id: bytes, now: float) -> list[Effect]:
        """The source says the record names this node."""
        if self.state is not S.SEALED or move_id != self._move:
            return []
        self.epoch += 1
        self._stored = self.version
        self._changed = now
        self._number()
        return self._serve(now)

    def _sealed_read(self, outcome: Any, now: float) -> list[Effect]:
        record = None if isinstance(outcome, StoreFailed) else outcome.record
        if record is not None and record.move == self._move and record.owner == self._node:
            return self.committed(self._move, now)
        over = record is not None and record.epoch > self.epoch
        if not over and now - self._began < INVITED_FOR:
            return [Timer(DOUBT_POLL, self._number())]
        effects: list[Effect] = [Release(self._container)]
        self._forget()
        self._go(S.FREE)
        return [*effects, *self._next(now)]
