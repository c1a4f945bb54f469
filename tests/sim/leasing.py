"""A node's clock and its lease task, as `edged.daemon.leasing` and `fence` do it, in virtual time."""

from typing import TYPE_CHECKING, Any

from edged.core.leases import Leases
from edged.core.records import Renew
from edged.core.transition import OWNING

if TYPE_CHECKING:
    from .node import Node

LEASE = 1.0
RATES = (0.9, 1.0, 1.1)


class Leasing:
    """Its clock began at some time and is wrong by up to a tenth; so are the others'."""

    def __init__(self, node: "Node", offset: float, rate: float) -> None:
        self.core = Leases(node.name, node.boot, LEASE)
        self._node = node
        self._turn = node.later(self.turn)
        self._offset = offset
        self._rate = rate

    def now(self) -> float:
        """By the node's own clock."""
        return self._offset + self._rate * self._node.mesh.clock.now

    @property
    def trusted(self) -> bool:
        """Whether the node may serve what fences."""
        return self.core.good and self.now() < self.core.check_at

    def turn(self) -> None:
        """A turn of the loop, and the next."""
        self._look()
        now = self.now()
        for op in self.core.turn(now):
            done = self._renewed(now) if isinstance(op, Renew) else self._observed
            self._node.mesh.store.submit(op, self._node.later(done), self._node)
        self._node.mesh.clock.after(self.core.pause / self._rate, self._turn)

    def look(self) -> None:
        """Where answers are handed out."""
        if self.now() >= self.core.check_at:
            self._look()

    def _look(self) -> None:
        if self.core.lapsed(self.now()):
            self._node.environment("lapsed")
        if self._node.seat is not None:
            self._node.mesh.check()

    def _renewed(self, asked_at: float) -> Any:
        def done(outcome: Any) -> None:
            self._look()
            if self.core.renewed(asked_at, outcome, self.now()):
                self._node.environment("renewed")

        return done

    def _observed(self, outcome: Any) -> None:
        self.core.observed(outcome, self.now())


def must_own(node: "Node") -> bool:
    """Whether what the node says it owns has to be what the record says."""
    seat = node.seat
    if seat is None or seat.state not in OWNING:
        return False
    return node.alive and not node.paused and node.leasing.trusted
