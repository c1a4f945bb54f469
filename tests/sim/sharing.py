"""A container that the session shares with others: the real turns, and neighbours whose calls come by chance."""

from collections.abc import Callable
from itertools import count
from random import Random
from typing import TYPE_CHECKING

from edged.core.calls import Call
from edged.core.turns import Turns

from .containers import HARD_LIMIT, Container

if TYPE_CHECKING:
    from .node import Node

NEIGHBOURS = ("n1", "n2", "n3")


def _nothing() -> None:
    """What a neighbour's session makes of an answer."""


class Sharing:
    """`run` for each call of the session; `over` is told of those whose turn came too late."""

    def __init__(self, node: "Node", container: Container, chance: Random, over: Callable[[Call], None]) -> None:
        self._node = node
        self._container = container
        self._chance = chance
        self._over = over
        self._turns = Turns()
        self._starts: dict[int, Callable[[], None]] = {}
        self._serials = count(-1, -1)
        self._short = chance.random() < 0.5
        """Calls are told to have been so short that many are given ahead."""

    def run(self, call: Call, start: Callable[[], None]) -> None:
        """Behind some of its neighbours' calls, and before others."""
        self._neighbours()
        self._add(call, start)
        self._neighbours()
        self._give()

    def _neighbours(self) -> None:
        while self._chance.random() < 0.4:
            call = Call(None, next(self._serials), "f", self._chance.choice(NEIGHBOURS), "", None, 0.0, 1e9, b"", None)
            self._add(call, lambda call=call: self._container.other(self._node.later(lambda: self.finished(call, _nothing))))  # type: ignore[misc]

    def _add(self, call: Call, start: Callable[[], None]) -> None:
        self._starts[call.serial] = start
        self._turns.add(call)

    def _give(self) -> None:
        given, dropped = self._turns.give(self._node.mesh.clock.now)
        for call in given:
            call.container = self._container
            self._starts[call.serial]()
            self._node.mesh.clock.after(HARD_LIMIT, self._node.later(self._look_at), call)
        for call in dropped:
            self._over(call)

    def _look_at(self, call: Call) -> None:
        """The hard limit of whatever runs."""
        running, now = self._turns.running, self._node.mesh.clock.now
        if running is None or not self._container.alive:
            return
        ends = running.started + HARD_LIMIT
        if ends <= now:
            self._node.container_died(self._container)
        elif running is call:
            self._node.mesh.clock.after(ends - now, self._node.later(self._look_at), call)

    def finished(self, call: Call, tell: Callable[[], None]) -> None:
        """The container has answered a call; `tell` its session."""
        self._turns.finished([(call, 1e-6 if self._short else 1.0)], self._node.mesh.clock.now)
        tell()
        self._turns.behind()
        if self._container.alive:
            self._give()
