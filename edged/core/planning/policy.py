"""Which sessions of this node should change their place now, and why (DESIGN §7): `plan`.

Run by every node on what it has and what gossip says; there is no coordinator. In this order, within a budget of moves:
what applications and manifests want, as far as the pools of the mesh can bear it; what memory forces; this node's share
of the mesh's optimum (`target`); sessions whose client enters elsewhere. No session twice within its dwell time.

Two things keep it still. A number of local sessions whose mean latency is within `hysteresis` of the best one is good
enough; once this node has begun to move, it goes on to a quarter of that. And a move must win more in a minute than it
costs. Refuses to know how a move is made and whether it succeeds: what failed is seen in the next view.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from .figures import Place, believed, figures, place
from .target import RAMP, Mesh, Target, kept
from .view import Function, Move, Peer, Plan, Session, View

SETTLING = 15.0
"""Seconds after its last move in which a node goes on towards the optimum itself."""

CLOSER = 0.25
"""Part of the hysteresis that is left to go then."""

HORIZON = 60.0
"""Seconds in which a move has to win what it costs: loads change."""

FULL_MEMORY = 0.9
"""Part of the memory from which sessions have to leave: a container may grow."""

OFF = 4
"""Sessions by which a node may be off its share while the mesh as a whole is right."""


@dataclass(frozen=True, slots=True)
class _Row:
    """A session, with the rate that is believed of it."""

    function: Function
    session: Session
    rate: float
    place: Place

    @property
    def local(self) -> bool:
        return self.session.mode == "local"

    def rested(self, now: float) -> bool:
        """Whether its dwell time is over."""
        return now - self.session.moved >= self.function.dwell


class _Round:
    """One plan in the making."""

    def __init__(self, view: View, now: float) -> None:
        self.view = view
        self.now = now
        self.figures = {function.name: figures(function) for function in view.functions}
        self.mesh = Mesh(view, self.figures)
        self.target: Target = self.mesh.target()
        self.rows = [row for function in view.functions for row in _rows(function)]
        self.moves: dict[object, Move] = {}
        self._functions = {function.name: function for function in view.functions}
        self.local = dict.fromkeys(self.figures, 0)
        """Local sessions here, once the moves noted so far are made; by function."""
        self.have = dict.fromkeys(self.figures, 0)
        """Those of them that are free."""
        for row in self.rows:
            self.local[row.function.name] += row.local
            self.have[row.function.name] += row.local and row.place == "free"

    @property
    def left(self) -> int:
        """Moves that the budget still allows."""
        return self.view.settings.budget - len(self.moves)

    def of(self, where: Place) -> Iterator[_Row]:
        """The sessions that are held, fixed or free, and may be moved now."""
        for row in self.rows:
            if row.place == where and row.rested(self.now) and row.session.key not in self.moves:
                yield row

    def move(self, row: _Row, to: str, reason: str, gain: float | None = None) -> bool:
        """Note a move, if it is worth its cost; `gain` None: nobody asks what it is worth."""
        cost = row.rate * row.function.transition**2 / 2 + row.rate * row.function.transition * row.function.store
        if self.left <= 0 or (gain is not None and gain * HORIZON <= cost):
            return False
        self.moves[row.session.key] = Move(row.session.key, to, reason, gain or 0.0, cost)
        change = (to == self.view.node) - row.local
        self.local[row.function.name] += change
        self.have[row.function.name] += change if row.place == "free" else 0
        return True

    @property
    def used(self) -> int:
        """Containers that are sessions' own here, then."""
        return sum(self._functions[name].containers_of(local) for name, local in self.local.items())

    def open(self, function: Function) -> bool:
        """Whether one more session may have a place in a container here."""
        if self.local[function.name] % function.sharing:
            return True
        return self.used < self.view.slots - kept(self.view.slots, len(self.view.functions))

    # What is wanted, and what is forced

    def wishes(self) -> None:
        """Local for those that want it, while the pools can bear it; remote-state for those that must be."""
        for row in self.of("fixed"):
            if row.local:
                self.move(row, "", "its application or manifest wants it remote-state")
        room = self.room()
        for row in sorted(self.of("held"), key=lambda row: -row.rate):
            if not row.local and room > 0:
                to = self._place_for_wish(row.function)
                room -= self.move(row, to, "its application or manifest wants it local") if to else 0
        if self.target.room < 0 and self._has_most_granted():
            granted = sorted((row for row in self.of("held") if row.local), key=lambda row: row.rate)
            for row in granted[:1]:
                self.move(row, "", "more sessions want to be local than the pools can bear")

    def room(self) -> int:
        """This node's part of the wishes that may still be granted."""
        room = self.target.room
        return max(1, room // len(self.mesh.slots)) if room > 0 else 0

    def _place_for_wish(self, function: Function) -> str:
        """Here while there is a slot, else where most are free."""
        if self.open(function):
            return self.view.node
        spare = self._spare()
        best = max(spare, key=lambda node: (spare[node], node), default="")
        return best if best and spare[best] > 0 else ""

    def _has_most_granted(self) -> bool:
        granted = {node: sum(row.granted for row in told.values()) for node, told in self.mesh.told.items()}
        return max(granted, key=lambda node: (granted[node], node)) == self.view.node

    def _spare(self) -> dict[str, int]:
        """Containers that the other nodes can give to sessions."""
        return {peer.node: self._spare_of(peer) for peer in self.view.peers}

    def _spare_of(self, peer: Peer) -> int:
        own = 0
        for name, row in peer.figures.items():
            own += self._functions[name].containers_of(row.local) if name in self._functions else row.local
        return peer.slots - kept(peer.slots, len(peer.figures)) - own

    def forced(self) -> None:
        """Where memory is short, or no slot is left for calls that wait, those leave that are worth least."""
        view = self.view
        over = view.memory_used - FULL_MEMORY * view.memory if view.memory else 0.0
        stuck = any(f.queued and not f.containers for f in view.functions)
        local = [row for row in (*self.of("free"), *self.of("held")) if row.local]
        for row in sorted(local, key=lambda row: row.rate / (_memory(row) + 1)):
            if over <= 0 and not (stuck and self.used >= view.slots):
                break
            reason = "memory is short" if over > 0 else "calls wait here, and all slots are sessions' own"
            if self.move(row, "", reason):
                over -= _memory(row)

    # The optimum

    def share(self) -> str:
        """Moves towards this node's share; why, or why not."""
        target = self.target
        if self.view.memory and self.view.memory_used > FULL_MEMORY * self.view.memory:
            return "memory is short"
        spread = target.predict(target.now)
        slack = self._slack() * target.predict(target.best).mean
        beyond = spread.utilisation > self.view.settings.guard and target.now > target.best
        far = beyond or not spread.stable or target.worth(target.now) > slack
        if not far:
            self._clear_cut()
            return f"{target.now} local sessions in the mesh are as good as the best number, {target.best}"
        if target.now < target.best:
            self._up(target)
        elif target.now > target.best:
            self._down(target)
        return f"{target.best} local sessions in the mesh would be best, {target.now} are"

    def _slack(self) -> float:
        settings = self.view.settings
        last = max((row.session.moved for row in self.rows), default=float("-inf"))
        return settings.hysteresis * (CLOSER if self.now - last < SETTLING else 1.0)

    def _up(self, target: Target) -> None:
        gain = self._total_gain(target.now, target.now + 1)
        for row in sorted((row for row in self.of("free") if not row.local), key=lambda row: -row.rate):
            name = row.function.name
            untried = not target.times[name].tried and self.have[name] > 0
            if self.have[name] < target.share[name] and self.open(row.function) and not untried:
                self._local(row, max(gain, self._own_gain(row)))

    def _down(self, target: Target) -> None:
        gain = max(self._total_gain(target.now, target.best), 0.0) or None
        for row in sorted((row for row in self.of("free") if row.local), key=lambda row: row.rate):
            if self.have[row.function.name] > target.share[row.function.name]:
                self.move(row, "", "the pool needs its container more", gain)

    def _clear_cut(self) -> None:
        """The number is right: only sessions that are certainly on the wrong side of the threshold change it, and
        what a node is far off its share."""
        target, guard = self.target, self.view.settings.guard
        spare = target.predict(target.now + 1).utilisation <= guard
        for row in sorted(self.of("free"), key=lambda row: row.rate, reverse=True):
            times, name = target.times[row.function.name], row.function.name
            off = target.share[name] - self.have[name]
            above = times.weight(row.rate) - target.threshold
            if not row.local and spare and self.open(row.function) and (above >= RAMP or off >= OFF):
                spare = not self._local(row, self._own_gain(row))
            elif row.local and ((above <= -RAMP and off < 0) or off <= -OFF):
                self.move(row, "", "others call more often", None)

    def _local(self, row: _Row, gain: float) -> bool:
        return self.move(row, self.view.node, "a container of its own is worth more than it takes from the pool", gain)

    def _total_gain(self, before: int, after: int) -> float:
        """Seconds of latency per second that all calls together win."""
        calls = sum(group.many * group.rate for group in self.mesh.groups)
        one, other = self.target.predict(before).mean, self.target.predict(after).mean
        if other == float("inf"):
            return 0.0
        return (one - other) * calls if one < float("inf") else float("inf")

    def _own_gain(self, row: _Row) -> float:
        """What the session's own calls win by being local."""
        times = self.target.times[row.function.name]
        remote = self.target.predict(self.target.now).mean_of("remote") or times.remote
        busy = row.rate * times.local * times.sharing
        return row.rate * (remote - times.local / (1 - busy)) if busy < 1 else 0.0

    def follow(self) -> None:
        """Sessions whose client enters elsewhere go there, where a slot is free."""
        spare = self._spare()
        for row in [*self.of("free"), *self.of("held")]:
            to = row.session.entrance
            if row.local and spare.get(to, 0) > 0:
                spare[to] -= self.move(row, to, f"its client calls through {to}")


def _rows(function: Function) -> Iterator[_Row]:
    """The sessions of a function; rates are compared within those that are held, fixed or free."""
    sorted_: dict[Place, list[Session]] = {"held": [], "fixed": [], "free": []}
    for session in function.sessions:
        sorted_[place(function, session)].append(session)
    for where, sessions in sorted_.items():
        for session, rate in zip(sessions, believed(sessions), strict=True):
            yield _Row(function, session, rate, where)


def _memory(row: _Row) -> float:
    """Bytes that a local session takes: its part of its container, and its state."""
    return row.function.memory / row.function.sharing + row.session.size


def plan(view: View, now: float) -> Plan:
    """What to do now. The same view at the same time gives the same plan."""
    round_ = _Round(view, now)
    room = {name: round_.room() for name in round_.figures}
    if view.settings.frozen:
        return Plan((), dict.fromkeys(round_.figures, "the policy is frozen"), room)
    round_.wishes()
    round_.forced()
    why = round_.share()
    round_.follow()
    return Plan(tuple(round_.moves.values()), _reasons(round_, why), room)


def _reasons(round_: _Round, why: str) -> Mapping[str, str]:
    """A line for each function."""
    target = round_.target
    return {
        name: f"{why}; {round_.have[name]} of them here, this node's share is {target.share[name]}"
        for name in round_.figures
    }
