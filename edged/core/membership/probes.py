"""Questions under way: whether a node answers, directly or through others (SWIM; reliability §2.6).

Decides what a silence means after which time. A silence of everybody says more of this node than of the others,
which is what `health` counts (Lifeguard): the worse it is, the longer this node waits before it says a word.
"""

from typing import NamedTuple

from .profile import Profile

WORST = 8


class Probe:
    """One node asked by this one."""

    def __init__(self, node: str, number: int, now: float) -> None:
        self.node = node
        self.number = number
        self.asked_at = now
        self.helpers = 0
        self.nacks = 0
        self.indirect = False


class Errand(NamedTuple):
    """One node asked on behalf of another, which waits at `address` for `number`."""

    address: str
    number: int
    subject: str
    deadline: float


class Probes:
    """`begin`, then `answered`, or what `due` says."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._number = 0
        self._own: dict[int, Probe] = {}
        self._errands: dict[int, Errand] = {}
        self.health = 0

    def feel(self, worse: int) -> None:
        """Something speaks for or against this node's own health."""
        self.health = max(0, min(WORST, self.health + worse))

    @property
    def timeout(self) -> float:
        """Seconds for a direct answer."""
        return self._profile.timeout * (1 + self.health)

    @property
    def interval(self) -> float:
        """Seconds for any answer, and between two probes."""
        return self._profile.interval * (1 + self.health)

    def begin(self, node: str, now: float) -> int | None:
        """Ask a node; the number of the question, or None if it is being asked."""
        if self.of(node) is not None:
            return None
        self._number += 1
        self._own[self._number] = Probe(node, self._number, now)
        return self._number

    def of(self, node: str) -> Probe | None:
        """The question to a node that is under way."""
        return next((probe for probe in self._own.values() if probe.node == node), None)

    def errand(self, address: str, number: int, subject: str, now: float) -> int:
        """Ask a node for another one; the number of the question."""
        self._number += 1
        deadline = now + self._profile.timeout
        self._errands[self._number] = Errand(address, number, subject, deadline)
        return self._number

    def answered(self, number: int) -> Probe | Errand | None:
        """What a number was asked for; it is answered now."""
        probe = self._own.pop(number, None)
        if probe is not None:
            self.feel(-1)
            return probe
        return self._errands.pop(number, None)

    def denied(self, number: int) -> None:
        """A helper says that it got no answer either, so it hears this node."""
        probe = self._own.get(number)
        if probe is not None:
            probe.nacks += 1

    def next_deadline(self) -> float:
        """When `due` has something to say."""
        end = float("inf")
        for probe in self._own.values():
            end = min(end, self._end(probe))
        for errand in self._errands.values():
            end = min(end, errand.deadline)
        return end

    def _end(self, probe: Probe) -> float:
        return probe.asked_at + (self.interval if probe.indirect else self.timeout)

    def due(self, now: float) -> list[Probe | Errand]:
        """Probes that had no answer in time: to be asked through others (`indirect` was False), or failed (True);
        errands in vain. The failed and the errands are over."""
        found: list[Probe | Errand] = []
        for probe in [p for p in self._own.values() if self._end(p) <= now]:
            found.append(probe)
            if probe.indirect:
                del self._own[probe.number]
        for number, errand in list(self._errands.items()):
            if errand.deadline <= now:
                found.append(errand)
                del self._errands[number]
        return found

    def failed(self, probe: Probe) -> None:
        """All was silent; helpers that did not even say so speak against this node."""
        if probe.nacks < max(1, probe.helpers):
            self.feel(+1)

    def slept(self, seconds: float) -> None:
        """This node was not there for a while: that is nobody else's fault."""
        self.feel(+1)
        for probe in self._own.values():
            probe.asked_at += seconds
