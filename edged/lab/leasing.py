"""A node's lease in virtual time: the task that `edged.daemon.leasing` is, around the real `Leases`.

Decides nothing. All clocks are right here: that wrong ones do no harm is shown elsewhere (tests/sim).
"""

from typing import TYPE_CHECKING, Any

from edged.core.leases import Leases
from edged.core.records import Op, Renew

if TYPE_CHECKING:
    from .node import Node

TTL = 15.0
"""Seconds; as the daemon's default."""


class Leasing:
    """`turn` begins it, and it goes on for as long as its node lives."""

    def __init__(self, node: "Node") -> None:
        self.core = Leases(node.name, node.boot, TTL)
        self._node = node

    def turn(self) -> None:
        """A turn of the loop, and the next."""
        node = self._node
        if not node.alive:
            return
        self._look()
        for op in self.core.turn(node.clock.now):
            self._ask(op)
        node.clock.after(self.core.pause, self.turn)

    def _ask(self, op: Op) -> None:
        asked_at = self._node.clock.now

        def done(outcome: Any) -> None:
            if not self._node.alive:
                return
            self._look()
            now = self._node.clock.now
            if not isinstance(op, Renew):
                self.core.observed(outcome, now)
            elif self.core.renewed(asked_at, outcome, now):
                self._node.environment("renewed")

        self._node.mesh.store.submit(op, done)

    def _look(self) -> None:
        if self.core.lapsed(self._node.clock.now):
            self._node.environment("lapsed")
