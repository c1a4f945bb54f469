"""Where a running mesh stands on the paper's curve: the operator's questions to the policy's model (DESIGN §7).

Decides what is asked: what if the mesh chose how many sessions of a function are local-state, whoever chooses now. Of the
others' sessions only group means are known, which is enough for a curve.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import inf, isfinite

from .figures import figures, groups, sizes
from .mix import CLOSED, Prediction, in_turn, own_container
from .queues import NO_WAIT, Response
from .target import Mesh, Target, Times
from .view import Figures, Function, Session, View

MOST_POINTS = 200
"""Of a curve; a longer one is thinned out."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """`sessions` in question, `now` of them local; `best` has the least mean latency, `planned` is what the policy would
    aim at (it keeps the pools below its guard), `cliff` the last number with which no queue grows for ever."""

    sessions: int
    containers: int
    rate: float
    times: Mapping[str, Times]
    now: int
    best: int | None
    planned: int
    cliff: int | None
    points: tuple[tuple[int, Prediction], ...]


def outlook(view: View, function: str | None = None) -> Outlook:
    """Of all functions, or of one with the others left as they are."""
    own = {f.name: _asked(f.name, function, figures(f)) for f in view.functions}
    peers = tuple(replace(p, figures={name: _asked(name, function, row) for name, row in p.figures.items()}) for p in view.peers)
    mesh = Mesh(replace(view, peers=peers), own)
    target = mesh.target()
    most = mesh.most
    step = max(1, most // MOST_POINTS)
    points = tuple((k, target.predict(k)) for k in sorted({*range(0, most + 1, step), most, min(max(target.now, 0), most), target.best}))
    stable = [(seen.mean, k) for k, seen in points if seen.stable]
    return Outlook(
        sessions=sum(group.many for group in mesh.groups),
        containers=target.containers,
        rate=sum(group.many * group.rate for group in mesh.groups),
        times=target.times,
        now=target.now,
        best=min(stable)[1] if stable else None,
        planned=target.best,
        cliff=max(k for _, k in stable) if stable else None,
        points=points,
    )


def _asked(name: str, function: str | None, row: Figures) -> Figures:
    return freed(row) if function in (None, name) else row


def freed(row: Figures) -> Figures:
    """The same sessions, all of them the policy's to choose from."""
    rates = [rate for rate, many in zip(row.rates, sizes(row.free, len(row.rates)), strict=True) for _ in range(many)]
    rates += [row.held_rate / row.held] * row.held if row.held else []
    rates += [row.fixed_rate / row.fixed] * row.fixed if row.fixed else []
    return replace(
        row,
        held=0,
        granted=0,
        fixed=0,
        held_rate=0.0,
        fixed_rate=0.0,
        free=len(rates),
        rates=groups(sorted(rates, reverse=True)),
    )


@dataclass(frozen=True, slots=True)
class Sight:
    """One session: the mean seconds of its calls in either mode, infinite where it would call faster than it is served."""

    local: float
    remote: float


def sight(target: Target, function: Function, session: Session) -> Sight:
    """What a session's calls would take, by what is measured now."""
    times = target.times[function.name]
    alone = own_container(times.stream(session.rate, 1), CLOSED)
    seen = target.predict(max(0, target.now))
    waits = next((response.wait for _, response in seen.remote), NO_WAIT)
    shared = in_turn(session.rate, Response(waits, times.remote, times.store), CLOSED) if seen.stable else None
    return Sight(alone.mean if alone else inf, shared.mean if shared else inf)


def threshold(target: Target, function: Function) -> str:
    """Which sessions the mesh makes local, in calls a second."""
    times = target.times[function.name]
    if not isfinite(target.threshold) or times.remote + times.store <= 0:
        return "no session of the mesh's own choice is to be local"
    rate = 2**target.threshold / (times.remote + times.store)
    return f"local are to be those that call from about {rate:.3g} times a second, as far as chance does not explain the difference"


def why(function: Function, session: Session, held: float | None, line: str) -> Iterator[str]:
    """The rules that keep a session where it is, the strongest first; `held` by an operator for so many seconds yet."""
    if held is not None:
        yield f"an operator moved it; the mesh leaves it there for {held:.0f} s more"
    if function.policy.startswith("pinned"):
        yield f"its function's policy is {function.policy}"
    elif session.wish is not None and held is None:
        yield f"its application asked for {session.wish} last"
    elif function.policy == "application":
        yield "its function leaves the mode to applications and operators, and none asked for another"
    if function.policy == "auto":
        yield line
