"""A scenario played several times with the same calls: all remote-state, so many sessions local once for all, and the
policy. The best of the static ones is the oracle: what somebody who knew it all beforehand could have set.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .account import Result
from .mesh import APPLICATIONS, DYNAMIC, Choice, play
from .scenario import Scenario

POINTS = 9
"""Static points when the scenario says "auto"."""

Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Comparison:
    """`static` by number of local sessions, the first being all-remote; `applications` where these have wishes."""

    scenario: Scenario
    static: dict[int, Result]
    applications: Result | None
    dynamic: Result

    @property
    def oracle(self) -> int:
        """The best static number."""
        lasting = {k: result for k, result in self.static.items() if result.stable} or self.static
        return min(lasting, key=lambda k: (lasting[k].latency["all"].mean + lasting[k].refused, k))

    @property
    def rows(self) -> Iterator[tuple[str, Result]]:
        """All runs, named."""
        for k, result in self.static.items():
            yield f"{result.name} (oracle)" if k == self.oracle else result.name, result
        if self.applications is not None:
            yield self.applications.name, self.applications
        yield self.dynamic.name, self.dynamic


def points(scenario: Scenario) -> list[int]:
    """The static numbers to try: all-remote, then the scenario's, or evenly up to all there are sessions and slots for."""
    if scenario.static is not None:
        return sorted({0, *scenario.static})
    clients = sum(group.count for group in scenario.clients)
    most = min(clients, sum(scenario.containers) - len(scenario.containers))
    return sorted({round(most * step / (POINTS - 1)) for step in range(POINTS)})


def compare(scenario: Scenario, progress: Progress | None = None) -> Comparison:
    """Play all of it."""
    tries = points(scenario)
    wishes = any(group.local_share for group in scenario.clients)
    choices = [Choice(f"{k} local" if k else "all remote", k) for k in tries] + [APPLICATIONS] * wishes + [DYNAMIC]

    def run(number: int) -> Result:
        name = choices[number].name
        told = None if progress is None else (lambda share: progress(name, (number + share) / len(choices)))
        return play(scenario, choices[number], told)

    runs = [run(number) for number in range(len(choices))]
    return Comparison(scenario, dict(zip(tries, runs, strict=False)), runs[-2] if wishes else None, runs[-1])
