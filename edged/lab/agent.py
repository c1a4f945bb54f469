"""The brain of one node: it measures, tells the others, looks at what it knows, and does what the policy says.

Decides nothing: `edged.core.planning.policy` does, on what `edged.core.planning.ledger` has noted. Stands for the
daemon's wiring of them.
"""

from functools import partial
from typing import TYPE_CHECKING

from edged.core.calls import Call
from edged.core.planning.figures import figures
from edged.core.planning.ledger import Ledger
from edged.core.planning.policy import plan
from edged.core.planning.target import kept
from edged.core.planning.view import Figures, Function, Move, Peer, Session, View, figures_of, told
from edged.core.records import Mode, SessionKey
from edged.core.sessions import Seat
from edged.core.transition import S

if TYPE_CHECKING:
    from .node import Node


def over_the_wire(one: Figures) -> Figures:
    """As the others read it."""
    read = figures_of(told(one))
    assert read is not None
    return read


class Agent:
    """`called` for each call, `round` once a period; `heard` is what gossip brought."""

    def __init__(self, node: "Node") -> None:
        self._node = node
        self.ledger = Ledger()
        self.notes = {S.READING: self.ledger.read, S.COMMITTING: self.ledger.committed}
        """What is noted of the time for which the store is asked, by the state of the session that asks."""
        self.heard: dict[str, Peer] = {}
        self.told: Peer | None = None
        self._room: dict[str, int] = {}
        self._approved: set[SessionKey] = set()

    def called(self, call: Call, via: str) -> None:
        """A call came in, from a client here or through node `via`."""
        key, now = SessionKey(call.function, call.session or ""), self._node.clock.now
        self.ledger.called(key, via, now)
        if call.prefer is not None:
            self.ledger.wished(key, "local" if call.prefer == "local" else "remote", now)

    def grants(self, seat: Seat) -> bool:
        """Whether a session may have a container here: what only its application asked for has to fit."""
        node, key = self._node, seat.key
        open_ = sum(node.containers.own.values()) < node.containers.slots - kept(node.containers.slots, len(node.functions))
        if seat.state is S.INVITED or key in self._approved:
            self._approved.discard(key)
            return open_ or not node.mesh.choice.dynamic
        if key.function not in self._room:
            return True
        self._room[key.function] -= 1
        return self._room[key.function] >= 0 and open_

    def round(self) -> None:
        """Look, plan, act; what gossip tells from now on is what was seen."""
        view = self.view()
        plan_ = plan(view, self._node.clock.now)
        self.told = Peer(view.node, view.slots, {f.name: over_the_wire(figures(f)) for f in view.functions})
        self._room = dict(plan_.room)
        self._approved.clear()
        for move in plan_.moves:
            self._make(move)

    def _make(self, move: Move) -> None:
        node, key = self._node, move.session
        seat = node.seats.get(key)
        ended = partial(self._ended, key)
        if move.to == "":
            node.want(key, "externalize", asker=ended)
        elif seat is not None and seat.local:
            node.want(key, "migrate", move.to, asker=ended)
        elif move.to == node.name:
            self._approved.add(key)
            node.want(key, "localize", asker=ended)
        else:
            other = node.mesh.nodes[move.to]
            node.clock.after(node.mesh.scenario.link, other.agent.welcome, self, key, self.ledger.wish(key), *node.rests.known(key))

    def _ended(self, key: SessionKey, code: int, message: str, there: str = "", epoch: int = 0) -> None:
        """A move has ended: one that failed is not tried again before the session's dwell time is over."""
        if code:
            self.ledger.moved(key, self._node.clock.now)
        elif there:
            self._node.router.located(key, there, epoch)
            self._node.rests.seen(key, epoch, self._node.clock.now)

    def welcome(self, asker: "Agent", key: SessionKey, wish: Mode | None, epoch: int, since: float) -> None:
        """Another node, which has no slot for a session, wants it to be local here; it tells what it knows of it."""
        node = self._node
        if not node.alive:
            return
        node.rests.seen(key, epoch, since)
        if wish is not None:
            self.ledger.wished(key, wish, node.clock.now)

        def ended(code: int, message: str) -> None:
            node.clock.after(node.mesh.scenario.link, asker._ended, key, code, message, node.name, node.rests.known(key)[0])

        self._approved.add(key)
        node.want(key, "localize", asker=ended)

    def view(self) -> View:
        """What this node knows now."""
        node, now = self._node, self._node.clock.now
        rows: dict[str, list[Session]] = {name: [] for name in node.functions}
        for key in self.ledger.remembered(now):
            seat = node.seats.get(key)
            local = seat is not None and seat.local
            if not local and (self.ledger.entrance(key) or node.router.hint(key)):
                continue  # another node looks after it
            mode: Mode = "local" if local else "remote"
            size = node.functions[key.function].state
            rows[key.function].append(self.ledger.session(key, mode, now, size, node.rests.since(key)))
        functions = tuple(self._function(name, sessions) for name, sessions in rows.items())
        return View(node.name, node.containers.slots, functions, tuple(self.heard.values()), settings=node.mesh.settings)

    def _function(self, name: str, sessions: list[Session]) -> Function:
        spec, pool, times = self._node.functions[name], self._node.containers.pools[name].statistics(), self.ledger.times(name)
        return Function(
            name,
            tuple(sessions),
            policy=spec.policy,  # type: ignore[arg-type]
            dwell=spec.dwell,
            containers=pool.containers,
            busy=pool.busy,
            queued=pool.queued,
            service_local=times.local,
            service_remote=times.remote,
            store=times.store,
            transition=spec.start,
        )
