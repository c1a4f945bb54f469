"""A whole mesh in virtual time: nodes, store, gossip, failures and clients, from one seed.

Decides nothing that edged decides: `node` joins the real cores. What is modelled, and how, stands in the docstrings of
`node` (connections), `containers` (processes), `store` and here (gossip: every node's figures reach all others once a
period; a death is known after `detect` seconds). The same seed gives the same run, to the last call.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from edged.core import effects as fx
from edged.core.planning.view import Settings
from edged.core.records import SessionKey
from edged.core.sessions import Seat

from .account import Account, Growth, Latency, Result, latency
from .clients import Client
from .clock import Clock
from .node import Node
from .scenario import Failure, Scenario
from .store import Store
from .visits import Hop, Visit

FIRST_PAUSE = 0.2
MOST_PAUSE = 5.0
MOST_TRIES = 12
"""A client gives up after that; the pauses between take half a minute."""

LEASED = 1.0
"""Seconds after which all nodes have their leases, without which none may own a session."""

MINUTE = 60.0
LOOK = 1.0

Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Choice:
    """Who chooses the modes: `local` sessions once for all, with `wishes` the applications, with `dynamic` the policy."""

    name: str
    local: int = 0
    wishes: bool = False
    dynamic: bool = False


APPLICATIONS = Choice("applications", wishes=True)
DYNAMIC = Choice("dynamic", wishes=True, dynamic=True)


class Mesh:
    """`run` plays the scenario once."""

    def __init__(self, scenario: Scenario, choice: Choice, at_first: int = 0) -> None:
        self.scenario = scenario
        self.choice = choice
        overlapping = any(function.overlapping for function in scenario.functions.values())
        self.settings: Settings = replace(scenario.settings, serial=not overlapping)
        self.clock = Clock()
        self.store = Store(self.clock, scenario.store_delay, scenario.store_speed)
        self.account = Account(scenario.warmup)
        self.rules = {name: function.rules for name, function in scenario.functions.items()}
        self.states = {name: bytes(function.state) for name, function in scenario.functions.items()}
        self._watches: dict[str, set[Hop]] = {}
        self._lives = 0
        self._up = 0.0
        self._worked = {"remote": 0.0, "local": 0.0}
        self._minute = (0, 0.0)
        self.nodes = {name: self._new_life(name) for name in scenario.nodes}
        for name, node in self.nodes.items():
            self._introduce(node)
            self.account.growth[name] = Growth()
        self.clients = [Client(scenario, group, number) for group in scenario.clients for number in range(group.count)]
        self._at_first = max(choice.local, at_first)

    def _new_life(self, name: str) -> Node:
        self._lives += 1
        slots = self.scenario.containers[self.scenario.nodes.index(name)]
        return Node(self, name, f"{name}.{self._lives}", slots, Random(f"{self.scenario.seed}/{name}/{self._lives}"))

    def _introduce(self, node: Node) -> None:
        for other in self.nodes.values():
            if other is not node and other.alive:
                node.router.peer(other.name, other.functions)
                other.router.peer(node.name, node.functions)

    # The run

    def run(self, progress: Progress | None = None) -> Result:
        """Play it to its end."""
        scenario, clock = self.scenario, self.clock
        self._begin()
        steps = 200
        for step in range(1, steps + 1):
            clock.run(scenario.duration * step / steps)
            if progress is not None:
                progress(step / steps)
        return self._result()

    def _begin(self) -> None:
        scenario, clock, chance = self.scenario, self.clock, Random(f"{self.scenario.seed}/mesh")
        for client in self.clients:
            self._expect(client, client.group.since)
            if client.group.roams:
                clock.after(client.group.since + client.roams(), self._roam, client)
        for group in scenario.clients:
            for at, number in group.trace:
                clock.after(at, self._call, next(c for c in self.clients if c.group is group and c.number == number))
        for failure in scenario.failures:
            clock.after(failure.at, self._fail, failure)
        for name in scenario.nodes:
            clock.after(chance.random() * scenario.gossip, self._gossip, name)
            if self.choice.dynamic:
                clock.after(chance.random() * scenario.policy_period, self._think, name)
        clock.after(LOOK, self._look)
        clock.after(MINUTE, self._each_minute)
        clock.after(LEASED, self._place)

    def _place(self) -> None:
        """The sessions that are local from the beginning."""
        for client in self._spread_out(self._at_first):
            node = self.nodes[self.scenario.nodes[client.node]]
            node.want(SessionKey(client.function.name, client.session), "localize")

    def _spread_out(self, many: int) -> list[Client]:
        """The first clients, by turns of the nodes they enter through, as far as these have slots."""
        taken = dict.fromkeys(range(len(self.nodes)), 0)
        chosen: list[Client] = []
        for client in self.clients:
            if len(chosen) < many and taken[client.node] < self.scenario.containers[client.node]:
                taken[client.node] += 1
                chosen.append(client)
        return chosen

    # Clients

    def _expect(self, client: Client, now: float) -> None:
        if client.group.arrivals == "trace":
            return
        at = client.next(now)
        if at <= self.scenario.duration:
            self.clock.after(at - self.clock.now, self._called, client)

    def _called(self, client: Client) -> None:
        wished = client.prefer
        self._expect_later(client)
        self._send(Visit(client, self.clock.now, struct.pack("d", client.work()), wished))

    def _expect_later(self, client: Client) -> None:
        """The next call is drawn when this one is, whatever becomes of it: an open loop."""
        self._expect(client, self.clock.now)

    def _call(self, client: Client) -> None:
        self._send(Visit(client, self.clock.now, struct.pack("d", client.work()), client.prefer))

    def _send(self, visit: Visit) -> None:
        if self.scenario.device:
            self.clock.after(self.scenario.device, self._enter, visit)
        else:
            self._enter(visit)

    def _enter(self, visit: Visit) -> None:
        number = visit.client.node
        names = self.scenario.nodes
        for step in range(len(names)):  # a client goes on to the next node when its own is dead
            node = self.nodes[names[(number + step) % len(names)]]
            if node.alive:
                node.visited(visit)
                return
        self.refused(visit, 403)

    def answered(self, visit: Visit, answer: fx.Answer) -> None:
        """A node answers a client."""
        if answer.code:
            self.refused(visit, answer.code)
            return
        meta = answer.meta or {}
        mode = str(meta.get("mode", "remote"))
        now = self.clock.now + self.scenario.device
        self.account.answered(visit.sent, now, mode, visit.wished == "local")
        if visit.sent >= self.scenario.warmup:
            calls, seconds = self._minute
            self._minute = calls + 1, seconds + now - visit.sent

    def refused(self, visit: Visit, code: int) -> None:
        """The call was not answered with a result: the client tries again, for a while."""
        visit.tries += 1
        left = visit.client.function.deadline - (self.clock.now - visit.sent)
        if visit.tries > MOST_TRIES or left <= 0 or 200 <= code < 400:
            self.account.gave_up(visit.sent)
            return
        pause = min(MOST_PAUSE, FIRST_PAUSE * 2 ** (visit.tries - 1))
        self.clock.after(pause, self._enter, visit)

    def _roam(self, client: Client) -> None:
        client.roam()
        self.clock.after(client.roams(), self._roam, client)

    # Nodes

    def watch(self, node: Node, hop: Hop) -> None:
        """Whoever forwarded a call to `node` learns of its end."""
        self._watches.setdefault(node.boot, set()).add(hop)

    def unwatch(self, node: Node, hop: Hop) -> None:
        """It has its answer."""
        self._watches.get(node.boot, set()).discard(hop)

    def _fail(self, failure: Failure) -> None:
        name = self.scenario.nodes[failure.node]
        node = self.nodes[name]
        if not node.alive:
            return
        self._retire(node)
        node.die()
        for hop in sorted(self._watches.pop(node.boot, set()), key=lambda hop: hop.call.serial):
            hop.node.hop_answered(hop, fx.Answer(hop.call, 403, b"", "the node was lost", None), None)
        self.clock.after(self.scenario.detect, self._detected, node)
        self.clock.after(failure.lasts, self._back, name)

    def _retire(self, node: Node) -> None:
        for mode, seconds in node.containers.worked.items():
            self._worked[mode] += seconds

    def _detected(self, dead: Node) -> None:
        if self.nodes[dead.name].alive:
            return
        for other in self.nodes.values():
            if other.alive:
                other.router.peer(dead.name, None)
                other.balancer.forget(dead.name)
                other.agent.heard.pop(dead.name, None)

    def _back(self, name: str) -> None:
        self.nodes[name] = node = self._new_life(name)
        self._introduce(node)

    def _gossip(self, name: str) -> None:
        """What a node tells reaches the others."""
        node = self.nodes[name]
        if node.alive:
            node.containers.look_after()
            node.sweep()
            loads = {function: node.load(function) for function in node.functions}
            told = node.agent.told
            for other in self.nodes.values():
                if other is node or not other.alive:
                    continue
                for function, load in loads.items():
                    other.balancer.heard(function, name, load, self.clock.now)
                if told is not None:
                    other.agent.heard[name] = told
        self.clock.after(self.scenario.gossip, self._gossip, name)

    def _think(self, name: str) -> None:
        node = self.nodes[name]
        if node.alive:
            node.agent.round()
        self.clock.after(self.scenario.policy_period, self._think, name)

    def noted(self, seat: Seat, note: fx.Noted) -> None:
        """A session's mode or node changed."""
        kind = note.event.partition(".")[2]
        counts = self.choice.dynamic or self.clock.now > self.scenario.warmup
        if counts and kind in ("localized", "externalized", "migrated"):
            self.account.move(seat.key, kind, self.clock.now)

    def seconds(self, blob: bytes | None) -> float:
        """How long a state is on its way between nodes; as fast as to the store."""
        return len(blob or b"") / self.scenario.store_speed if self.scenario.store_speed else 0.0

    # Looking

    def _look(self) -> None:
        now, warm = self.clock.now, self.clock.now >= self.scenario.warmup
        for name, node in self.nodes.items():
            if node.alive:
                self.account.growth[name].look(self._queued(node), now)
                self._up += node.containers.slots * warm
        if now <= self.scenario.warmup < now + LOOK:
            for node in self.nodes.values():
                node.containers.worked = dict.fromkeys(node.containers.worked, 0.0)
        self.clock.after(LOOK, self._look)

    @staticmethod
    def _queued(node: Node) -> int:
        return sum(pool.statistics().queued for pool in node.containers.pools.values())

    def _each_minute(self) -> None:
        alive = [node for node in self.nodes.values() if node.alive]
        local = sum(sum(node.containers.own.values()) for node in alive)
        calls, seconds = self._minute
        self._minute = (0, 0.0)
        queued = sum(self._queued(node) for node in alive)
        self.account.timeline.append((float(local), float(queued), seconds / calls if calls else 0.0))
        self.clock.after(MINUTE, self._each_minute)

    def _result(self) -> Result:
        account, scenario = self.account, self.scenario
        for node in self.nodes.values():
            if node.alive:
                self._retire(node)
        everything = latency(account.order)
        modes: dict[str, Latency] = {mode: latency(samples) for mode, samples in account.latencies.items()}
        moves = sum(account.kinds.values())
        quarters = account.by_quarter(scenario.duration, len(self.clients))
        minutes = account.timeline[int(scenario.warmup // MINUTE) :] or account.timeline
        waiting = [call for node in self.nodes.values() for call in node.calls.values() if not call.answered]
        return Result(
            name=self.choice.name,
            latency={"all": everything, **modes},
            share_local=modes["local"].calls / max(1, everything.calls),
            moves=moves,
            moves_late=quarters[-1],
            moves_by_quarter=quarters,
            rounds=account.most_within(min(function.dwell for function in scenario.functions.values())),
            store_bytes=self.store.bytes,
            store_bytes_per_call=self.store.bytes / max(1, self.sent),
            utilisation=sum(self._worked.values()) / max(1.0, self._up),
            refused=account.refused,
            missed=account.missed / account.wished if account.wished else 0.0,
            growth=max(growth.longest for growth in account.growth.values()),
            local=sum(row[0] for row in minutes) / max(1, len(minutes)),
            queued=len(waiting),
            stable=len(waiting) <= self._expected_in_hand(everything),
            timeline=tuple(account.timeline),
        )

    @property
    def sent(self) -> int:
        """Calls that were answered, or given up."""
        return len(self.account.order) + self.account.refused

    def _expected_in_hand(self, everything: Latency) -> float:
        """Little's law, doubled, and a few: more calls than that in hand at the end are a queue that grows."""
        seconds = self.scenario.duration - self.scenario.warmup
        return 20 + 2 * len(self.clients) + 4 * everything.mean * everything.calls / seconds


def play(scenario: Scenario, choice: Choice, progress: Progress | None = None, **words: Any) -> Result:
    """One run."""
    return Mesh(scenario, choice, **words).run(progress)
