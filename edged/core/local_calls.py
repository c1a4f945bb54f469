"""Calls of a session in local-state, and what of them the store has (DESIGN §5.1).

Decides which calls its own container gets, when a checkpoint is due, and when an answer may leave: with
durability `sync` only once the store has its version. Refuses to know how the session came here and where it
goes; a move that waits for a call or a checkpoint is told of its end.
"""

from typing import Any

from .calls import Call
from .effects import Answer, Ask, Control, Effect, Release, RunOwn, Timer
from .holding import kept, remembered
from .records import StoreFailed, Write
from .remote_calls import RemoteCalls
from .transition import S
from .window import MAX_WINDOW_BYTES, Verdict


class LocalCalls(RemoteCalls):
    """Calls go to the session's own container as they come; the store follows behind."""

    def _admit_local(self, call: Call, now: float) -> list[Effect]:
        if len(self._own) >= self._rules.queue:
            return [Answer(call, 101, b"", "the session's queue is full", {"retry_after_ms": 50})]
        verdict = self._window.admit(call)
        if verdict is Verdict.RUN:
            call.mode, call.container = "local", self._container
            call.started = 0.0 if self._own else now
            self._own.append(call)
            return [RunOwn(call, self._container)]
        if verdict is Verdict.REMEMBERED:
            assert call.call_id is not None
            entry = self._window.remembered(call.call_id)
            assert entry is not None
            return self._gate(entry.version, remembered(call, entry, self.epoch))
        if verdict is Verdict.FORGOTTEN:
            return [Answer(call, 404, b"", "too old to be remembered", None)]
        if verdict is Verdict.TOO_MANY:
            return [Answer(call, 101, b"", "this call id is being waited for", None)]
        return []

    def _own_answer(
        self, call: Call, code: int, body: bytes, message: str, meta: Any, now: float
    ) -> list[Effect]:
        self._own.remove(call)
        if self._own:
            self._own[0].started = self._own[0].started or now
        said = self._meta(call, "local", meta, now)
        if (code == 0 and not meta.get("shared")) or code == 301:
            self.version += code == 0
            entry = self._window.settle(call, code, kept(code, body, message, meta), self.version)
            if entry is not None:
                self._unsaved.append(entry)
        else:
            self._window.abandon(call)
        said.update(epoch=self.epoch, version=self.version)
        effects = self._gate(self.version, Answer(call, code, body, message, said))
        self._prefer(meta.get("prefer") or call.prefer, now)
        return [*effects, *self._after_own(now)]

    def _gate(self, version: int, answer: Answer) -> list[Effect]:
        """With `sync` an answer leaves when the store has its version, in version order."""
        if self._rules.durability != "sync" or version <= self._stored:
            return [answer]
        self._held.append((version, answer))
        return []

    def _open_gate(self) -> list[Effect]:
        effects: list[Effect] = []
        while self._held and self._held[0][0] <= self._stored:
            effects.append(self._held.popleft()[1])
        return effects

    def _after_own(self, now: float) -> list[Effect]:
        if self.state is S.DRAINING:
            return self._resume_leaving(now)
        if self.state is S.LOCAL and self._wish is not None:
            return self._begin_leaving(now)
        return self._maybe_save()

    # Checkpoints

    def _maybe_save(self) -> list[Effect]:
        serving = self.state is S.LOCAL or self.state is S.INVITING
        if not serving or self._rules.durability == "none" or self._saving:
            return []
        if self.version == self._stored and not self._unsaved:
            return []
        due = self._save_due or self.unsaved >= self._rules.checkpoint_calls
        if not due and self._rules.durability != "sync":
            if self._timer_set:
                return []
            self._timer_set = True
            return [Timer(self._rules.checkpoint_seconds, -1)]
        self._save_due = False
        token = self._fresh()
        self._saving = (token, 0, 0)
        return [Control(self._container, "worker.snapshot", None, token)]

    def _snapshot_for_save(self, blob: bytes | None) -> list[Effect]:
        results = tuple(self._unsaved)
        token = self._fresh()
        self._saving = (token, self.version, len(results))
        write = Write(
            key=self.key,
            expect_epoch=self.epoch,
            expect_version=self._stored,
            epoch=self.epoch,
            version=self.version,
            mode="local",
            owner=self._node,
            owner_boot=self._boot,
            move=None,
            state=blob,
            results=results,
            keep=self._rules.dedup,
            keep_bytes=MAX_WINDOW_BYTES,
            durable=self._rules.durability == "sync",
        )
        return [Ask(write, token)]

    def _saved(self, outcome: Any, now: float) -> list[Effect]:
        assert self._saving is not None
        _, version, count = self._saving
        self._saving = None
        if isinstance(outcome, StoreFailed):
            return [Timer(self._rules.checkpoint_seconds, -1), *self._resume_leaving(now)]
        if not outcome.won:
            return self._superseded(now)
        self._stored = version
        del self._unsaved[:count]
        effects: list[Effect] = list(self._open_gate())
        return [*effects, *self._resume_leaving(now), *self._maybe_save()]

    # The end of ownership without a write

    def _superseded(self, now: float) -> list[Effect]:
        """The record is no longer ours: what only this memory held has no effect anywhere."""
        return self._drop(402, "the session was taken over by another node", now)

    def _drop(self, code: int, message: str, now: float) -> list[Effect]:
        """Leave ownership without a write; whoever asks next reads the record."""
        lost = [*self._own, *(answer.call for _, answer in self._held)]
        effects: list[Effect] = [Answer(call, code, b"", message, None) for call in lost]
        effects += self._end_move(105, message)
        if self._container is not None:
            effects.append(Release(self._container))
        self._forget()
        self._go(S.FREE)
        return [*effects, *self._next(now)]
