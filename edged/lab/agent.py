"""The brain of one node: it measures, tells the others, looks at what it knows, and does what the policy says.

Decides nothing: `edged.core.planning.policy` does. Stands for the daemon's wiring of it.
"""

from typing import TYPE_CHECKING, Any

from edged.core.calls import Call
from edged.core.estimates import Mean, Rate
from edged.core.planning.figures import figures
from edged.core.planning.policy import plan
from edged.core.planning.target import kept
from edged.core.planning.view import Figures, Function, Move, Peer, Session, View, figures_of, told
from edged.core.records import SessionKey
from edged.core.sessions import Seat
from edged.core.transition import S

if TYPE_CHECKING:
    from .node import Node

GONE = 900.0
"""Seconds without a call after which a session is not thought of any more."""


def over_the_wire(one: Figures) -> Figures:
    """As the others read it."""
    read = figures_of(told(one))
    assert read is not None
    return read


class Known:
    """What a node notes of one session."""

    __slots__ = ("entrance", "rate", "wish")

    def __init__(self, now: float) -> None:
        self.rate = Rate(now)
        self.wish: Any = None
        self.entrance = ""


class Agent:
    """`called` for each call, `round` once a period; `heard` is what gossip brought."""

    def __init__(self, node: "Node") -> None:
        self._node = node
        self._known: dict[SessionKey, Known] = {}
        self._means = {(name, mode): Mean() for name in node.functions for mode in ("remote", "local", "store")}
        self.heard: dict[str, Peer] = {}
        self.told: Peer | None = None
        self._room: dict[str, int] = {}
        self._approved: set[SessionKey] = set()
        self.explained: dict[str, str] = {}

    def called(self, call: Call, via: str) -> None:
        """A call came in, from a client here or through node `via`."""
        key, now = SessionKey(call.function, call.session or ""), self._node.clock.now
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = Known(now)
        else:
            known.rate.add(now)
        known.wish = call.prefer
        known.entrance = via

    def ran(self, function: str, mode: str, seconds: float) -> None:
        """A container took `seconds` for a call."""
        self._means[function, mode].add(seconds)

    def grants(self, seat: Seat) -> bool:
        """Whether a session may have a container here: what only its application asked for has to fit, and to have
        rested."""
        node, key = self._node, seat.key
        open_ = sum(node.containers.own.values()) < node.containers.slots - kept(node.containers.slots, len(node.functions))
        if seat.state is S.INVITED or key in self._approved:
            self._approved.discard(key)
            return open_ or not node.mesh.choice.dynamic
        if node.clock.now - node.rests.since(key) < node.functions[key.function].dwell:
            return False
        if key.function not in self._room:
            return True
        self._room[key.function] -= 1
        return self._room[key.function] >= 0 and open_

    def round(self) -> None:
        """Look, plan, act; what gossip tells from now on is what was seen."""
        view = self.view()
        plan_ = plan(view, self._node.clock.now)
        self.told = Peer(view.node, view.slots, {f.name: over_the_wire(figures(f)) for f in view.functions})
        self._room, self.explained = dict(plan_.room), dict(plan_.reasons)
        self._approved.clear()
        for move in plan_.moves:
            self._make(move)

    def _make(self, move: Move) -> None:
        node, key = self._node, move.session
        seat = node.seats.get(key)
        if move.to == "":
            node.want(key, "externalize", "")
        elif seat is not None and seat.local:
            node.want(key, "migrate", move.to)
        else:
            other = node.mesh.nodes[move.to]
            node.clock.after(0.0 if other is node else node.mesh.scenario.link, other.agent.welcome, key)

    def welcome(self, key: SessionKey) -> None:
        """A session shall be local here: this node's own plan, or another's that has no slot for it, and may not know
        that it has just moved."""
        node = self._node
        if node.alive and node.clock.now - node.rests.since(key) >= node.functions[key.function].dwell:
            self._approved.add(key)
            self._node.want(key, "localize", "")

    def view(self) -> View:
        """What this node knows now."""
        node, now = self._node, self._node.clock.now
        rows: dict[str, list[Session]] = {name: [] for name in node.functions}
        for key, known in list(self._known.items()):
            if now - known.rate.last > GONE:
                del self._known[key]
                continue
            seat = node.seats.get(key)
            local = seat is not None and seat.local
            if not local and (known.entrance or node.router.hint(key)):
                continue  # another node looks after it
            rate, calls = known.rate.look(now)
            spec = node.functions[key.function]
            rows[key.function].append(
                Session(key, "local" if local else "remote", rate, calls, node.rests.since(key), known.wish, spec.state, known.entrance)
            )
        functions = tuple(self._function(name, sessions) for name, sessions in rows.items())
        return View(node.name, node.containers.slots, functions, tuple(self.heard.values()), settings=node.mesh.settings)

    def _function(self, name: str, sessions: list[Session]) -> Function:
        spec, pool = self._node.functions[name], self._node.containers.pools[name].statistics()
        return Function(
            name,
            tuple(sessions),
            policy=spec.policy,  # type: ignore[arg-type]
            dwell=spec.dwell,
            containers=pool.containers,
            busy=pool.busy,
            queued=pool.queued,
            service_local=self._means[name, "local"].value,
            service_remote=self._means[name, "remote"].value,
            transition=spec.start,
        )
