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
from edged_protocol.limits import MAX_HOPS


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
        self._route(arrival.entrance, _call(arrival, None, now), now)

    def _route(self, at: int, call: Call, now: float) -> None:
        """As `daemon.spread` does, for a call that has come to a broker."""
        broker, to = self._brokers[at], at
        if self._blind and not call.hops:
            to = self._blind(self._chance, next(self._turns), len(self._brokers))
        elif not self._blind and (chosen := self._chosen(broker, call, now)) is not None:
            to = self._index[chosen]
            call.sent_to, call.sent_at = chosen, now
            broker.balancer.sent("f", chosen)
        if to == at:
            call.started = now
            broker.pool.submit(call)
            self._feed(at, now)
        else:
            onward = _call(call.state, (at, call), now)
            onward.hops = call.hops + 1
            self._at(now + self._site.delay, lambda at: self._route(to, onward, at))

    def _chosen(self, broker: Broker, call: Call, now: float) -> str | None:
        free = broker.pool.at_once(0)
        if call.hops >= MAX_HOPS or (free and (call.hops or broker.balancer.stays("f"))):
            return None
        but = self._brokers[call.origin[0]] if call.origin else None
        others = [other.name for other in self._brokers if other not in (broker, but)]
        decide = broker.balancer.onward if call.hops else broker.balancer.choose
        return decide("f", others, now)

    def _feed(self, at: int, now: float) -> None:
        for container, call in self._brokers[at].pool.assign(now):
            arrival: Arrival = call.state  # type: ignore[assignment]
            seconds = arrival.work * self._site.slowness[at]
            self._at(now + seconds, lambda end, c=container, k=call, s=seconds: self._end(at, c, k, s, end))  # type: ignore[misc]

    def _end(self, at: int, container: object, call: Call, seconds: float, now: float) -> None:
        self._brokers[at].pool.finished(container, [(call, seconds)], now)
        self._feed(at, now)
        self._answer(at, call, now - call.started, now)

    def _answer(self, at: int, call: Call, there: float, now: float) -> None:
        """A call that a broker has to answer has run; `there`: seconds queued and running."""
        broker = self._brokers[at]
        if call.sent_to is not None:
            broker.balancer.answered("f", call.sent_to, now - call.sent_at, there, now)
        if call.origin is None:
            arrival: Arrival = call.state  # type: ignore[assignment]
            self._latencies.append(now - arrival.at)
            self._open -= 1
            return
        to, asked = call.origin
        load = broker.load()
        self._at(now + self._site.delay, lambda back: self._came_back(to, asked, broker.name, load, there, back))

    def _came_back(self, at: int, call: Call, node: str, load: Load, there: float, now: float) -> None:
        self._brokers[at].balancer.heard("f", node, load, now)
        self._answer(at, call, there, now)

    def _gossip(self, now: float) -> None:
        """Everybody's figures reach everybody."""
        for broker in self._brokers:
            for other in self._brokers:
                if other is not broker:
                    broker.balancer.heard("f", other.name, other.load(), now)
        self._at(now + self._site.gossip, self._gossip)


def _call(arrival: object, origin: tuple[int, Call] | None, now: float) -> Call:
    call = Call(origin, 0, "f", None, "", None, now, 1e9, b"", None)
    call.state = arrival  # type: ignore[assignment]
    return call


BLIND: dict[str, Callable[[Random, int, int], int]] = {
    "blind random": lambda chance, turn, nodes: chance.randrange(nodes),
    "blind round-robin": lambda chance, turn, nodes: turn % nodes,
}


def mean_after_warm_up(latencies: list[float]) -> float:
    """Without the first tenth: nobody knows anything then."""
    return fmean(latencies[len(latencies) // 10 :])
