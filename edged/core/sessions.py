"""One session on one node: the actor behind every stateful call (DESIGN §5, paper Fig. 2).

Decides when a call of the session runs, where, and what makes its effect count. Time, store, containers
and peers are events in and effects out; nothing here awaits, so no cancellation leaves it half changed.
What holds in each state stands in `transition`. Both modes live in one actor because the queue and the
dedup window must survive the switch; two actors with a hand-over was the alternative not taken.
"""

from collections import deque
from dataclasses import dataclass, replace
from typing import Any

from .calls import Call
from .effects import (
    Answer,
    Ask,
    Control,
    Done,
    Effect,
    Forward,
    Located,
    Release,
    RunOwn,
    RunPool,
    Start,
    Tell,
    Timer,
)
from .records import Entry, Load, Loaded, Record, SessionKey, StoreFailed, Write
from .transition import NEXT, OWNING, SERVING_REMOTE, S
from .window import MAX_WINDOW_BYTES, Verdict, Window

MAX_TRIES = 3
"""Runs of one remote call that lost their commit before it is answered 107."""

STEP_DEADLINE = 10.0
"""Seconds for a container to start or a peer to answer a step of a move."""

DOUBT_POLL = 0.5
"""Seconds between two reads of the record while a commit's outcome is unknown."""

INVITED_FOR = 30.0
"""Seconds a target keeps its slot for a source that says nothing."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What the function's manifest says of its sessions."""

    allow: tuple[str, ...]
    min_dwell: float
    queue: int
    dedup: int
    durability: str
    checkpoint_calls: int
    checkpoint_seconds: float


