"""Who calls: clients with a chance of their own each, so that the same calls come whatever the mesh does with them.

Decides when a client calls, how much work a call is, which mode the application prefers and through which node it
comes. An open loop: nobody waits for an answer before the next call (model.md says why).
"""

import math
from collections.abc import Iterator
from random import Random

from .scenario import Clients, Function, Scenario


class Client:
    """One client and its session. `next` gives the time of its next call, `prefer` its wish then."""

    def __init__(self, scenario: Scenario, group: Clients, number: int) -> None:
        self.group = group
        self.number = number
        self.session = f"{group.name}-{number}"
        self.function: Function = scenario.functions[group.function]
        self.chance = Random(f"{scenario.seed}/{group.name}/{number}")
        self._moods = Random(f"{scenario.seed}/{group.name}/{number}/moods")
        nodes = group.nodes or tuple(range(len(scenario.containers)))
        self._nodes = nodes
        self.node = nodes[number % len(nodes)]
        self.prefer: str | None = None
        self._bursting = group.arrivals == "bursty" and self._moods.random() < _burst_share(group)
        self._local = group.local_share > 0 and self._moods.random() < group.local_share
        self._toggles = {name: group.since + seconds for name, seconds in self._pauses()}

    def _pauses(self) -> Iterator[tuple[str, float]]:
        """How long it stays as it is, for each of its moods."""
        if self.group.arrivals == "bursty":
            yield "burst", self._pause("burst")
        if self.group.local_share > 0:
            yield "phase", self._pause("phase")

    def _pause(self, mood: str) -> float:
        group = self.group
        if mood == "burst":
            return self._moods.expovariate(1 / (group.burst if self._bursting else group.calm))
        away = group.local_phase * (1 - group.local_share) / group.local_share
        return self._moods.expovariate(1 / (group.local_phase if self._local else away))

    def next(self, now: float) -> float:
        """The time of its first call after `now`; infinite when there is none."""
        at = now
        while True:
            turn, mood = min(((at_, name) for name, at_ in self._toggles.items()), default=(math.inf, ""))
            most = self._rate(None)
            at = at + self.chance.expovariate(most) if most > 0 else math.inf
            if at > turn:  # memoryless: from the change on it is drawn anew
                at = turn
                self._change(mood, turn)
            elif at > self.group.until:
                return math.inf
            elif self.group.arrivals != "diurnal" or self.chance.random() * most <= self._rate(at):
                self.prefer = ("local" if self._local else "remote") if self.group.local_share > 0 else None
                return at

    def _change(self, mood: str, now: float) -> None:
        if mood == "burst":
            self._bursting = not self._bursting
        else:
            self._local = not self._local
        self._toggles[mood] = now + self._pause(mood)

    def _rate(self, at: float | None) -> float:
        """Calls a second at a time; None asks for the most there can be in its present moods."""
        group = self.group
        rate = group.local_rate if self._local and group.local_rate is not None else group.rate
        if group.arrivals == "bursty":
            return rate * (group.factor if self._bursting else 1) / (1 + _burst_share(group) * (group.factor - 1))
        if group.arrivals == "diurnal":
            wave = 1.0 if at is None else math.sin(2 * math.pi * at / group.period)
            return rate * (1 + group.swing * wave)
        return rate

    def work(self) -> float:
        """The call's share of its function's mean time."""
        function = self.function
        if function.time == "deterministic":
            return 1.0
        if function.time == "exponential":
            return self.chance.expovariate(1.0)
        spread = math.log(1 + function.variation)
        return self.chance.lognormvariate(-spread / 2, math.sqrt(spread))

    def roams(self) -> float:
        """Seconds until it enters through another node."""
        return self._moods.expovariate(1 / self.group.roams)

    def roam(self) -> None:
        """It does now."""
        others = [node for node in self._nodes if node != self.node]
        if others:
            self.node = self._moods.choice(others)


def _burst_share(group: Clients) -> float:
    """The part of the time in which it calls `factor` times as often."""
    return group.burst / (group.burst + group.calm)
