"""Brokers that balance calls, in virtual time: the real `Balancer` and `Pool` of every node over links with delay,
beside one central queue and blind dispatch on the same trace (model.md)."""

import heapq
import itertools
from collections.abc import Callable
from random import Random
from statistics import fmean
from typing import NamedTuple

from edged.core.balancing import Balancer, Load
from edged.core.calls import Call
from edged.core.pools import Pool


class Arrival(NamedTuple):
    """A call: when and where it enters, and the seconds it would run on a node of speed 1."""

    at: float
    entrance: int
    work: float


class Site(NamedTuple):
    """The machines: containers of each node and how many times slower than the first it is."""

    containers: int = 4
    slowness: tuple[float, ...] = (1.0, 1.0, 1.0, 4.0)
    delay: float = 0.0005
    gossip: float = 1.0

    @property
    def capacity(self) -> float:
        """Calls of one second that it can run in a second."""
        return sum(self.containers / slow for slow in self.slowness)


def poisson(site: Site, load: float, mean: float, count: int, chance: Random) -> list[Arrival]:
    """An open stream at `load` of the capacity, entering anywhere; exponential work of `mean` seconds."""
    rate, at, rows = load * site.capacity / mean, 0.0, []
    for _ in range(count):
        at += chance.expovariate(rate)
        rows.append(Arrival(at, chance.randrange(len(site.slowness)), chance.expovariate(1 / mean)))
    return rows


def central(site: Site, trace: list[Arrival]) -> list[float]:
    """Latencies of one queue for all containers, which knows what is free at once; the fastest is taken."""
    free = sorted(site.slowness * site.containers)
    ends: list[tuple[float, float]] = []
    latencies = []
    for call in trace:  # in arrival order: whoever comes first gets what is free first
        while ends and ends[0][0] <= call.at:
            heapq.heappush(free, heapq.heappop(ends)[1])
        if free:
            start, slow = call.at, heapq.heappop(free)
        else:
            start, slow = heapq.heappop(ends)
        heapq.heappush(ends, (start + call.work * slow, slow))
        latencies.append(start + call.work * slow - call.at)
    return latencies


class Broker:
    """One node: its pool of the only function, and what it knows of the others."""

    def __init__(self, name: str, policy: str, site: Site, chance: Random) -> None:
        self.name = name
        self.pool = Pool(site.containers, site.containers, 1 << 20)
        for number in range(site.containers):
            self.pool.add(number, 0.0)
        self.balancer = Balancer(name, chance, lambda _: self.load())
        self.balancer.policy("f", policy)

    def load(self) -> Load:
        """As it tells the others."""
        return Load(*self.pool.figures(0))


class World:
    """`run` lets a trace enter the brokers and gives each call's latency."""

    def __init__(self, site: Site, choose: str, chance: Random) -> None:
        self._site = site
        self._blind = BLIND.get(choose)
        self._chance = chance
        self._turns = itertools.count()
        policy = "power-of-d" if self._blind else choose
        names = [f"n{number}" for number in range(len(site.slowness))]
        self._brokers = [Broker(name, policy, site, chance) for name in names]
        self._index = {name: number for number, name in enumerate(names)}
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._order = itertools.count()
        self._latencies: list[float] = []
        self._open = 0

    def run(self, trace: list[Arrival]) -> list[float]:
        """Seconds of each call, in the order in which they ended."""
        self._open = len(trace)
        for call in trace:
            self._at(call.at, lambda now, call=call: self._enter(call, now))  # type: ignore[misc]
        self._at(self._chance.random() * self._site.gossip, self._gossip)
        while self._open:
            at, _, act = heapq.heappop(self._events)
            act(at)
        return self._latencies

    def _at(self, at: float, act: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (at, next(self._order), act))

    def _enter(self, arrival: Arrival, now: float) -> None:
        broker = self._brokers[arrival.entrance]
        where = self._where(arrival.entrance, now)
        call = Call(broker, 0, "f", None, "", None, now, 1e9, b"", None)
        call.state = arrival  # type: ignore[assignment]
        broker.balancer.sent("f", self._brokers[where].name)
        delay = 0.0 if where == arrival.entrance else self._site.delay
        self._at(now + delay, lambda at: self._submit(where, call, at))

    def _where(self, entrance: int, now: float) -> int:
        if self._blind:
            return self._blind(self._chance, next(self._turns), len(self._brokers))
        broker = self._brokers[entrance]
        if broker.balancer.stays("f") and broker.pool.at_once(0):
            return entrance
        others = [other.name for other in self._brokers if other is not broker]
        return self._index[broker.balancer.choose("f", others, now) or broker.name]

    def _submit(self, where: int, call: Call, now: float) -> None:
        pool = self._brokers[where].pool
        call.started = now
        pool.submit(call)
        self._feed(where, now)

    def _feed(self, where: int, now: float) -> None:
        for container, call in self._brokers[where].pool.assign(now):
            arrival: Arrival = call.state  # type: ignore[assignment]
            seconds = arrival.work * self._site.slowness[where]
            self._at(now + seconds, lambda at, c=container, k=call, s=seconds: self._end(where, c, k, s, at))  # type: ignore[misc]

    def _end(self, where: int, container: object, call: Call, seconds: float, now: float) -> None:
        self._brokers[where].pool.finished(container, call, seconds, now)
        self._feed(where, now)
        remote = call.origin is not self._brokers[where]
        load = self._brokers[where].load()
        self._at(now + self._site.delay * remote, lambda at: self._answer(where, call, load, at))

    def _answer(self, where: int, call: Call, load: Load, now: float) -> None:
        broker, node = call.origin, self._brokers[where].name
        arrival: Arrival = call.state  # type: ignore[assignment]
        seconds = now - arrival.at
        broker.balancer.ended("f", node)
        broker.balancer.answered("f", node, seconds, seconds - 2 * self._site.delay * (broker.name != node), now)
        if broker.name != node:
            broker.balancer.heard("f", node, load, now)
        self._latencies.append(seconds)
        self._open -= 1

    def _gossip(self, now: float) -> None:
        """Everybody's figures reach everybody."""
        for broker in self._brokers:
            for other in self._brokers:
                if other is not broker:
                    broker.balancer.heard("f", other.name, other.load(), now)
        self._at(now + self._site.gossip, self._gossip)


BLIND: dict[str, Callable[[Random, int, int], int]] = {
    "blind random": lambda chance, turn, nodes: chance.randrange(nodes),
    "blind round-robin": lambda chance, turn, nodes: turn % nodes,
}


def mean_after_warm_up(latencies: list[float]) -> float:
    """Without the first tenth: nobody knows anything then."""
    return fmean(latencies[len(latencies) // 10 :])
