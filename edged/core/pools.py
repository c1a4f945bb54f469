"""The pool of one function on one node: one queue that feeds whichever container is free (DESIGN §6).

Decides which container runs a call and how many containers there should be. Refuses to know processes,
sockets and sessions; containers are opaque keys. Late binding is what keeps the paper's minimum
(reference/model.md): a queue per container loses it.

Functions that take microseconds would spend all their time in context switches with one call under way
per container, so a container may hold as many calls as make up PREFETCH seconds of predicted work. Held
calls can be taken back when the one in front overruns: `overdue`.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from math import ceil
from typing import Any, Generic, TypeVar

from .calls import Call

SHORTEST = 1e-6
"""Seconds a call takes at least, whatever a clock says."""

PREFETCH = 0.001
"""Seconds of predicted work a container may hold: far below what late binding can gain or lose."""

MAX_HELD = 64
"""Calls a container may hold, however short they are. With few of them every handful costs two switches between
processes: at 16 both spent half their time waiting for each other."""

WORTH_WAKING = 0.0002
"""Seconds of predicted work that one container gets before another one is woken: a few switches between processes."""

GROW_DELAY = 0.01
"""Seconds of queueing that are worth a container: about what its start takes on a small machine."""

SMOOTHING = 0.01
"""Weight of one call in the mean service time: about the last hundred count. With twenty the means of equal nodes
differ by a quarter where times are exponential, and brokers send calls to the one that seems fast until it is not."""

MANY = int(1 / SMOOTHING)
"""Calls from which on a mean is smoothed; before, all count alike."""

RATE_SECONDS = 10.0
"""Time over which arrivals are averaged."""

C = TypeVar("C", bound=Hashable)
"""A container."""


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """A snapshot of one pool; `service` is the smoothed time of one call in seconds."""

    containers: int
    busy: int
    starting: int
    queued: int
    service: float


class Pool(Generic[C]):
    """Queue and containers of one function; `assign` after every change."""

    def __init__(self, minimum: int, maximum: int, queue: int) -> None:
        self._minimum = minimum
        self._maximum = maximum
        self._limit = queue
        self._queue: deque[Call] = deque()
        self._held: dict[C, deque[Call]] = {}
        self._idle_since: dict[C, float] = {}
        self._overrun: set[C] = set()
        self.starting = 0
        self._service = 1.0
        self._mean = 0.0
        self._ran = 0
        self._arrived = 0
        self._rate = 0.0
        self._sampled = 0.0

    def statistics(self) -> PoolStatistics:
        """What the operator sees."""
        busy = sum(1 for held in self._held.values() if held)
        return PoolStatistics(len(self._held), busy, self.starting, len(self._queue), self._service)

    def submit(self, call: Call) -> bool:
        """Queue `call`; False when the queue is full."""
        if len(self._queue) >= self._limit:
            self._let_go()
            if len(self._queue) >= self._limit:
                return False
        self._queue.append(call)
        self._arrived += 1
        return True

    def withdraw(self, call: Call) -> None:
        """Take back a call that was just submitted."""
        assert self._queue[-1] is call
        self._queue.pop()

    def take_out(self, unfit: Callable[[Call], bool]) -> list[Call]:
        """Those that wait and can never run here; they do not wait any more."""
        taken = [call for call in self._queue if unfit(call)]
        if taken:
            self._queue = deque(call for call in self._queue if call not in taken)
        return taken

    def queued(self) -> list[Call]:
        """The calls that wait for a container."""
        return list(self._queue)

    @property
    def waiting(self) -> bool:
        """Whether any call waits for a container."""
        return bool(self._queue)

    @property
    def may_grow(self) -> bool:
        """Whether a container starts, or may be started."""
        return self.starting > 0 or len(self._held) < self._maximum

    def _let_go(self) -> None:
        """Calls that nobody waits for any more take no room."""
        self._queue = deque(call for call in self._queue if not call.answered)

    def at_once(self, spare: int) -> bool:
        """Whether one more call would not have to wait; `spare`: slots in which containers could start."""
        have = len(self._held) + self.starting
        free = len(self._idle_since) + self.starting + max(0, min(spare, self._maximum - have))
        queued = len(self._queue)
        return queued < free or 0.0 < queued * self._mean < PREFETCH * (len(self._held) - len(self._overrun))

    def sample(self, now: float) -> None:
        """Once a second or so: how many calls arrive."""
        seconds, self._sampled = now - self._sampled, now
        if seconds > 0:
            fresh = self._arrived / seconds
            self._rate += (fresh - self._rate) * min(1.0, seconds / RATE_SECONDS)
        self._arrived = 0

    def figures(self, spare: int) -> tuple[int, int, int, int, int]:
        """For other nodes: containers that run or could at once, those busy, calls queued, mean microseconds of a
        call, calls that arrive in 1,000 s."""
        have = len(self._held) + self.starting
        room = have + max(0, min(spare, self._maximum - have))
        busy = len(self._held) - len(self._idle_since)
        return room, busy, len(self._queue), int(self._mean * 1e6), int(self._rate * 1000)

    def assign(self, now: float) -> list[tuple[C, Call]]:
        """The calls to hand over now, each with its container. Calls already answered are dropped."""
        result: list[tuple[C, Call]] = []
        queue, room = self._queue, 0
        container: Any = None
        depth = max(1, min(MAX_HELD, int(PREFETCH / self._service)))
        enough = max(1, min(MAX_HELD, int(WORTH_WAKING / self._service)))
        while queue:
            call = queue[0]
            if call.answered:
                queue.popleft()
                continue
            if room <= 0:
                container = self._next_container(enough, depth)
                if container is None:
                    break
                held = self._held[container]
                room = enough - len(held)  # it is asked for again only when it has enough
                call.started = 0.0 if held else now
                self._idle_since.pop(container, None)
            else:
                call.started = 0.0
            held.append(queue.popleft())
            room -= 1
            result.append((container, call))
        return result

    def _next_container(self, enough: int, depth: int) -> C | None:
        """The first that does not have enough; of those that have, the one with the fewest."""
        best, fewest = None, depth
        for container, held in self._held.items():
            have = len(held)
            if have < fewest and container not in self._overrun:
                if have < enough:
                    return container
                best, fewest = container, have
        return best

    def finished(self, container: C, done: Iterable[tuple[Call, float | None]], now: float) -> None:
        """`container` has answered these calls, in this order; each took it so many seconds, if it has said so."""
        held = self._held.get(container)
        if not held:
            return
        mean, service = self._mean, self._service
        for call, said in done:
            if held and held[0] is call:  # as good as always: a container answers in order
                held.popleft()
            elif call in held:
                held.remove(call)
            else:
                continue
            if not call.started:
                call.started = now
            seconds = now - call.started if said is None else said
            self._ran += 1
            mean += (SMOOTHING if self._ran > MANY else 1 / self._ran) * (seconds - mean)
            # Up at once, down in some ten calls: a function that turns slow must not keep a deep prefetch, and one call
            # that was pushed off its processor must not end it for long.
            slowly = 0.7 * service + 0.3 * seconds
            service = seconds if seconds > slowly else slowly  # noqa: FURB136 - for every call; `max` takes thrice as long
        self._mean, self._service = mean, max(SHORTEST, service)
        self._overrun.discard(container)
        if not held:
            self._idle_since[container] = now
        elif not held[0].started:
            held[0].started = now

    def overdue(self, container: C) -> list[Call]:
        """Take back what waits behind the running call of `container`; it goes to the queue's head.

        Until that call ends the container is given nothing more.
        """
        held = self._held.get(container)
        if not held:
            return []
        self._overrun.add(container)
        if len(held) < 2:
            return []
        taken = list(held)[1:]
        del self._held[container]
        self._held[container] = deque([held[0]])
        self._queue.extendleft(reversed(taken))
        return taken

    def add(self, container: C, now: float) -> None:
        """A container is ready."""
        self._held[container] = deque()
        self._idle_since[container] = now

    def remove(self, container: C) -> Call | None:
        """A container is gone; the call it ran, the rest goes back to the queue's head."""
        held = self._held.pop(container, None)
        self._idle_since.pop(container, None)
        self._overrun.discard(container)
        if not held:
            return None
        running = held.popleft()
        self._queue.extendleft(reversed(held))
        return running

    def wanted(self, now: float) -> int:
        """Containers to start now: as many as let nobody wait for longer than a start takes."""
        have = len(self._held) + self.starting
        target = min(self._maximum, max(self._minimum, len(self._held) + self._short(now)))
        return max(0, target - have)

    def _short(self, now: float) -> int:
        queued = len(self._queue)
        if not queued:
            return 0
        if len(self._overrun) == len(self._held):
            return queued
        if not self._mean or now - self._queue[0].arrived > GROW_DELAY:
            return queued
        predicted = queued * self._mean / max(1, len(self._held))
        if self._held and predicted <= GROW_DELAY:
            return 0
        return min(queued, ceil(queued * self._mean / GROW_DELAY))

    def idle(self, now: float, seconds: float) -> list[C]:
        """Containers idle for `seconds`, oldest first, beyond the minimum."""
        spare = max(0, len(self._held) - self._minimum)
        old = [c for c, since in self._idle_since.items() if now - since >= seconds]
        return old[:spare]

    def idlest(self) -> C | None:
        """The one idle for longest, though the minimum wants it."""
        return next(iter(self._idle_since), None)

    def containers(self) -> list[C]:
        """All of them."""
        return list(self._held)

    def drain_queue(self) -> list[Call]:
        """Empty the queue; the calls that were in it."""
        calls = list(self._queue)
        self._queue.clear()
        return calls
