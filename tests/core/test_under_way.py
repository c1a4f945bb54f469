"""What a broker remembers of the calls it has sent to a node: counted once, and a session's stay together."""

from random import Random

import pytest

from edged.core.balancing import Balancer, Load, UnderWay
from edged.core.calls import Call


class Sent(Balancer):
    """A balancer that tells what is under way by its count."""

    def inflight(self, node: str) -> int:
        return self._function("f").destinations[node].inflight


@pytest.fixture
def balancer() -> Sent:
    return Sent("me", Random(1), lambda _: Load(1, 0, 0, 1000, 0))


@pytest.fixture
def under_way(balancer: Sent) -> UnderWay:
    return UnderWay("me", balancer)


def a_call(session: str | None = None) -> Call:
    return Call(None, 1, "f", session, "m", None, 0.0, 9.0, b"", None)


def test_a_session_is_where_its_oldest_call_is(under_way: UnderWay) -> None:
    """Its calls are away until the last of them is back, and another session's are their own."""
    first, second = a_call("s"), a_call("s")
    assert under_way.sent(first, "n2", 0.0) == under_way.sent(second, "n2", 0.0) == "n2"
    assert under_way.node_of("f", "s") == "n2"
    assert under_way.node_of("f", "t") is None
    under_way.ended(first, 1.0, {"run_us": 1})
    assert under_way.node_of("f", "s") == "n2"
    under_way.ended(second, 1.0, None)
    assert under_way.node_of("f", "s") is None


@pytest.mark.parametrize("meta", [None, {}, {"queue_us": "soon", "run_us": None}])
def test_a_call_ends_once(under_way: UnderWay, balancer: Sent, meta: dict[str, object] | None) -> None:
    """Its answer and the end of its connection may both tell of it, whatever the answer says of its times."""
    call, other = a_call(), a_call()
    under_way.sent(call, "n2", 0.0)
    under_way.sent(other, "n2", 0.0)
    for _ in range(2):
        under_way.ended(call, 1.0, meta)
    assert balancer.inflight("n2") == 1


def test_a_call_that_stays_is_not_away(under_way: UnderWay, balancer: Sent) -> None:
    """This node was chosen for it: it counts for the balancer, and its session's next call is chosen a node anew."""
    call = a_call("s")
    assert under_way.sent(call, "me", 0.0) is None
    assert under_way.node_of("f", "s") is None
    assert balancer.inflight("me") == 1
    under_way.ended(call, 1.0, {"run_us": 1})
    assert balancer.inflight("me") == 0


def test_a_call_chosen_another_node_has_left_the_first(under_way: UnderWay, balancer: Sent) -> None:
    """The queue here was full after all: what was counted for this node must not stay counted for ever."""
    call = a_call("s")
    under_way.sent(call, "me", 0.0)
    assert under_way.sent(call, "n2", 0.0) == "n2"
    assert (balancer.inflight("me"), balancer.inflight("n2")) == (0, 1)
    assert under_way.sent(call, None, 0.0) is None
    assert (balancer.inflight("n2"), under_way.node_of("f", "s"), call.sent_to) == (0, None, None)
