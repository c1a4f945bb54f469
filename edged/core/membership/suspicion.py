"""When a suspect is down: the more nodes suspect it on their own, the sooner (Lifeguard; reliability §2.6)."""

from math import log

from .profile import Profile


class Suspicion:
    """`confirm` by name; `deadline` is when it is down unless it contradicts."""

    def __init__(self, first: str, nodes: int, profile: Profile, now: float) -> None:
        self._least = profile.least_suspicion(nodes)
        self._most = self._least * profile.suspicion_most
        # Of three nodes only one other can confirm, of two none.
        self._wanted = max(0, min(profile.confirmations, nodes - 2))
        self._since = now
        self._who = {first}
        self.deadline = now + self._lasts()
        """Seconds; moves nearer with each confirmation."""

    def _lasts(self) -> float:
        if not self._wanted:
            return self._least
        came = min(len(self._who) - 1, self._wanted)
        share = log(came + 1) / log(self._wanted + 1)
        return max(self._least, self._most - (self._most - self._least) * share)

    def postpone(self, seconds: float) -> None:
        """This node slept: the suspect had no time to contradict."""
        self._since += seconds
        self.deadline += seconds

    def confirm(self, who: str) -> bool:
        """Another node suspects it, too; whether that is news worth passing on."""
        if who in self._who or len(self._who) > self._wanted:
            return False
        self._who.add(who)
        self.deadline = self._since + self._lasts()
        return True
