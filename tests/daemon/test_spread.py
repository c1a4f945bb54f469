"""Which calls leave a node, and for where: those that enter here, and those that another broker sent."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from edged.core.calls import Call
from edged.core.routing import Router
from edged.daemon.spread import Spread
from edged.daemon.workers import Workers


class OneContainer:
    """The containers of a node that has one, busy unless said otherwise."""

    free = False
    served = SimpleNamespace(starts_local=lambda function: False)

    def figures(self, function: str) -> tuple[int, int, int, int, int]:
        return 1, 0 if self.free else 1, 0 if self.free else 5, 100_000, 0

    def at_once(self, function: str) -> bool:
        return self.free


@pytest.fixture
def workers() -> OneContainer:
    return OneContainer()


@pytest.fixture
def spread(workers: OneContainer) -> Spread:
    """Of node n1, which knows n2 and n3 to be free."""
    router = Router("n1")
    for node in ("n2", "n3"):
        router.peer(node, ["f"])
    spread = Spread("n1", router, cast(Workers, workers), {})
    for node in ("n2", "n3"):
        spread.reported(node, "f", [1, 0, 0, 100_000, 0], 0.0)
    return spread


def sent_by(node: str, hops: int, session: str | None = None) -> Call:
    origin: Any = (SimpleNamespace(name=node), 1)
    return Call(origin, 1, "f", session, "m", None, 0.0, 9.0, b"", {"hops": hops})


def test_a_call_that_would_wait_goes_on_and_never_back(spread: Spread) -> None:
    """Its broker did not know how busy this node is; the third node is free. Whoever sent it knows better of itself."""
    assert {spread.elsewhere(sent_by("n2", 1), 0.0) for _ in range(2)} == {"n3"}
    assert spread.elsewhere(sent_by("a device", 0), 0.0) in {"n2", "n3"}


def test_a_call_goes_on_once(spread: Spread) -> None:
    """After two hops it waits where it is."""
    assert spread.elsewhere(sent_by("n2", 2), 0.0) is None


def test_a_call_that_can_run_stays(spread: Spread, workers: OneContainer) -> None:
    """A container is free here: nothing is gained by another hop."""
    workers.free = True
    assert spread.elsewhere(sent_by("n2", 1), 0.0) is None


def test_only_predictions_send_a_call_on(spread: Spread) -> None:
    """The paper's policies weigh by what earlier calls took: the first broker's choice stands."""
    spread.balancer.policy("f", "round-robin")
    assert spread.elsewhere(sent_by("n2", 1), 0.0) is None


def test_a_session_that_went_on_has_its_next_calls_follow(spread: Spread, workers: OneContainer) -> None:
    """They keep their order, whether or not a container is free by then."""
    assert spread.elsewhere(sent_by("n2", 1, "s"), 0.0) == "n3"
    workers.free = True
    assert spread.elsewhere(sent_by("n2", 1, "s"), 0.0) == "n3"
    assert spread.elsewhere(sent_by("n2", 1, "other"), 0.0) is None
