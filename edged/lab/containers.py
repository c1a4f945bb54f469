"""The containers of one node in virtual time: slots, the real `Pool` of each function, the sessions' own.

Stands for `edged.daemon.workers` and the processes behind it: a start takes a while, a call takes as long as was drawn
for it, and a session that wants a container of its own gets an idle one's slot. Refuses to know sessions.
"""

from collections import deque
from collections.abc import Callable
from hashlib import blake2b
from struct import unpack
from typing import Any

from edged.core.calls import Call
from edged.core.effects import Control, Said
from edged.core.pools import Pool

from .clock import Clock
from .scenario import Function

SAME = bytes(16)
"""The digest of deltas: here they always arrive."""


def work_of(call: Call) -> float:
    """What was drawn for a call: its share of the mean time, which travels as its body."""
    return float(unpack("d", call.body)[0])


class Container:
    """One process: of a pool, or with `seat` a session's own, which does one thing after another."""

    __slots__ = ("alive", "calls", "function", "jobs", "seat", "staged", "state")

    def __init__(self, function: str, seat: Any) -> None:
        self.function = function
        self.seat = seat
        self.alive = True
        self.state: bytes | None = None
        self.calls = 0
        """Ran since the container was born."""
        self.staged = blake2b(digest_size=16)
        self.jobs: deque[Call | Callable[[], None]] = deque()


