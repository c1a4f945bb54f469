"""How many sessions the whole mesh should have local, and which part of them is one node's (DESIGN §7).

Every node computes this for itself, from the figures that all tell all; nobody is asked. What makes it safe that many
act at once on figures a second or two old: the shares of all nodes add up to the optimum, whatever each does about its
own. Going for the next best single move, each on its own, was the alternative: near the optimum, which is near the
cliff, all nodes take the same last step together.

Which sessions: those with most calls, with a ramp of two octaves around the threshold, so that a node whose sessions
seem to call a little more often does not move everybody's share. Approximations: one pool of all free containers (the balancing
comes close), one service time for all nodes, all functions in one pool (`mix`).

Where `sharing` local sessions of a function have one container, what is counted against the slots are containers: each
session takes its part of one, whole containers in the sum; a function that this node does not run is taken to share none.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import ceil, inf, log2
from typing import NamedTuple

from .figures import sizes
from .mix import CLOSED, Prediction, Stream, predict
from .view import Figures, View

FAIR = 0.5
"""Part of the local containers that is shared by the functions' numbers of sessions; the rest goes where it is worth
most. Half: no function is starved, and half of what is to be won is left to win."""

DRAIN = 30.0
"""Seconds in which calls that wait shall be served: they count as calls that come in that time."""

USUAL = 2
"""Calls that wait for each container of the pools before it is taken for more than chance."""

UNKNOWN_GAIN = 0.5
"""A local call's time over a remote one's before any was seen: low enough to try."""

RAMP = 1.0
"""Octaves to either side of the threshold. Rates of equal nodes are known to a tenth of themselves: that is a seventh of
an octave, and a fourteenth of a node's sessions."""

MERGED = 8
"""Parts of an octave within which rates are one in a prediction."""

STEPS = 30
"""Most steps to the threshold; it takes some five."""

CLOSE = 1e-6
"""Of a session."""


