"""Where a broker lets a call run, on its own knowledge alone (DESIGN §6).

Joins the figures of `load` with the policy of each function. This node is a destination like the others, with one
difference: of itself it knows the figures exactly. Refuses to know connections, sessions and which nodes live.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from ..chance import Chance
from .budget import Budget
from .load import Destination, Load
from .policies import POLICIES, Policy

ALPHA = 0.9
"""Of a weight that stays when a sample comes (model.md, "async")."""

OLD = 5.0
"""Seconds: a weight older than that is replaced by the next sample."""

SLOWER = 1.5
"""Times the best service time heard of: then a container free here is no reason to run a call here."""

SHORT = 3.0
"""Times the service time there: what is predicted to take longer is not worth another hop. When all are overloaded
all are much the same, and calls that wander would add to the load."""

MAX_FIGURES = 16
"""Functions whose figures a node tells of, the busiest first."""


class _Destinations(dict[str, Destination]):
    """By node; one that is asked for is there. `wary`: until when whom is not to be trusted with much."""

    def __init__(self, wary: dict[str, float]) -> None:
        self._wary = wary

    def __missing__(self, node: str) -> Destination:
        one = self[node] = Destination(node, self._wary.get(node, 0.0))
        return one


class _Function:
    """One function as this broker sees it."""

    def __init__(self, policy: Policy, name: str, wary: dict[str, float]) -> None:
        self.policy = policy
        self.name = name
        self.destinations = _Destinations(wary)
        self.slow_here = False


class Balancer:
    """The choices of one broker. `own` gives this node's figures of a function, None where it runs none."""

    def __init__(self, node: str, chance: Chance, own: Callable[[str], Load | None]) -> None:
        self._node = node
        self._chance = chance
        self._own = own
        self._functions: dict[str, _Function] = {}
        self._budgets: defaultdict[str, Budget] = defaultdict(Budget)
        self._wary: dict[str, float] = {}

    def policy(self, function: str, name: str) -> None:
        """How calls of `function` are spread from now on."""
        known = self._functions.get(function)
        if known is None or known.name != name:
            self._functions[function] = _Function(POLICIES[name](self._chance), name, self._wary)

    def _function(self, name: str) -> _Function:
        known = self._functions.get(name)
        if known is None:
            self.policy(name, "power-of-d")
            known = self._functions[name]
        return known

    def stays(self, function: str) -> bool:
        """Whether a call runs here without further thought while a container is free here."""
        known = self._functions.get(function)
        return known is None or (self.predicts(function) and not known.slow_here)

    def predicts(self, function: str) -> bool:
        """Whether calls go where they are predicted to end first; else by what earlier ones took."""
        known = self._functions.get(function)
        return known is None or known.name == "power-of-d"

    def choose(self, function: str, others: Iterable[str], now: float) -> str | None:
        """The node for a call that enters here; None when all have said that they are overloaded."""
        known = self._functions.get(function) or self._function(function)
        destinations = known.destinations
        among = [one for node in others if (one := destinations[node]).skipped <= now]
        load, here = self._own(function), None
        if load is not None:
            here = destinations[self._node]
            here.report(load, now)
            if here.skipped <= now:
                among.append(here)
        return self._picked(known, among, here, now)

    def _picked(
        self, known: _Function, among: list[Destination], here: Destination | None, now: float
    ) -> str | None:
        if len(among) < 2:
            return among[0].name if among else None
        # Where every slot is a session's own, a call would wait for one of them to leave.
        among = [one for one in among if one.roomy] or among
        return known.policy.choose(among, here if here in among else None, now).name

    def send_elsewhere(self, function: str, others: Sequence[str], now: float) -> str | None:
        """`choose` for a call that this node cannot run, and `sent`."""
        known = self._functions.get(function) or self._function(function)
        destinations = known.destinations
        if len(others) == 1:
            one = destinations[others[0]]
            if one.skipped > now:
                return None
        else:
            name = self._picked(known, [one for node in others if (one := destinations[node]).skipped <= now], None, now)
            if name is None:
                return None
            one = destinations[name]
        one.sent += 1
        one.inflight += 1
        return one.name

    def onward(self, function: str, others: Iterable[str], now: float) -> str | None:
        """The node for a call that another broker sent here and that would have to wait: figures there were older than
        this node's own. None to keep it, as for a policy that knows nothing of queues."""
        to = self.choose(function, others, now) if self.predicts(function) else None
        if to is None or to == self._node:
            return None
        there = self._function(function).destinations[to]
        service = there.service or 0.0
        return to if there.predicted(service, now) <= SHORT * service + there.rtt else None

    def sent(self, function: str, node: str) -> None:
        """A call went to the node that was chosen."""
        one = (self._functions.get(function) or self._function(function)).destinations[node]
        one.sent += 1
        one.inflight += 1

    def ended(self, function: str, node: str) -> None:
        """It is out of the way without having run there."""
        one = self._function(function).destinations[node]
        one.inflight = max(0, one.inflight - 1)

    def answered(self, function: str, node: str, seconds: float, there: float, now: float, calls: int = 1) -> None:
        """It ran, and is out of the way: it took `seconds` in all, of these `there` in the queue and running. So did
        several that were answered in one moment, in the mean."""
        known = self._functions.get(function) or self._function(function)
        one = known.destinations[node]
        one.inflight = one.inflight - calls if one.inflight > calls else 0
        way = seconds - there if seconds > there else 0.0
        if one.weight is None or now - one.weighed > OLD:
            one.weight, one.rtt = seconds, way
        else:
            kept = ALPHA**calls
            one.weight = kept * one.weight + (1 - kept) * seconds
            one.rtt = kept * one.rtt + (1 - kept) * way
        one.weighed = now
        self._budgets[node].succeeded(calls)
        known.policy.replied(one, known.destinations.values(), now)

    def heard(self, function: str, node: str, load: Load, now: float) -> None:
        """A node's figures of a function it runs."""
        known = self._function(function)
        known.destinations[node].report(load, now)
        own = self._own(function)
        known.slow_here = own is not None and self._slow(own, known)

    def _slow(self, own: Load, known: _Function) -> bool:
        best = [one.service for one in known.destinations.values() if one.name != self._node and one.service]
        return bool(best) and own.service_us / 1e6 > SLOWER * min(best)

    def refused(self, function: str, node: str, seconds: float, now: float) -> bool:
        """A node certainly did not run a call and wants none for `seconds`: whether another may be asked."""
        self._function(function).destinations[node].skipped = now + seconds
        return self._budgets[node].take()

    def be_wary(self, node: str, until: float, now: float) -> None:
        """It comes and goes: until then it is sent less than its figures say."""
        for old in [name for name, end in self._wary.items() if end <= now]:
            del self._wary[old]
        self._wary[node] = until
        for known in self._functions.values():
            known.destinations[node].wary = until

    def forget(self, node: str) -> None:
        """It is gone."""
        self._budgets.pop(node, None)
        for known in self._functions.values():
            known.destinations.pop(node, None)

    def forget_function(self, function: str) -> None:
        """It was removed."""
        self._functions.pop(function, None)
