"""A node's pool: remote-state calls wait for a container, are refused, run, or die with it."""

from typing import TYPE_CHECKING

from edged.core.calls import Call
from edged.core.sessions import Seat

from .containers import HARD_LIMIT, run_handler

if TYPE_CHECKING:
    from .node import Node


class Pool:
    """`run` a call; the node is told what came of it."""

    def __init__(self, node: "Node") -> None:
        self._node = node
        self._waiting: set[int] = set()

    def holds(self, call: Call) -> bool:
        """Whether it still waits for a container."""
        return call.serial in self._waiting

    def run(self, seat: Seat, call: Call) -> None:
        """When its turn comes."""
        node, mesh = self._node, self._node.mesh
        if mesh.faults.hit("pool_refused"):
            node.lost(call, 101, "the function's queue is full")
            return
        self._waiting.add(call.serial)
        mesh.clock.after(mesh.chance.random() * 0.02, node.later(self._begin), seat, call)

    def _begin(self, seat: Seat, call: Call) -> None:
        if call.serial not in self._waiting:
            return
        node, mesh = self._node, self._node.mesh
        faults, chance = mesh.faults, mesh.chance
        self._waiting.discard(call.serial)
        if faults.hit("pool_failed"):
            node.lost(call, 104, "no container could be started")
            return
        call.container, call.started = "pool", mesh.clock.now
        took = chance.random() * 0.02
        if faults.hit("pool_killed") or faults.hit("pool_stuck"):
            took = chance.choice((took, HARD_LIMIT))
            mesh.clock.after(took, lambda: node.lost(call, 402, "the container died"))
            return
        state = b"".join((call.state or b"", *call.deltas))
        mesh.clock.after(took, lambda: node.ran(seat, call, run_handler(call, state, chance)))
