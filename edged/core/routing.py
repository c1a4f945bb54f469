"""Which node answers a call: the hints this node has, and the loop guard (DESIGN §2, §5.5, §6).

Decides between here, a certain node, any of the others and a refusal. Hints cost a hop when they are wrong and nothing else:
the store is the authority on sessions. Refuses to know connections and containers.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from edged_protocol.limits import MAX_HOPS

from .records import SessionKey

MAX_LOCATIONS = 65_536
"""Session hints kept, least recently used out first; about 16 MiB."""


@dataclass(frozen=True, slots=True)
class Here:
    """This node answers."""


@dataclass(frozen=True, slots=True)
class There:
    """That node answers."""

    node: str


@dataclass(frozen=True, slots=True)
class Anywhere:
    """One of the others answers: which one is a matter of load."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """Nobody can: the code and why."""

    code: int
    reason: str


Route = Here | There | Anywhere | Refuse
HERE = Here()
ANYWHERE = Anywhere()


class Router:
    """What runs where, as far as this node was told."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._here: frozenset[str] = frozenset()
        self._peers: dict[str, frozenset[str]] = {}
        self._known: frozenset[str] = frozenset()
        self._locations: OrderedDict[SessionKey, tuple[str, int]] = OrderedDict()
        self._doubted: set[str] = set()
        self._others: dict[str, tuple[str, ...]] = {}
        self.only_here: frozenset[str] = frozenset()
        """The functions that this node runs and no other one."""
        self.away: dict[str, tuple[str, ...]] = {}
        """Others that run it, for functions that were asked for and are not run here."""

    def serves(self, functions: Iterable[str], known: Iterable[str]) -> None:
        """The functions this node runs, and all it has heard of."""
        self._here, self._known = frozenset(functions), frozenset(known)
        self._changed()

    def functions(self) -> frozenset[str]:
        """All it has heard of."""
        return self._known

    def peer(self, node: str, functions: Iterable[str] | None) -> None:
        """What a peer runs; None when it is gone."""
        if functions is None:
            self._peers.pop(node, None)
        else:
            self._peers[node] = frozenset(functions)
        self._changed()

    def _changed(self) -> None:
        """What runs where is another matter now."""
        self._others.clear()
        self.away.clear()
        self.only_here = self._here.difference(*self._peers.values())

    def doubt(self, node: str, doubted: bool) -> None:
        """Whether `node` may be dead: it gets new work only when nobody else can do it."""
        if doubted:
            self._doubted.add(node)
        else:
            self._doubted.discard(node)
        self._others.clear()
        self.away.clear()

    def doubted(self, node: str) -> bool:
        """Whether it may be dead."""
        return node in self._doubted

    def located(self, key: SessionKey, node: str | None, epoch: int) -> None:
        """A session was seen on `node` (None: remote-state); an older epoch never wins."""
        old = self._locations.pop(key, None)
        if old is not None and old[1] > epoch:
            self._locations[key] = old
        elif node is not None and node != self._node:
            self._locations[key] = (node, epoch)
            if len(self._locations) > MAX_LOCATIONS:
                self._locations.popitem(last=False)

    def at(self, node: str) -> list[tuple[SessionKey, int]]:
        """The sessions that are thought to be on `node`, with their epochs."""
        return [(key, epoch) for key, (where, epoch) in self._locations.items() if where == node]

    def hint(self, key: SessionKey) -> str | None:
        """The other node that is thought to have the session; None when nothing is known."""
        found = self._locations.get(key)
        return found[0] if found is not None else None

    def forget(self, key: SessionKey) -> None:
        """The hint for `key` proved wrong."""
        self._locations.pop(key, None)

    def nodes_for(self, function: str) -> list[str]:
        """All nodes that run `function`, this one first."""
        here = [self._node] if function in self._here else []
        return here + sorted(n for n, names in self._peers.items() if function in names)

    def others(self, function: str) -> tuple[str, ...]:
        """The other nodes that run `function`; those in doubt only when there is nobody else."""
        found = self._others.get(function)
        if found is None:
            nodes = [node for node, names in self._peers.items() if function in names]
            found = tuple([node for node in nodes if node not in self._doubted] or nodes)
            if len(self._others) < MAX_LOCATIONS:
                self._others[function] = found
        return found

    def route(self, function: str, session: str | None, hops: int) -> Route:
        """Where a call goes that has been forwarded `hops` times already."""
        if session is not None:
            hint = self._locations.get(SessionKey(function, session))
            if hint is not None and hint[0] in self._peers and hops < MAX_HOPS:
                return There(hint[0])
        if function in self._here:
            return HERE
        return self._elsewhere(function, hops)

    def _elsewhere(self, function: str, hops: int) -> Route:
        others = self.others(function)
        if others and hops < MAX_HOPS:
            self.away[function] = others
            return ANYWHERE
        if others:
            return Refuse(105, f"forwarded {hops} times already")
        if function in self._known:
            return Refuse(104, f"no reachable node runs {function}")
        return Refuse(204, f"no function named {function} is deployed")