class Seat:
    """`arrived` for calls, `want` for moves, `on_…` for what the effects led to."""

    def __init__(self, key: SessionKey, node: str, boot: str, rules: Rules) -> None:
        self.key = key
        self.state = S.FREE
        self.epoch = 0
        self.version = 0
        self._node = node
        self._boot = boot
        self._rules = rules
        self._queue: deque[Call] = deque()
        self._window = Window(rules.dedup)
        self._record: Record | None = None
        self._head: Call | None = None
        self._container: Any = None
        self._own: list[Call] = []
        self._token = 0
        self._tokens = 0
        self._move = b""
        self._wish: tuple[str, Any, str, bytes] | None = None
        self._asker: Any = None
        self._target = ""
        self._began = 0.0
        self._changed = float("-inf")
        self._stored = 0
        self._unsaved: list[Entry] = []
        self._saving: tuple[int, int, int] | None = None
        self._save_due = False
        self._timer_set = False
        self._held: deque[tuple[int, Answer]] = deque()
        self._blob: bytes | None = None
        self._recovered: int | None = None
        self._moves = 0

    # What others may know

    @property
    def local(self) -> bool:
        """Whether this node owns the session and serves it from its own container."""
        return self.state in OWNING

    @property
    def quiet(self) -> bool:
        """Whether nothing is under way and nothing would be lost with this object."""
        return self.state is S.FREE and not self._queue and self._head is None and not self._wish

    @property
    def container(self) -> Any:
        """The session's own container, if it has one."""
        return self._container

    @property
    def unsaved(self) -> int:
        """Acknowledged calls that a crash now would lose."""
        return self.version - self._stored if self.local else 0

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
        entry = window.settle(call, code, _kept(code, body, message, meta), version)
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

    # Local-state

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
            entry = self._window.settle(call, code, _kept(code, body, message, meta), self.version)
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

    def _after_own(self, now: float) -> list[Effect]:
        if self.state is S.DRAINING and not self._own:
            return self._flush()
        if self.state is S.LOCAL and self._wish is not None:
            return self._begin_leaving(now)
        return self._maybe_save()

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

    def _open_gate(self) -> list[Effect]:
        effects: list[Effect] = []
        while self._held and self._held[0][0] <= self._stored:
            effects.append(self._held.popleft()[1])
        return effects

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

    def _forget(self) -> None:
        self._own, self._container, self._blob = [], None, None
        self._held.clear()
        self._unsaved, self._saving, self._record = [], None, None
        self._window = Window(self._rules.dedup)
        self._number()

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

    def _why_not(self, move: str, target: str) -> tuple[int, str] | None:
        if self._wish is not None or (
            self.state not in SERVING_REMOTE and self.state is not S.LOCAL
        ):
            return 103, "the session is moving already"
        mode = "remote" if move == "externalize" else "local"
        if mode not in self._rules.allow:
            return 201, f"the function does not allow {mode}-state sessions"
        if move == "migrate" and target == self._node:
            return 201, f"the session is on {self._node} already"
        if move == "localize" and self.state is S.LOCAL:
            return 201, f"the session is local on {self._node} already"
        if move != "localize" and self.state is not S.LOCAL:
            return 201, "the session is not local-state"
        return None

    def _prefer(self, mode: str | None, now: float) -> None:
        """The application's trigger; dwell time and a move under way are stronger."""
        wanted = "localize" if mode == "local" else "externalize" if mode == "remote" else None
        if wanted is None or now - self._changed < self._rules.min_dwell:
            return
        if self._why_not(wanted, "") is None:
            self._moves += 1
            move_id = self._moves.to_bytes(4, "big") + self._boot.encode()[-12:]
            self._wish = (wanted, None, "", move_id.ljust(16, b"\0"))

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

    # Time, and what they all share

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

    def _end_move(self, code: int, message: str) -> list[Effect]:
        asker, self._asker = self._asker, None
        if asker is None:
            return []
        return [Done(asker, code, message, {"size": len(self._blob or b""), "began": self._began})]

    def _write(self, record: Record, **changes: Any) -> Write:
        """The compare-and-set against `record` that changes only what `changes` says."""
        mode = changes.get("mode", record.mode)
        local = mode == "local"
        return Write(
            key=self.key,
            expect_epoch=record.epoch,
            expect_version=record.version,
            epoch=changes.get("epoch", record.epoch),
            version=changes.get("version", record.version),
            mode=mode,
            owner=self._node if local else None,
            owner_boot=self._boot if local else None,
            move=changes.get("move"),
            state=changes.get("state"),
            results=changes.get("results", ()),
            keep=self._rules.dedup,
            keep_bytes=MAX_WINDOW_BYTES,
            durable=True,
        )

    def _meta(self, call: Call, mode: str, meta: dict[str, Any], now: float) -> dict[str, Any]:
        run = meta.get("run_us", 0)
        said = {
            "node": self._node,
            "mode": mode,
            "queue_us": max(0, int((call.started - call.arrived) * 1e6)),
            "run_us": run,
        }
        for name in ("type", "traceback"):
            if name in meta:
                said[name] = meta[name]
        if self._recovered is not None:
            said["recovered"] = {"version": self._recovered}
            self._recovered = None
        return said

    def _number(self) -> int:
        """A token for the next step; answers to earlier steps are late from here on."""
        self._token = self._fresh()
        return self._token

    def _fresh(self) -> int:
        """A token beside the step under way: checkpoints have their own."""
        self._tokens += 1
        return self._tokens

    def _go(self, state: S) -> None:
        if state is not self.state:
            assert state in NEXT[self.state], f"{self.state} does not lead to {state}"
            self.state = state


def _kept(code: int, body: bytes, message: str, meta: dict[str, Any]) -> bytes:
    """What the window keeps of an outcome: the body, or of a function error its message."""
    return body if code == 0 else message.encode()


def remembered(call: Call, entry: Entry, epoch: int) -> Answer:
    """The answer a call id seen before gets."""
    meta = {"epoch": epoch, "version": entry.version, "remembered": True}
    if entry.code == 0 and entry.body is not None:
        return Answer(call, 0, entry.body, "", meta)
    if entry.code == 0:
        return Answer(call, 302, b"", "done already; the answer was too large to remember", meta)
    return Answer(call, entry.code, b"", (entry.body or b"").decode(errors="replace"), meta)
