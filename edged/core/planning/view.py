"""What the policy looks at and what it answers: the vocabulary (DESIGN §7).

Decides nothing. `View` is what one node knows at one moment: all of its own sessions and containers, and of the other
nodes the few `Figures` that gossip carries. Times are monotonic seconds, rates are calls per second.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Literal

from ..records import Mode, SessionKey

Policy = Literal["auto", "application", "pinned-local", "pinned-remote"]
"""Who chooses the mode of a function's sessions: the mesh after the applications' wishes, the applications alone, or
its manifest once for all."""

GROUPS = 8
"""Groups into which a node's sessions are put to tell of their rates: an eighth each, the busiest first."""

MOST = 2**31


@dataclass(frozen=True, slots=True)
class Session:
    """One session that this node looks after: local here, or remote-state with its calls entering here.

    `calls` is how many calls the rate rests on (decaying as the estimator does); `moved` when its mode or node last
    changed; `wish` what its application asked for last; `entrance` the node through which its calls come, "" for this.
    """

    key: SessionKey
    mode: Mode
    rate: float
    calls: float
    moved: float = float("-inf")
    wish: Mode | None = None
    size: int = 0
    entrance: str = ""


@dataclass(frozen=True, slots=True)
class Function:
    """One function on this node. `containers`, `busy` and `queued` are the pool's; the times are measured means in
    seconds, 0 when none is known: a call in a session's own container, one in the pool, what a remote-state call takes
    besides to read and commit its state while it holds no container (`store`), a whole move. `sharing`: local sessions that
    one container may have; `memory` is a container's."""

    name: str
    sessions: tuple[Session, ...]
    policy: Policy = "auto"
    allow: tuple[Mode, ...] = ("remote", "local")
    dwell: float = 5.0
    containers: int = 0
    busy: int = 0
    queued: int = 0
    service_local: float = 0.0
    service_remote: float = 0.0
    store: float = 0.0
    transition: float = 0.0
    memory: int = 0
    sharing: int = 1

    def containers_of(self, local: int) -> int:
        """Taken by so many local sessions, the fullest filled first."""
        return ceil(local / self.sharing)


@dataclass(frozen=True, slots=True)
class Figures:
    """What a node tells the others of one function's sessions.

    `local`: sessions that are local, `queued`: calls that wait for the pool. `held`: sessions whose
    application or manifest wants them local, `granted`: those of them that are; `fixed`: sessions that must stay
    remote-state; with the calls of all of them. `free`: sessions among which the policy may choose, `rates` the calls of
    one of each group of them.
    """

    local: int = 0
    queued: int = 0
    held: int = 0
    granted: int = 0
    fixed: int = 0
    free: int = 0
    held_rate: float = 0.0
    fixed_rate: float = 0.0
    service_local: float = 0.0
    service_remote: float = 0.0
    rates: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Peer:
    """Another node that is alive: its container slots, and its figures by function."""

    node: str
    slots: int
    figures: Mapping[str, Figures]


@dataclass(frozen=True, slots=True)
class Settings:
    """What an operator may choose. `guard`: utilisation of what remains for the pools up to which the mesh localizes
    on its own, `wish_guard`: up to which it grants wishes; `budget`: moves a round; `hysteresis`: share of the mean
    latency that is not worth a move; `frozen`: nothing is moved; `serial`: calls of a session run one after the other, as
    they do in this mesh and not in the paper."""

    guard: float = 0.8
    wish_guard: float = 0.95
    budget: int = 2
    hysteresis: float = 0.02
    frozen: bool = False
    serial: bool = True


@dataclass(frozen=True, slots=True)
class View:
    """What one node knows. `memory` and `memory_used` are bytes for containers, 0 when they are not bounded."""

    node: str
    slots: int
    functions: tuple[Function, ...]
    peers: tuple[Peer, ...] = ()
    memory: int = 0
    memory_used: int = 0
    settings: Settings = field(default_factory=Settings)


@dataclass(frozen=True, slots=True)
class Move:
    """One session to another place: `to` is the node on which it shall be local, "" for remote-state.

    `gain` is what all calls together win by it, in seconds of latency per second; `cost` what the move itself costs,
    in seconds of latency once.
    """

    session: SessionKey
    to: str
    reason: str
    gain: float
    cost: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now, and why; `reasons` has a line by function, moves or not. `room`: how many more wishes for local
    this node may grant by itself, by function, until the next plan."""

    moves: tuple[Move, ...]
    reasons: Mapping[str, str]
    room: Mapping[str, int]


def told(figures: Figures) -> list[int]:
    """Figures as they travel: counts, calls in 1,000 seconds, microseconds; `figures_of` reads them."""
    counts = [figures.local, figures.queued, figures.held, figures.granted, figures.fixed, figures.free]
    times = [round(seconds * 1e6) for seconds in (figures.service_local, figures.service_remote)]
    rates = [round(rate * 1000) for rate in (figures.held_rate, figures.fixed_rate, *figures.rates)]
    return [min(value, MOST - 1) for value in counts + times + rates]


def figures_of(value: object) -> Figures | None:
    """What another node told, or None for what is none."""
    if not isinstance(value, list | tuple) or not 10 <= len(value) <= 10 + GROUPS:
        return None
    if any(type(item) is not int or not 0 <= item < MOST for item in value):
        return None
    local, queued, held, granted, fixed, free, service_local, service_remote, *rates = value
    held_rate, fixed_rate, *groups = [rate / 1000 for rate in rates]
    return Figures(
        local=local,
        queued=queued,
        held=held,
        granted=granted,
        fixed=fixed,
        free=free,
        held_rate=held_rate,
        fixed_rate=fixed_rate,
        service_local=service_local / 1e6,
        service_remote=service_remote / 1e6,
        rates=tuple(groups),
    )