def kept(slots: int, functions: int) -> int:
    """Slots that stay the pools': one for each function as far as half of them go, and one at least. A session whose
    call waits for a container that never comes has all its calls wait; and with one slot for two functions their
    containers are started in turns, each ending the other."""
    return max(1, min(functions, slots // 2))


class Times(NamedTuple):
    """Mean seconds of a call of one function; `tried`: whether a local call was ever seen; `sharing`: its local sessions in
    one container."""

    local: float
    remote: float
    store: float
    tried: bool
    sharing: int = 1

    def weight(self, rate: float) -> float:
        """What a session takes off the pool and the store, in octaves."""
        return log2(max(rate * (self.remote + self.store), 1e-12))


    def stream(self, rate: float, many: float) -> Stream:
        """So many sessions that call so often."""
        return Stream(rate, self.local, self.remote, many, self.store, self.sharing)


class Group(NamedTuple):
    """`many` sessions of one function on one node, alike."""

    node: str
    function: str
    many: int
    rate: float
    weight: float


@dataclass(frozen=True, slots=True)
class Target:
    """`now` and `best`: free sessions that are local in the mesh, and should be; `share`: of this node, by function.

    `threshold`: the weight from an octave (RAMP) above which a session is certainly among the chosen, and from an
    octave below certainly not. `predict`: by number of local sessions; `room`: wishes that may still be granted in
    the mesh, negative when there are too many.
    """

    now: int
    best: int
    share: Mapping[str, int]
    threshold: float
    room: int
    containers: int
    predict: Callable[[int], Prediction]
    times: Mapping[str, Times]

    def worth(self, fewer_or_more: int) -> float:
        """Seconds of latency by which the mean is above the best one, with so many sessions local."""
        return self.predict(fewer_or_more).mean - self.predict(self.best).mean


class Mesh:
    """What the figures of all nodes add up to."""

    def __init__(self, view: View, own: Mapping[str, Figures]) -> None:
        self._view = view
        self.told = {view.node: own, **{peer.node: peer.figures for peer in view.peers}}
        self.slots = {view.node: view.slots, **{peer.node: peer.slots for peer in view.peers}}
        self.functions = [function.name for function in view.functions]
        self._sharing = {function.name: function.sharing for function in view.functions}
        self.times = {function.name: self._times(function.name, function.store) for function in view.functions}
        self.groups = [group for name in self.functions for group in self._groups(name)]
        self.room = 0
        self._heard = 0.0
        """The part of the wishes that is granted."""
        self.containers = self._held()
        self._free = sum(group.many for group in self.groups)
        self._most = {node: self._most_on(node) for node in self.slots}

    def _most_on(self, node: str) -> int:
        """The most containers that a node can give to free sessions, or more if it has."""
        granted, local = self._own(node, "granted"), self._own(node, "local")
        return max(0, self.slots[node] - kept(self.slots[node], len(self.told[node])) - granted, local - granted)

    def _own(self, node: str, what: str) -> int:
        """Containers that so many sessions of each function have there, the fullest filled first."""
        return sum(ceil(getattr(row, what) / self._sharing.get(name, 1)) for name, row in self.told[node].items())

    def rows(self, function: str) -> list[Figures]:
        """Every node's figures of a function."""
        return [figures[function] for figures in self.told.values() if function in figures]

    def total(self, what: str) -> int:
        """Over all nodes and functions."""
        return sum(getattr(row, what) for name in self.functions for row in self.rows(name))

    def _times(self, function: str, store: float) -> Times:
        rows = self.rows(function)
        remote = _mean([row.service_remote for row in rows])
        local = _mean([row.service_local for row in rows])
        known = remote or local or 0.001
        return Times(local or known * UNKNOWN_GAIN, remote or known, store, local > 0, self._sharing[function])

    def _groups(self, function: str) -> list[Group]:
        groups = []
        for node, figures in self.told.items():
            row = figures.get(function)
            if row is not None:
                for many, rate in zip(sizes(row.free, len(row.rates)), row.rates, strict=True):
                    groups.append(Group(node, function, many, rate, self.times[function].weight(rate)))
        return groups

    def _held(self) -> int:
        """Containers left for free sessions and pools, once the wishes have theirs as far as the pools can bear: up to
        the guard with all free sessions in them. A session that keeps a container busy anyway is no burden."""
        slots, held = sum(self.slots.values()), self.total("held")
        each = self._erlangs("held_rate") / held if held else 0.0
        base = self._erlangs("fixed_rate")
        base += sum(group.many * group.rate * self.times[group.function].remote for group in self.groups)
        guard, most = self._view.settings.wish_guard, 0
        parts = sum(row.held / self._sharing[name] for name in self.functions for row in self.rows(name))
        part = parts / held if held else 1.0
        while most < min(held, (slots - 1) / part):
            if each < guard and base + each * (held - most - 1) > guard * (slots - (most + 1) * part):
                break
            most += 1
        self.room = most - self.total("granted")
        self._heard = most / held if held else 0.0
        return slots - ceil(most * part - CLOSE)

    def _erlangs(self, rate: str) -> float:
        """Containers that such calls keep busy in the pools."""
        return sum(float(getattr(row, rate)) * self.times[name].remote for name in self.functions for row in self.rows(name))

    @property
    def most(self) -> int:
        """Free sessions that could be local, as far as nodes have the slots."""
        all_ = [1.0] * len(self.groups)
        return max(0, min(int(self._count(all_)), int((self.containers - 1) / self._each(all_))))

    def _each(self, parts: Sequence[float]) -> float:
        """The part of a container that a session has, on the mean of these parts of the free ones."""
        sessions = taken = 0.0
        for group, part in zip(self.groups, parts, strict=True):
            sessions += part * group.many
            taken += part * group.many / self._sharing[group.function]
        return taken / sessions if sessions else 1.0

    # The optimum

    def target(self) -> Target:
        """See the module."""
        seen = cache(self._predict)
        now = self.total("local") - self.total("granted")
        best = self._best(seen, now)
        threshold, parts = self._chosen(best)
        share = self._share(best, parts)
        return Target(now, best, share, threshold, self.room, self.containers, seen, self.times)

    def _best(self, seen: Callable[[int], Prediction], now: int) -> int:
        """The number with the least mean up to the guard, from where the mesh is by steps that grow, then shrink."""
        most = self.most

        def mean(k: int) -> float:
            if not 0 <= k <= most or (k and seen(k).utilisation > self._view.settings.guard):
                return inf
            return seen(k).mean

        k = min(max(now, 0), most)
        while k and mean(k) == inf:
            k //= 2
        step = 1
        while step:
            if mean(k + step) < mean(k):
                k, step = k + step, step * 2
            elif mean(k - step) < mean(k):
                k, step = k - step, step * 2
            else:
                step //= 2
        return k

    def _predict(self, local: int) -> Prediction:
        """What all calls see with `local` of the free sessions local, the busiest."""
        _, parts = self._chosen(local)
        own, pooled = self._streams(parts)
        for name in self.functions:
            times = self.times[name]
            for row in self.rows(name):
                if row.held:
                    own.append(times.stream(row.held_rate / row.held, row.held * self._heard))
                    pooled.append(times.stream(row.held_rate / row.held, row.held * (1 - self._heard)))
                if row.fixed:
                    pooled.append(times.stream(row.fixed_rate / row.fixed, row.fixed))
        pooled += self._backlog()
        serial = self._view.settings.serial
        left = self.containers - ceil(local * self._each(parts) - CLOSE)
        return predict(own, pooled, left, serial=serial, nodes=len(self.slots), busiest=CLOSED)

    def _streams(self, parts: Sequence[float]) -> tuple[list[Stream], list[Stream]]:
        """Local and pooled; groups that differ by less than a tenth are one."""
        sums: dict[tuple[str, int], list[float]] = {}
        for group, part in zip(self.groups, parts, strict=True):
            row = sums.setdefault((group.function, int(group.weight * MERGED)), [0.0, 0.0, 0.0])
            row[0] += group.many
            row[1] += group.many * group.rate
            row[2] += group.many * part
        own, pooled = [], []
        for (name, _), (many, calls, local) in sums.items():
            stream = self.times[name].stream(calls / many, local)
            own.append(stream)
            pooled.append(stream._replace(many=many - local))
        return own, pooled

    def _backlog(self) -> list[Stream]:
        """More calls waiting than chance explains, as a stream that drains them in time. Of as many sessions as
        calls: they do not wait for each other."""
        pools = sum(self.slots.values()) - sum(self._own(node, "local") for node in self.told)
        waiting = self.total("queued") - USUAL * pools
        if waiting <= 0:
            return []
        times = max(self.times.values(), key=lambda t: t.remote)
        return [times.stream(1 / DRAIN, waiting)] if times.remote + times.store < DRAIN else []

    def _chosen(self, local: int) -> tuple[float, list[float]]:
        """The threshold, and the part of each group that is local, with `local` sessions in all."""
        if not self.groups or local <= 0:
            return inf, [0.0] * len(self.groups)
        fair = self._fair(local)
        low = min(group.weight for group in self.groups) - RAMP
        high = max(group.weight for group in self.groups) + RAMP
        threshold = self._crossing(low, high, local, fair)
        return threshold, self._capped(self._parts(threshold, fair))

    def _crossing(self, low: float, high: float, local: int, fair: Mapping[str, float]) -> float:
        """Where the count, which falls in straight pieces, comes down to `local`: false position with halving of the
        end that stays (Illinois), some five steps where bisection takes two dozen."""
        above, below = self._count(self._parts(low, fair)) - local, -float(local)
        kept_end = 0
        for _ in range(STEPS):
            if above <= CLOSE or high - low <= CLOSE:
                break
            middle = low + (high - low) * above / (above - below)
            here = self._count(self._parts(middle, fair)) - local
            if here >= 0:
                low, above, below = middle, here, below / 2 if kept_end > 0 else below
                kept_end = 1
            else:
                high, below, above = middle, here, above / 2 if kept_end < 0 else above
                kept_end = -1
            if abs(here) <= CLOSE:
                return middle
        return low

    def _parts(self, threshold: float, fair: Mapping[str, float]) -> list[float]:
        """The ramp: none an octave below the threshold, all an octave above."""
        low = threshold - RAMP
        parts = [0.0 if g.weight <= low else min(1.0, (g.weight - low) / (2 * RAMP)) for g in self.groups]
        if fair:
            parts = [max(fair[g.function], part) for g, part in zip(self.groups, parts, strict=True)]
        return parts

    def _found(self, parts: Sequence[float]) -> dict[str, float]:
        """Containers on each node, slots or not."""
        found = dict.fromkeys(self._most, 0.0)
        for group, part in zip(self.groups, parts, strict=True):
            found[group.node] += part * group.many / self._sharing[group.function]
        return found

    def _count(self, parts: Sequence[float]) -> float:
        """Sessions, as far as their nodes have the slots."""
        over = any(count > self._most[node] for node, count in self._found(parts).items())
        return sum(part * group.many for group, part in zip(self.groups, self._capped(parts) if over else parts, strict=True))

    def _capped(self, parts: Sequence[float]) -> list[float]:
        """As many on each node as it has slots for."""
        found = self._found(parts)
        room = {node: min(1.0, self._most[node] / count) if count else 1.0 for node, count in found.items()}
        return [part * room[group.node] for group, part in zip(self.groups, parts, strict=True)]

    def _fair(self, local: int) -> dict[str, float]:
        """The part of each function's sessions that is local in any case; only where there are several."""
        names = {group.function for group in self.groups}
        return dict.fromkeys(names, FAIR * local / self._free) if len(names) > 1 and self._free else {}

    def _share(self, best: int, parts: Sequence[float]) -> dict[str, int]:
        """This node's whole number of local sessions by function: all nodes' add up to `best`."""
        exact: dict[tuple[str, str], float] = {}
        for group, part in zip(self.groups, parts, strict=True):
            at = (group.node, group.function)
            exact[at] = exact.get(at, 0.0) + part * group.many
        whole = {at: int(value + 1e-9) for at, value in exact.items()}
        left = best - sum(whole.values())
        for at in sorted(exact, key=lambda at: (whole[at] - exact[at], at))[: max(0, left)]:
            whole[at] += 1
        return {name: whole.get((self._view.node, name), 0) for name in self.functions}


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if value > 0]
    return sum(known) / len(known) if known else 0.0
