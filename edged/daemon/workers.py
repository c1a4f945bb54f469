"""The containers of one node: which exist, what each does, and the frames to and from them (DESIGN §2, §8).

Pools decide (`core.pools`), `lifetimes` makes containers, this module joins the two. A container that dies
is told to whoever used it: the pool, or the session it belonged to.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Any

import trio

from edged.core.calls import Call
from edged.core.records import SessionKey
from edged_protocol import messages as m
from edged_protocol.errors import Code
from edged_protocol.plain import opened

from .deployed import Deployed, Done, Worker
from .farewell import Farewell
from .heeded import breach, heeded
from .host import Host, Spec, StartFailed
from .hub import Hub
from .lifetimes import Lifetimes
from .link import Link
from .long_calls import LongCalls
from .own import Own, Placed
from .served import Served
from .slots import Slots

if TYPE_CHECKING:
    from .nested import Nested

log = logging.getLogger(__name__)

WAITS_FOR_ITSELF = "all containers of the function wait for calls that wait for a container of it"
"""Why a call that was made by one of them is refused: no time would help."""


Imported = dict[str, bool | None]
"""By hash, whether a version upgrades older states, if its import has told."""


class Workers:
    """Starts, feeds and ends the containers of all functions of a node."""

    def __init__(
        self,
        host: Host,
        slots: int,
        memory: int,
        welcome: m.Map,
        serials: Iterator[int],
        touch: Callable[[Link], None],
        answered: Callable[[list[Done], float], None],
        lost: Callable[[Call, int, str], None],
        seat_lost: Callable[[Any], None],
        settle: Callable[[], None],
        hub: Hub,
    ) -> None:
        self._host = host
        self.served = Served()
        self.slots = Slots(slots, memory, self.served.versions, self.end)
        self._lifetimes = Lifetimes(host, self.slots, welcome, serials, self._received, self._ended, hub)
        self.long_calls = LongCalls(touch, self.feed)
        self.own = Own(self.served, self.slots, self._lifetimes.start, self.end, self.long_calls.overran, answered, touch, serials)
        self._touch = touch
        self._answered = answered
        self._lost = lost
        self._seat_lost = seat_lost
        self._settle = settle
        self._nursery: trio.Nursery | None = None
        self._hungry: set[Deployed] = set()
        self._starved: dict[Deployed, None] = {}
        """Want a container and found no slot, who has waited longest first: fed again whenever something has happened."""
        self.nested: Nested
        self.slot_wanted: Callable[[], None] = lambda: None
        self.farewell = Farewell(serials)
        self._stopped = False
        self.resting = False
        """The node is drained: what is here runs to its end, nothing new is offered."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Own the tasks of all containers; cancelled, it ends them."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = self.own.nursery = nursery
                task_status.started()
                await trio.sleep_forever()
        finally:
            for worker in self.slots.alive:
                worker.container.kill()

    async def stop(self) -> None:
        """Start no container any more, end all, and wait until they have."""
        self._stopped = True
        for worker in list(self.slots.alive):
            self.end(worker)
        await self.farewell.all_gone()

    @property
    def offered(self) -> list[str]:
        """The functions that calls may come here for."""
        return [] if self.resting else sorted(self.served.functions)

    def hashes(self) -> set[str]:
        """The versions that are served here or whose containers run."""
        running = {worker.function.spec.hash for worker in self.slots.alive}
        return running | {version.spec.hash for version in self.served.versions()}

    def at_once(self, name: str) -> bool:
        """Whether a call of `name` would not wait here."""
        function = self.served.functions.get(name)
        return function is not None and function.pool.at_once(self.slots.spare(function))

    def figures(self, name: str) -> tuple[int, int, int, int, int] | None:
        """For other nodes, of a function offered here (`core.balancing.Load`)."""
        function = self.served.functions.get(name)
        if function is None or self.resting:
            return None
        return function.pool.figures(self.slots.spare(function))

    def submit(self, call: Call) -> str | None:
        """Queue a call for its function's pool; the reason when that is impossible."""
        served = self.served
        function = served.functions.get(call.function)
        if served.canaries:
            function = served.version_for(call.function, call.session or str(call.serial))
        if function is None:
            return f"{call.function} is not deployed here"
        if not function.pool.submit(call):
            return "the function's queue is full"
        if call.chain and self.nested.waits_for_itself(function):
            function.pool.withdraw(call)
            return WAITS_FOR_ITSELF
        self._hungry.add(function)
        return None

    def unfit(self, call: Call) -> str:
        """Why the version that would run a call does not take the state that goes with it; "" when it does."""
        function = self.served.version_for(call.function, call.session or "") if call.form else None
        return "" if function is None else function.takes.refusal(call.form)

    def feed_hungry(self) -> None:
        """Feed every pool that got calls in this wakeup: once, not once a call."""
        while self._hungry:
            self.feed(self._hungry.pop(), trio.current_time())
        if self._starved:  # what ended or is idle now has made room, most of all for who has none
            starved, self._starved = sorted(self._starved, key=lambda one: len(one.pool.containers())), {}
            for function in starved:
                self.feed(function, trio.current_time())

    def feed(self, function: Deployed, now: float) -> None:
        """Hand over what can run, start what is missing."""
        fed: set[Link] = set()
        for worker, call in function.pool.assign(now):
            worker.invoke(call, now)
            fed.add(worker.link)
        for link in fed:
            self._touch(link)
        for _ in range(function.pool.wanted(now)):
            if not self._start_for_pool(function):
                self._starved[function] = None
                if self._is_shut_out(function):
                    self.slot_wanted()
                break

    def shut_out(self) -> list[Deployed]:
        """Versions whose calls no container will run unless a session leaves: sessions have all slots, or too much memory."""
        return [version for version in self.served.versions() if self._is_shut_out(version)]

    def _is_shut_out(self, function: Deployed) -> bool:
        pool, slots = function.pool, self.slots
        if not pool.waiting or pool.starting or pool.containers() or slots.starting or slots.spare(function) > 0:
            return False
        return not slots.fits_beside_sessions(function)

    def refuse(self, function: Deployed, reason: str) -> None:
        """Its calls that wait are answered 104."""
        for call in function.pool.drain_queue():
            self._lost(call, 104, reason)
        self._settle()

    def _start_for_pool(self, function: Deployed) -> bool:
        if self._comes_after_others(function):
            return False
        # Nobody has to end for a container that only [pool] min asks for.
        room = self.slots.make_room(function) if function.pool.waiting else self.slots.spare(function) > 0
        if not room or self._stopped or self._nursery is None:
            return False
        function.pool.starting += 1
        self.slots.begin(function)
        self._nursery.start_soon(self._pool_container, function, self._nursery)
        return True

    def _comes_after_others(self, function: Deployed) -> bool:
        """What becomes free is kept for those that have no container at all: one may need the memory of several."""
        return bool(function.pool.containers()) and any(one.pool.waiting and not one.pool.containers() for one in self._starved)

    async def _pool_container(self, function: Deployed, nursery: trio.Nursery) -> None:
        try:
            worker = await self._lifetimes.start(function, nursery)
        except StartFailed as failed:
            self._start_failed(function, str(failed))
            return
        finally:
            function.pool.starting -= 1
        self._join_pool(worker)

    def _join_pool(self, worker: Worker) -> None:
        worker.function.broken = ""
        worker.since = trio.current_time()
        worker.function.pool.add(worker, worker.since)
        self.feed(worker.function, trio.current_time())
        self._settle()

    def _start_failed(self, function: Deployed, reason: str) -> None:
        function.broken = reason
        log.error("%s: no container: %s", function.spec.manifest.name, reason)
        if not function.pool.containers() and function.pool.starting <= 1:
            self.refuse(function, f"no container could be started: {reason[-400:]}")

    def start_own(self, key: SessionKey, done: Placed) -> None:
        """A container for one session, its own or shared; `done` gets it, or None and why."""
        function = self.served.version_for(*key)
        if function is None or self._nursery is None:
            done(None, f"{key.function} is not deployed here")
        elif self.resting:
            done(None, "the node is drained")
        else:
            self.own.place(function, done)

    def _received(self, link: Link, messages: list[m.Message]) -> None:
        worker: Worker = link.info["worker"]
        if worker in self.farewell.leaving:
            return
        now = trio.current_time()
        for kind, run in groupby(messages, type):  # all that is said counts in the order in which it is said
            if link.closed:
                break
            if kind is m.Plain:
                self._finished(worker, _plainly(worker, run), now)
            elif kind is m.Result or kind is m.Error:
                self._not_plain(worker, run, now)
            else:
                for message in run:
                    self._received_rare(worker, message, now)
        if worker.seats is None:
            if worker.function.pool.waiting:
                self._hungry.add(worker.function)
            if self._starved and self.slots.gives_way(worker, self._starved, now):
                self.long_calls.take_back(worker)
                if not worker.calls:
                    self._starved.pop(worker.function, None)  # it has had its turn
                    self.end(worker)

    def _not_plain(self, worker: Worker, answers: Iterator[Any], now: float) -> None:
        done: list[Done] = []
        for answer in answers:
            one = self._taken(worker, answer)
            if one is not None:
                done.append(one)
            elif answer.id in worker.verbs and not worker.link.closed:
                self._finished(worker, done, now)
                done = []
                self._received_rare(worker, answer, now)
        self._finished(worker, done, now)

    def _taken(self, worker: Worker, message: Any) -> Done | None:
        """The call that is answered, how, and the seconds it ran, if that is said; None: no call, or no answer."""
        id_, _, meta, _ = message
        run = meta.get("run_us") if type(meta) is dict else None  # of an ERROR it is the text
        if worker.link.closed:
            return None
        if wrong := breach(message):
            log.warning("%s: %s", worker.name, wrong)
            worker.container.kill()
            worker.link.cut(wrong)
            return None
        call = worker.calls.pop(id_, None)
        if call is None:
            return None
        seconds = run / 1e6 if type(run) is int and run >= 0 else None
        return call, heeded(message, call.mode), seconds

    def _received_rare(self, worker: Worker, message: m.Message, now: float) -> None:
        """Anything but the answer of a call."""
        if isinstance(message, m.Hello):
            self._greeted(worker, message.info)
        elif isinstance(message, m.Reply | m.Error) and message.id in worker.verbs:
            worker.verbs.pop(message.id)(message)
        elif isinstance(message, m.Invoke):
            self.nested.asked(worker, message, now)

    def _greeted(self, worker: Worker, info: m.Map) -> None:
        """Its HELLO: now it is known which states its function takes."""
        worker.deltas = info.get("deltas") is True
        worker.beside = info.get("beside") is True
        worker.several = info.get("several") is True
        function = worker.function
        function.heard(info)
        for call in function.pool.take_out(lambda call: bool(function.takes.refusal(call.form))):
            self._lost(call, Code.WRONG_SCHEMA, function.takes.refusal(call.form))
        worker.ready.set()

    def _finished(self, worker: Worker, done: list[Done], now: float) -> None:
        """These calls were answered."""
        if not done:
            return
        if worker.children:
            for call, _, _ in done:
                self.nested.parent_ended(worker, call)
        if worker.seats is None:
            worker.function.pool.finished(worker, [(call, seconds) for call, _, seconds in done], now)
        elif worker.turns is not None:
            self.own.finished(worker, done, now)
            return
        self._answered(done, now)

    def _ended(self, worker: Worker) -> None:
        self.farewell.ended(worker)
        self.slots.ended(worker)
        worker.function.workers.discard(worker)
        self.nested.container_ended(worker)
        seats, worker.seats = worker.seats, None
        worker.function.places.gone(worker.home)
        if seats is not None:
            for seat in seats:
                self._seat_lost(seat)
        else:
            running = worker.function.pool.remove(worker)
            if running is not None:
                self._lost(running, 402, "the container that ran the call died")
            self._starved.setdefault(worker.function)  # behind those that wait for its slot
        self._settle()

    def end(self, worker: Worker) -> None:
        """End a container that nobody uses; its slot is free when it has ended."""
        worker.seats = None
        worker.function.places.gone(worker.home)
        worker.function.pool.remove(worker)
        if worker in self.slots.alive - self.farewell.leaving and self._nursery is not None:
            self.farewell.begin(worker, self._nursery)

    def look_after(self, now: float) -> None:
        """Once a second: end pool containers idle for longer than their function wants, count arrivals."""
        self.own.look_after(now)
        for function in self.served.versions():
            function.pool.sample(now)
            for worker in function.pool.idle(now, function.spec.manifest.pool.idle):
                self.end(worker)

    async def warm(self, *specs: Spec) -> Imported:
        """Import versions that are to be served; what that has told. Raises StartFailed."""
        return {spec.hash: await self._host.warm(spec) for spec in specs if self.slots.total}

    def serve(self, spec: Spec, canary: Spec | None, share: int, imported: Imported) -> list[str]:
        """Serve `spec` from now on, and `canary` to `share` per cent; the hashes of what is left for `retire`."""
        gone = self.served.put(spec, canary, share)
        for version in self.served.versions():
            version.imported(imported.get(version.spec.hash))
        left = self._leave(gone)
        self.feed(self.served.functions[spec.manifest.name], trio.current_time())
        return left

    def remove(self, name: str) -> list[str]:
        """Serve `name` no longer; calls that wait are answered. The hashes for `retire`."""
        return self._leave(self.served.take_out(name))

    def _leave(self, gone: list[Deployed]) -> list[str]:
        for old in gone:
            for call in old.pool.drain_queue():
                unfit = self.unfit(call)
                reason = unfit or self.submit(call)
                if reason is not None:
                    self._lost(call, Code.WRONG_SCHEMA if unfit else 204, reason)
            for worker in list(old.workers):
                if worker.seats is None and not worker.calls:
                    self.end(worker)
        return [old.spec.hash for old in gone]

    async def retire(self, hashes: Iterable[str]) -> None:
        """Let go what was imported of these, but for those that are served."""
        for hash_ in hashes:
            if all(version.spec.hash != hash_ for version in self.served.versions()):
                await self._host.retire(hash_)


def _plainly(worker: Worker, answers: Iterator[Any]) -> list[Done]:
    """The calls that plain answers end. Of a session's call it is looked into like any other."""
    done: list[Done] = []
    for answer in answers:
        call = worker.calls.pop(answer[0], None)
        if call is not None:
            done.append((call, answer if call.session is None else opened(answer), answer[2] / 1e6))
    return done
