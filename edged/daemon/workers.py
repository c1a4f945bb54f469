"""The containers of one node: which exist, what each does, and the frames to and from them (DESIGN §2, §8).

Pools decide (`core.pools`), `host` starts processes, this module joins the two and gives every container
its link. A container that dies is told to whoever used it: the pool, or the session it belonged to.
"""

import logging
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import trio

from edged.core.calls import Call
from edged.core.catalogue import in_canary
from edged.core.parts import for_container
from edged.core.pools import Pool
from edged.core.records import SessionKey
from edged_protocol import messages as m
from edged_protocol.codec import encode, encode_invoke
from edged_protocol.connection import Connection
from edged_protocol.limits import MAX_FRAME_TRUSTED, PROTO

from .host import Container, Host, Spec, StartFailed
from .hub import Hub
from .link import Link

if TYPE_CHECKING:
    from .nested import Nested

log = logging.getLogger(__name__)

RESULT_OR_ERROR = (m.Result, m.Error)
"""Made once: a union of types is made anew wherever it is written."""

DEFAULT_MS = 2000
"""`[calls] deadline`, where the function is not known."""

STEAL_AFTER = 0.005
"""Seconds a call may run before those held behind it are given to other containers."""


TELL_AGAIN = 0.02
"""Seconds between two signals to a container whose readers wait: one that comes between two calls is for nothing."""

WAITS_FOR_ITSELF = "all containers of the function wait for calls that wait for a container of it"
"""Why a call that was made by one of them is refused: no time would help."""


class Worker:
    """One container as the node sees it."""

    def __init__(self, function: "Deployed", container: Container, link: Link) -> None:
        self.function = function
        self.container = container
        self.link = link
        self.name = container.name
        self.seat: Any = None
        self.calls: dict[int, Call] = {}
        self.beside = False
        self.told = 0.0
        """When it was last told that readers wait behind its call."""
        self.children: dict[int, list[Call]] = {}
        """What its calls, by their serials, have asked of others."""
        self.verbs: dict[int, Callable[[m.Reply | m.Error], None]] = {}
        self.ready = trio.Event()
        self.deltas = False
        """Whether it speaks of deltas (SPEC "Containers")."""

    def invoke(self, call: Call, meta: m.Map, now: float) -> None:
        """Send the call; its answer comes through the workers' `answered`."""
        left = max(1, math.ceil((call.deadline - now) * 1000))
        self.calls[call.serial] = call
        call.container = self
        state = call.state
        if call.deltas:
            state, parts = for_container(state, call.deltas, self.deltas)
            meta = {**meta, "parts": parts}
        self.link.send(
            encode_invoke(
                call.serial,
                call.function,
                call.session,
                call.method,
                call.call_id,
                left,
                call.body,
                meta,
                state,
            )
        )

    def request(
        self, serial: int, verb: str, params: m.Map, blob: bytes | None, done: Callable[[Any], None]
    ) -> None:
        """A worker verb; `done` gets the REPLY or the ERROR."""
        self.verbs[serial] = done
        self.link.send(encode(m.Request(serial, verb, params, blob)))


class Deployed:
    """One function version on this node: its specification, pool and containers."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        limits = spec.manifest.pool
        self.pool = Pool(limits.min, limits.max, spec.manifest.calls.queue)
        self.workers: set[Worker] = set()
        self.broken = ""
        self.shared: set[str] = set()
        """Names of its methods that change nothing, once a container has said so."""


def shared_methods(info: m.Map) -> set[str]:
    """The names under which a container's readers are called, from its HELLO."""
    methods = info.get("methods")
    rows = methods.items() if isinstance(methods, dict) else ()
    names = {name for name, about in rows if isinstance(about, dict) and about.get("shared") is True}
    return names | {""} if info.get("default") in names else names


def _kept(old: dict[str, Deployed], spec: Spec) -> Deployed:
    """The version as it runs already, taken out of `old`, or anew."""
    known = old.pop(spec.hash, None)
    return Deployed(spec) if known is None else known