class Containers:
    """`ran` is told of each call that ended, `lost` of each that nobody will run."""

    def __init__(
        self,
        clock: Clock,
        slots: int,
        functions: dict[str, Function],
        ran: Callable[[Call, Container, float], None],
        lost: Callable[[Call, int, str], None],
    ) -> None:
        self._clock = clock
        self.slots = slots
        self._functions = functions
        self._states = {name: bytes(spec.state) for name, spec in functions.items()}
        self._ran = ran
        self._lost = lost
        self.pools: dict[str, Pool[Container]] = {
            name: Pool(0, min(spec.pool_max, slots), spec.queue) for name, spec in functions.items()
        }
        self.used = 0
        self.own = dict.fromkeys(functions, 0)
        """Containers that sessions have for their own, by function."""
        self.worked = {"remote": 0.0, "local": 0.0}
        """Seconds in which containers ran calls, by mode."""
        self._alive: set[Container] = set()
        self._starved: set[str] = set()
        """Want a container and found no slot."""

    def figures(self, function: str) -> tuple[int, int, int, int, int]:
        """For other nodes (`core.balancing.Load`)."""
        return self.pools[function].figures(self.slots - self.used)

    def at_once(self, function: str) -> bool:
        """Whether a call would not wait here."""
        return self.pools[function].at_once(self.slots - self.used)

    # The pools

    def submit(self, call: Call) -> bool:
        """Queue a call for its function's pool; False when the queue is full."""
        if not self.pools[call.function].submit(call):
            return False
        self.feed(call.function)
        return True

    def feed(self, function: str) -> None:
        """Hand over what can run, start what is missing."""
        pool, now = self.pools[function], self._clock.now
        for container, call in pool.assign(now):
            assert isinstance(container, Container)
            call.container = container
            self._run(container, call, self._functions[function].remote)
        for _ in range(pool.wanted(now)):
            if not self._room(function):
                self._starved.add(function)
                break
            pool.starting += 1
            self.used += 1
            self._clock.after(self._functions[function].start, self._started, function)

    def _feed_starved(self) -> None:
        """Something has ended: a slot may be free, or an idle container's."""
        starved, self._starved = sorted(self._starved), set()
        for function in starved:
            self.feed(function)

    def _started(self, function: str) -> None:
        pool = self.pools[function]
        pool.starting -= 1
        pool.add(self._born(function, None), self._clock.now)
        self.feed(function)

    def _born(self, function: str, seat: Any) -> Container:
        container = Container(function, seat)
        self._alive.add(container)
        return container

    def _dead(self, container: Container) -> None:
        container.alive = False
        self._alive.discard(container)
        self.used -= 1

    def _room(self, asking: str | None) -> bool:
        """Whether a slot is free, after ending an idle pool container if need be: of another function for a pool,
        of any for a session."""
        if self.used < self.slots:
            return True
        for name, pool in self.pools.items():
            if name == asking:
                continue
            for idle in pool.idle(self._clock.now, 0.0):
                assert isinstance(idle, Container)
                self._end_pooled(pool, idle)
                return True
        return False

    def _end_pooled(self, pool: Pool[Container], container: Container) -> None:
        self._dead(container)
        pool.remove(container)

    def look_after(self) -> None:
        """Once a second: end what was idle for long, count arrivals."""
        now = self._clock.now
        for name, pool in self.pools.items():
            pool.sample(now)
            for idle in pool.idle(now, self._functions[name].idle):
                assert isinstance(idle, Container)
                self._end_pooled(pool, idle)

    # The sessions' own

    def start_own(self, function: str, seat: Any, done: Callable[[Container | None, str], None]) -> None:
        """A container for one session; `done` gets it, or None and why."""
        if not self._room(None):
            done(None, f"all {self.slots} container slots are taken")
            return
        self.used += 1
        self.own[function] += 1
        self._clock.after(self._functions[function].start, done, self._born(function, seat), "")

    def run_own(self, container: Container, call: Call) -> None:
        """Let a session's container run the call when its turn comes."""
        call.container = container
        self._queue(container, call)

    def control(self, container: Container, effect: Control, told: Callable[[Said], None]) -> None:
        """A worker verb, when its turn comes."""

        def act() -> None:
            told(self._verb(container, effect.verb, effect.params or {}, effect.blob or b""))

        self._queue(container, act)

    def _verb(self, container: Container, verb: str, params: dict[str, Any], blob: bytes) -> Said:
        """A state is of one size always, and each call changes so much of it: a place in its history is that size and
        all changes since it was loaded."""
        function = self._functions[container.function]
        head = function.state + container.calls * function.change
        if verb == "worker.load":
            container.state = self._states[container.function]
            return Said(0, "", {"serial": head}, None)
        if verb == "worker.restore":
            container.staged.update(blob)
            return Said(0, "", {"digest": SAME if function.change else container.staged.digest()}, None)
        if verb == "worker.snapshot":
            return Said(0, "", {"serial": head}, container.state)
        at = params["since"] or 0
        end = min(head, at + params["limit"])
        places = {"serial": end, "left": head - end, "head": head, "digest": SAME}
        return Said(0, "", places, bytes(end - at) or None)

    def _queue(self, container: Container, job: Call | Callable[[], None]) -> None:
        container.jobs.append(job)
        if len(container.jobs) == 1:
            self._next(container)

    def _next(self, container: Container) -> None:
        job = container.jobs[0]
        if isinstance(job, Call):
            self._run(container, job, self._functions[container.function].local)
        else:
            self._clock.after(0.0, self._acted, container, job)

    def _acted(self, container: Container, act: Callable[[], None]) -> None:
        if container.alive:
            self._turn(container)
            act()

    def _turn(self, container: Container) -> None:
        container.jobs.popleft()
        if container.jobs:
            self._next(container)

    def end(self, container: Container) -> None:
        """A session's container is no longer needed; its slot may be what a pool waits for."""
        if not container.alive:
            return
        self._dead(container)
        self.own[container.function] -= 1
        self._starved.add(container.function)
        self._feed_starved()

    # Both

    def _run(self, container: Container, call: Call, mean: float) -> None:
        seconds = work_of(call) * mean
        self._clock.after(seconds, self._finished, container, call, seconds)

    def _finished(self, container: Container, call: Call, seconds: float) -> None:
        if not container.alive:
            return
        if container.seat is None:
            self.worked["remote"] += seconds
            self.pools[container.function].finished(container, [(call, seconds)], self._clock.now)
            self._ran(call, container, seconds)
            self.feed(container.function)
            self._feed_starved()
        else:
            self.worked["local"] += seconds
            container.calls += 1
            self._turn(container)
            self._ran(call, container, seconds)

    def stop(self) -> None:
        """The node is gone, and all that ran on it."""
        for container in self._alive:
            container.alive = False
