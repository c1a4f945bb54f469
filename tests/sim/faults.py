"""What goes wrong in one world: a few kinds of fault, each at its own rate, drawn from the seed.

Few kinds at a time and high rates find more than all kinds at low rates ("swarm"): a rare fault needs a
world in which the session lives long enough to meet it.
"""

from random import Random

from edged.core.transition import SERVING_REMOTE, S

KINDS = (
    "store_refused",  # StoreFailed(False): certainly not applied
    "store_lost",  # StoreFailed(None), and it was not applied
    "store_applied",  # StoreFailed(None), and it was
    "store_late",  # StoreFailed(None), and it is applied later
    "store_slow",
    "store_away",  # every operation fails for a while
    "start_failed",
    "start_slow",  # the container comes after everybody gave up
    "own_killed",  # a session's container dies at some step
    "own_stuck",  # it does nothing any more
    "neighbour_stuck",  # a session that shares it has a call that does not end; only where they share
    "verb_failed",
    "verb_swallowed",  # a verb is never answered, calls are
    "pool_refused",
    "pool_failed",
    "pool_killed",
    "pool_stuck",
    "tell_lost",
    "tell_answer_lost",
    "tell_swallowed",
    "tell_twice",
    "link_cut",  # the connection of the two nodes of a migration, for a while
    "forward_lost",
    "forward_answer_lost",
    "client_lost",  # a client's connection breaks before the answer
    "node_killed",
    "node_paused",
    "node_cut",  # from the store, for a while; its clients and the others still reach it
)

DEADLY = ("own_killed", "node_killed", "node_paused", "node_cut", "link_cut")
"""What happens to a container or a node at the moment its session asks for something."""

RATES = (0.05, 0.15, 0.4)


FAMILIES = ("store_", "start_ own_ verb_", "pool_", "tell_ forward_ link_", "client_", "node_ store_")
"""Kinds that go well together, by how their names begin."""

MOMENTS = tuple(state for state in S if state not in SERVING_REMOTE)
"""Where a world may concentrate its kills: steps of a move, which are soon over."""


def _drawn(chance: Random) -> tuple[str, ...]:
    """None, or of one to three families those kinds that this world has."""
    families = chance.sample(FAMILIES, chance.choice((0, 1, 1, 2, 3)))
    prefixes = tuple(" ".join(families).split())
    share = chance.choice((0.3, 0.6))
    return tuple(kind for kind in KINDS if kind.startswith(prefixes) and chance.random() < share)


class Faults:
    """`hit(kind)` asks whether this time it happens."""

    def __init__(
        self, chance: Random, kinds: tuple[str, ...] | None = None, moment: S | None = None
    ) -> None:
        self._chance = chance
        self.moment = moment
        if kinds is None:
            kinds = _drawn(chance)
            if chance.random() < 0.5:
                self.moment = chance.choice(MOMENTS)
                kinds += chance.choice((("own_killed",), ("own_killed",), ("node_killed",), ("node_paused",), ("node_cut",)))
        self.drawn = {kind: chance.choice(RATES) for kind in kinds}
        self.rates: dict[str, float] = {}
        self._aimed = {kind for kind in kinds if "@" in kind}
        self.deadly = [kind for kind in DEADLY if kind in kinds or any(aim.startswith(f"{kind}@") for aim in kinds)]
        self.kills = chance.randrange(1, 5)
        self._armed = False

    def hit(self, kind: str) -> bool:
        """Whether `kind` happens now."""
        rate = self.rates.get(kind)
        return rate is not None and self._chance.random() < rate

    def kill(self, kind: str, state: S) -> bool:
        """As `hit`, in the state that this world has chosen, and only a few times; always at "kind@state".

        Else nothing would ever get anywhere, and the steps that are soon over would be spared.
        """
        if self._aimed and f"{kind}@{state}" in self._aimed:
            return self._armed
        if not self.kills or kind not in self.rates or self.moment not in (None, state):
            return False
        if self.hit(kind) or (self.moment is state and self._chance.random() < 0.5):
            self.kills -= 1
            return True
        return False

    def arm(self) -> None:
        """It begins to go wrong: not always at once, or no session would ever become local."""
        self._armed, self.rates = True, dict(self.drawn)

    def heal(self) -> None:
        """Nothing goes wrong from now on."""
        self.rates.clear()