class Workers:
    """Starts, feeds and ends the containers of all functions of a node."""

    def __init__(
        self,
        host: Host,
        slots: int,
        welcome: m.Map,
        serials: Iterator[int],
        touch: Callable[[Link], None],
        answered: Callable[[Call, m.Result | m.Error, float], None],
        lost: Callable[[Call, int, str], None],
        seat_lost: Callable[[Any], None],
        settle: Callable[[], None],
        hub: Hub,
    ) -> None:
        self._host = host
        self._slots = slots
        self._welcome = {
            "proto": PROTO,
            "max_frame": MAX_FRAME_TRUSTED,
            "max_inflight": 64,
            **welcome,
        }
        self._serials = serials
        self._touch = touch
        self._answered = answered
        self._lost = lost
        self._seat_lost = seat_lost
        self._settle = settle
        self._hub = hub
        self._nursery: trio.Nursery | None = None
        self.functions: dict[str, Deployed] = {}
        self._canaries: dict[str, tuple[Deployed, int]] = {}
        self._starting = 0
        self._alive: set[Worker] = set()
        self._hungry: set[Deployed] = set()
        self._starved: set[Deployed] = set()
        """Want a container and found no slot: fed again whenever something has happened."""
        self.nested: Nested
        self.resting = False
        """The node is drained: what is here runs to its end, nothing new is offered."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Own the tasks of all containers; cancelled, it ends them."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                task_status.started()
                await trio.sleep_forever()
        finally:
            for worker in self._alive:
                worker.container.kill()

    @property
    def used(self) -> int:
        """Slots taken."""
        return len(self._alive) + self._starting

    @property
    def total(self) -> int:
        """Slots there are."""
        return self._slots

    @property
    def offered(self) -> list[str]:
        """The functions that calls may come here for."""
        return [] if self.resting else sorted(self.functions)

    def versions(self) -> list[Deployed]:
        """All that is served, canaries too."""
        return [*self.functions.values(), *(canary for canary, _ in self._canaries.values())]

    def at_once(self, name: str) -> bool:
        """Whether a call of `name` would not wait here."""
        function = self.functions.get(name)
        return function is not None and function.pool.at_once(self._slots - self.used)

    def figures(self, name: str) -> tuple[int, int, int, int, int] | None:
        """For other nodes, of a function offered here (`core.balancing.Load`)."""
        function = self.functions.get(name)
        if function is None or self.resting:
            return None
        return function.pool.figures(self._slots - self.used)

    def default_timeout(self, name: str) -> int:
        """Milliseconds for a call that says none."""
        function = self.functions.get(name)
        return DEFAULT_MS if function is None else int(function.spec.manifest.calls.deadline * 1000)

    def starts_local(self, name: str) -> bool:
        """Whether sessions of `name` begin local-state."""
        function = self.functions.get(name)
        return function is not None and function.spec.manifest.modes.start == "local"

    def version_for(self, name: str, key: str) -> Deployed | None:
        """What a session gets, or a call by a key of its own."""
        if name in self._canaries:
            canary, share = self._canaries[name]
            if in_canary(key, share):
                return canary
        return self.functions.get(name)

    def submit(self, call: Call, now: float) -> str | None:
        """Queue a call for its function's pool; the reason when that is impossible."""
        function = self.functions.get(call.function)
        if call.function in self._canaries:
            function = self.version_for(call.function, call.session or str(call.serial))
        if function is None:
            return f"{call.function} is not deployed here"
        if not function.pool.submit(call):
            return "the function's queue is full"
        if call.chain and self._waits_for_itself(function):
            function.pool.withdraw(call)
            return WAITS_FOR_ITSELF
        self._hungry.add(function)
        return None

    def _waits_for_itself(self, function: Deployed) -> bool:
        """Whether every container of a pool that cannot grow waits, for calls in this very pool's queue only."""
        pool = function.pool
        if pool.may_grow and self._has_room(function):
            return False
        queued = pool.queued()
        for worker in pool.containers():
            assert isinstance(worker, Worker)
            asked = [call for calls in worker.children.values() for call in calls if not call.answered]
            if not asked or not all(call in queued for call in asked):
                return False
        return True

    def feed_hungry(self) -> None:
        """Feed every pool that got calls in this wakeup: once, not once a call."""
        while self._hungry:
            self.feed(self._hungry.pop(), trio.current_time())
        if self._starved:
            starved, self._starved = self._starved, set()
            for function in starved:
                self.feed(function, trio.current_time())

    def feed(self, function: Deployed, now: float) -> None:
        """Hand over what can run, start what is missing."""
        for worker, call in function.pool.assign(now):
            assert isinstance(worker, Worker)
            worker.invoke(call, self._meta(call), now)
            self._touch(worker.link)
        for _ in range(function.pool.wanted(now)):
            if not self._start_for_pool(function):
                self._starved.add(function)
                break

    def _meta(self, call: Call) -> m.Map:
        meta: m.Map = {}
        if call.mode is not None:
            meta["mode"] = call.mode
        if call.attempt:
            meta["attempt"] = call.attempt
        if call.traceparent is not None:
            meta["traceparent"] = call.traceparent
        return meta

    def run_own(self, worker: Worker, call: Call, now: float) -> None:
        """Let a session's own container run the call."""
        call.state, call.deltas = None, ()
        worker.invoke(call, self._meta(call), now)
        self._touch(worker.link)

    def _start_for_pool(self, function: Deployed) -> bool:
        if not self._make_room(function) or self._nursery is None:
            return False
        function.pool.starting += 1
        self._starting += 1
        self._nursery.start_soon(self._pool_container, function)
        return True

    def _make_room(self, asking: Deployed) -> bool:
        """Whether a slot is free, after ending an idle pool container of another function if need be."""
        if self.used < self._slots:
            return True
        idle = self._idle_elsewhere(asking)
        if idle is not None:
            self.end(idle)
        return idle is not None

    def _has_room(self, asking: Deployed) -> bool:
        """Whether `_make_room` would find any."""
        return self.used < self._slots or self._idle_elsewhere(asking) is not None

    def _idle_elsewhere(self, asking: Deployed) -> Worker | None:
        now = trio.current_time()
        for function in self.versions():
            for worker in function.pool.idle(now, 0.0) if function is not asking else ():
                assert isinstance(worker, Worker)
                return worker
        return None

    async def _pool_container(self, function: Deployed) -> None:
        try:
            worker = await self._start(function)
        except StartFailed as failed:
            self._start_failed(function, str(failed))
            return
        finally:
            function.pool.starting -= 1
            self._starting -= 1
        self._join_pool(worker)

    def _join_pool(self, worker: Worker) -> None:
        worker.function.broken = ""
        worker.function.pool.add(worker, trio.current_time())
        self.feed(worker.function, trio.current_time())
        self._settle()

    def _start_failed(self, function: Deployed, reason: str) -> None:
        function.broken = reason
        log.error("%s: no container: %s", function.spec.manifest.name, reason)
        if not function.pool.containers() and function.pool.starting <= 1:
            for call in function.pool.drain_queue():
                self._lost(call, 104, f"no container could be started: {reason[-400:]}")
            self._settle()

    def start_own(self, key: SessionKey, done: Callable[[Worker | None, str], None]) -> None:
        """A container for one session; `done` gets it, or None and why."""
        function = self.version_for(*key)
        if function is None or self._nursery is None:
            done(None, f"{key.function} is not deployed here")
        elif self.resting:
            done(None, "the node is drained")
        elif not self._make_room_for_session():
            done(None, f"all {self._slots} container slots are taken")
        else:
            self._starting += 1
            self._nursery.start_soon(self._own_container, function, done)

    def has_room_for_session(self) -> bool:
        """Whether a session could have a container of its own now."""
        now = trio.current_time()
        return self.used < self._slots or any(version.pool.idle(now, 0.0) for version in self.versions())

    def _make_room_for_session(self) -> bool:
        if self.used < self._slots:
            return True
        now = trio.current_time()
        for function in self.versions():
            for worker in function.pool.idle(now, 0.0):
                assert isinstance(worker, Worker)
                self.end(worker)
                return True
        return False

    async def _own_container(
        self, function: Deployed, done: Callable[[Worker | None, str], None]
    ) -> None:
        try:
            worker = await self._start(function)
        except StartFailed as failed:
            done(None, str(failed))
            return
        finally:
            self._starting -= 1
        done(worker, "")

    async def _start(self, function: Deployed) -> Worker:
        assert self._nursery is not None
        name = f"{function.spec.manifest.name}-{next(self._serials)}"
        container = await self._host.start(function.spec, name)
        connection = Connection.acceptor(lambda _: m.Welcome(self._welcome))
        worker = Worker(function, container, Link(container.sock, connection, self._received, self._hub))
        worker.link.name = name
        worker.link.role = "worker"
        worker.link.info["worker"] = worker
        self._alive.add(worker)
        function.workers.add(worker)
        self._nursery.start_soon(self._serve, worker)
        with trio.move_on_after(10):
            await worker.ready.wait()
        if not worker.ready.is_set():
            self.end(worker)
            raise StartFailed("the container did not say HELLO in 10 s")
        if worker.link.closed:
            raise StartFailed(f"the container ended while it started (see edgectl logs {name.rpartition('-')[0]})")
        return worker

    async def _serve(self, worker: Worker) -> None:
        try:
            await worker.link.run()
        finally:
            worker.container.kill()
            worker.ready.set()
            self._ended(worker)

    def _received(self, link: Link, messages: list[m.Message]) -> None:
        worker: Worker = link.info["worker"]
        now = trio.current_time()
        for message in messages:
            if isinstance(message, RESULT_OR_ERROR):
                self._one_answer(worker, message, now)
            elif isinstance(message, m.Hello):
                worker.deltas = message.info.get("deltas") is True
                worker.beside = message.info.get("beside") is True
                worker.function.shared.update(shared_methods(message.info))
                worker.ready.set()
            elif isinstance(message, m.Reply) and message.id in worker.verbs:
                worker.verbs.pop(message.id)(message)
            elif isinstance(message, m.Invoke):
                self.nested.asked(worker, message, now)
        if worker.seat is None:
            self._hungry.add(worker.function)

    def _one_answer(self, worker: Worker, message: m.Result | m.Error, now: float) -> None:
        call = worker.calls.pop(message.id, None)
        if call is None:
            verb = worker.verbs.pop(message.id, None)
            if verb is not None and isinstance(message, m.Error):
                verb(message)
            return
        if worker.children:
            self.nested.parent_ended(worker, call)
        if worker.seat is None:
            run = message.meta.get("run_us") if message.meta else None
            seconds = run / 1e6 if type(run) is int else now - call.started
            worker.function.pool.finished(worker, call, seconds, now)
        self._answered(call, message, now)

    def _ended(self, worker: Worker) -> None:
        self._alive.discard(worker)
        worker.function.workers.discard(worker)
        self.nested.container_ended(worker)
        seat, worker.seat = worker.seat, None
        if seat is not None:
            self._seat_lost(seat)
        else:
            running = worker.function.pool.remove(worker)
            if running is not None:
                self._lost(running, 402, "the container that ran the call died")
            self.feed(worker.function, trio.current_time())
        self._settle()

    def end(self, worker: Worker) -> None:
        """End a container that nobody uses."""
        worker.seat = None
        worker.function.pool.remove(worker)
        worker.container.kill()
        worker.link.cut("no longer needed")

    def overran(self, call: Call) -> None:
        """The call passed its hard limit: its container is killed, which ends the call."""
        worker = call.container
        if isinstance(worker, Worker) and call.serial in worker.calls:
            log.warning("%s: call %s passed its hard limit", worker.name, call.serial)
            worker.container.kill()
            worker.link.cut("hard limit")

    def steal(self, call: Call, now: float) -> None:
        """The call takes long, or waits itself: give what is held behind it to other containers."""
        worker = call.container
        if not isinstance(worker, Worker) or worker.seat is not None:
            self._let_readers_by(worker, now)
            return
        taken = worker.function.pool.overdue(worker)
        for waiting in taken:
            worker.calls.pop(waiting.serial, None)
            waiting.container = None
            worker.link.send(encode(m.Cancel(waiting.serial)))
        if taken:
            self._touch(worker.link)
        if worker.function.pool.waiting:
            self.feed(worker.function, now)

    def _let_readers_by(self, worker: Worker | None, now: float) -> None:
        """A session's own container: it runs the readers that wait behind a long call beside it, when it is told."""
        if worker is None or not worker.beside or now - worker.told < TELL_AGAIN:
            return
        shared = worker.function.shared
        if any(call.method in shared and not call.started for call in worker.calls.values()):
            worker.told = now
            worker.container.wake()

    def look_after(self, now: float) -> None:
        """Once a second: end pool containers idle for longer than their function wants, count arrivals."""
        for function in self.versions():
            function.pool.sample(now)
            for worker in function.pool.idle(now, function.spec.manifest.pool.idle):
                assert isinstance(worker, Worker)
                self.end(worker)

    async def deploy(self, spec: Spec, canary: Spec | None = None, share: int = 0) -> None:
        """Serve `spec` from now on, and `canary` to `share` per cent. Raises StartFailed when one of them
        cannot be imported: then nothing has changed."""
        for fresh in filter(None, (spec, canary)):
            if self._slots:
                await self._host.warm(fresh)
        name = spec.manifest.name
        old = self._taken_out(name)
        self.functions[name] = _kept(old, spec)
        if canary is not None:
            self._canaries[name] = _kept(old, canary), share
        await self._retire_all(old)
        self.feed(self.functions[name], trio.current_time())

    async def remove(self, name: str) -> None:
        """Serve `name` no longer; calls that wait are answered."""
        await self._retire_all(self._taken_out(name))

    def _taken_out(self, name: str) -> dict[str, Deployed]:
        """The versions of `name` by hash; none is served any more."""
        stable = self.functions.pop(name, None)
        canary, _ = self._canaries.pop(name, (None, 0))
        return {version.spec.hash: version for version in (canary, stable) if version is not None}

    async def _retire_all(self, old: dict[str, Deployed]) -> None:
        for version in old.values():
            await self._retire(version)

    async def _retire(self, old: Deployed) -> None:
        for call in old.pool.drain_queue():
            reason = self.submit(call, trio.current_time())
            if reason is not None:
                self._lost(call, 204, reason)
        for worker in list(old.workers):
            if worker.seat is None and not worker.calls:
                self.end(worker)
        await self._host.retire(old.spec.hash)
