"""A session's way out of this node: externalize, or migrate as the source (DESIGN §5, reliability §2.5).

Decides when the state is frozen, what is offered to the target and what the last write says; before that write
is sent, anything wrong leads back to LOCAL with the queue in order. Refuses to know what a doubtful write came
to: only the record tells, and `sessions` reads it.
"""

from collections import deque
from typing import Any

from .effects import Ask, Control, Effect, Forward, Located, Release, Tell, Timer
from .holding import DOUBT_POLL, STEP_DEADLINE
from .local_calls import LocalCalls
from .records import StoreFailed, Write
from .transition import S
from .window import MAX_WINDOW_BYTES


class Leaving(LocalCalls):
    """From LOCAL until the record names somebody else."""

    def _begin_leaving(self, now: float) -> list[Effect]:
        assert self._wish is not None
        move, self._asker, self._target, self._move = self._wish
        self._wish = None
        self._began = now
        if move == "migrate":
            self._go(S.INVITING)
            token = self._number()
            invite = Tell(self._target, "session.invite", self._names(), None, token)
            return [invite, Timer(STEP_DEADLINE, token)]
        self._target = ""
        return self._drain(now)

    def _names(self) -> dict[str, Any]:
        return {
            "function": self.key.function,
            "session": self.key.session,
            "epoch": self.epoch,
            "version": self.version,
            "move": self._move,
        }

    def on_peer(self, token: int, code: int, message: str, now: float) -> list[Effect]:
        """The answer of a `Tell`; code 0 is consent."""
        if token != self._token or self.state not in (S.INVITING, S.OFFERING):
            return []
        if code:
            return self._back(f"{self._target}: {message}", now, code)
        if self.state is S.INVITING:
            return self._drain(now)
        return self._release()

    def _drain(self, now: float) -> list[Effect]:
        self._go(S.DRAINING)
        self._began = now
        self._number()
        return self._flush() if not self._own else []

    def _flush(self) -> list[Effect]:
        if self._saving is not None:
            return []  # the checkpoint under way ends first: its version is what we compare with
        self._go(S.FLUSHING)
        token = self._number()
        snapshot = Control(self._container, "worker.snapshot", None, token)
        return [snapshot, Timer(STEP_DEADLINE, token)]

    def _resume_leaving(self, now: float) -> list[Effect]:
        return self._flush() if self.state is S.DRAINING and not self._own else []

    def _flushed(self, blob: bytes | None, now: float) -> list[Effect]:
        self._blob = blob
        if not self._target:
            return self._release()
        self._go(S.OFFERING)
        token = self._number()
        params = self._names()
        params["results"] = [list(entry) for entry in self._window.entries()]
        params["floor"] = self._window.floor
        offer = Tell(self._target, "session.offer", params, blob, token)
        return [offer, Timer(STEP_DEADLINE, token)]

    def _release(self) -> list[Effect]:
        self._go(S.RELEASING)
        return [Ask(self._leave(), self._number())]

    def _leave(self) -> Write:
        target, _, boot = self._target.partition("/")
        return Write(
            key=self.key,
            expect_epoch=self.epoch,
            expect_version=self._stored,
            epoch=self.epoch + 1,
            version=self.version,
            mode="local" if target else "remote",
            owner=target or None,
            owner_boot=boot or None,
            move=self._move,
            state=self._blob,
            results=tuple(self._unsaved),
            keep=self._rules.dedup,
            keep_bytes=MAX_WINDOW_BYTES,
            durable=True,
        )

    def _released(self, outcome: Any, now: float) -> list[Effect]:
        if isinstance(outcome, StoreFailed):
            if outcome.applied is False and self._container is not None:
                return self._back(f"state store: {outcome.reason}", now, 106)
            self._go(S.DOUBT)
            return [Timer(DOUBT_POLL, self._number())]
        if not outcome.won:
            return self._superseded(now)
        return self._left(now)

    def _left(self, now: float) -> list[Effect]:
        """The record names somebody else now; what waited goes there."""
        node, _, boot = self._target.partition("/")
        self.epoch += 1
        self._stored = self.version
        effects: list[Effect] = list(self._open_gate())
        if node:
            effects.append(Tell(node, "session.commit", self._names(), None, 0))
        effects += self._end_move(0, "")
        effects.append(Located(node or None, self.epoch))
        if self._container is not None:
            effects.append(Release(self._container))
        self._forget()
        self._changed = now
        self._go(S.FREE)
        if node:
            effects += [Forward(call, node) for call in self._queue]
            self._queue.clear()
        return [*effects, *self._next(now)]

    def _back(self, reason: str, now: float, code: int = 301) -> list[Effect]:
        """Anything wrong before the write: the old mode serves on, its queue in order."""
        self._blob = None
        self._go(S.LOCAL)
        effects = self._end_move(code, reason)
        waiting, self._queue = self._queue, deque()
        for call in waiting:
            effects += [] if call.answered else self._admit_local(call, now)
        return [*effects, *self._maybe_save()]
