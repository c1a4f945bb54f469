"""A client that follows its sessions' home: when it changes its broker, and that nothing is lost when it does."""

from typing import Any

from support.client_rig import Rig, result

from edged_protocol import messages as m
from edged_protocol.homes import MANY, Homes

BROKERS = [["here", "a:1"], ["there", "b:2"]]


def rig_at_home(**options: Any) -> Rig:
    """A client connected to `here`, that knows where `there` is."""
    rig = Rig(**options)
    rig.welcome = {"brokers": BROKERS}
    rig.up()
    return rig


def calls(rig: Rig, count: int, line: int = 1, **meta: Any) -> None:
    """So many calls, each answered with that meta."""
    for _ in range(count):
        ticket = rig.call()
        rig.say(line, result(ticket.id, None, epoch=1, **meta))
        assert ticket.done


def test_only_a_row_of_answers_says_where_home_is() -> None:
    """Enough in a row that name the same node; one that names another, or none, begins anew."""
    homes = Homes()
    assert [homes.told("x") for _ in range(MANY)] == [None] * (MANY - 1) + ["x"]
    for other in ("y", None, 7):
        assert [homes.told("x") for _ in range(MANY - 1)] == [None] * (MANY - 1)
        assert homes.told(other) is None
    assert [homes.told(None) for _ in range(3 * MANY)] == [None] * 3 * MANY


def test_a_client_goes_to_its_sessions_home() -> None:
    """It dials the node that the answers name and asks it from its greeting on; what is in flight is answered as ever."""
    rig = rig_at_home(follow_home=True)
    calls(rig, MANY, home="there")
    assert rig.dialled == ["a:1", "b:2"]
    under_way = rig.call()
    there = rig.greet(2)
    moved = rig.call()
    assert [invoke.id for invoke in there.invokes()] == [moved.id]
    assert not rig.peers[1].closed
    rig.say(1, result(under_way.id, 1, epoch=1))
    assert under_way.done and under_way.error is None
    assert rig.peers[1].closed
    rig.say(2, result(moved.id, 2, epoch=1))
    calls(rig, 3 * MANY, line=2)
    assert rig.dialled == ["a:1", "b:2"]


def test_a_client_goes_on_with_its_sessions() -> None:
    """When they move on, or back, it comes after them again."""
    rig = rig_at_home(follow_home=True)
    calls(rig, MANY, home="there")
    rig.greet(2)
    calls(rig, MANY, home="here", line=2)
    assert rig.dialled == ["a:1", "b:2", "a:1"]


def test_a_client_stays_unless_it_is_asked_to_follow() -> None:
    """By default the mesh forwards its calls."""
    rig = rig_at_home()
    calls(rig, 3 * MANY, home="there")
    assert rig.dialled == ["a:1"]


def test_a_home_that_is_not_there_changes_nothing() -> None:
    """A node nobody has told of is not dialled; one that cannot be reached is left alone for a while."""
    rig = rig_at_home(follow_home=True)
    calls(rig, 2 * MANY, home="nowhere")
    assert rig.dialled == ["a:1"]
    calls(rig, MANY, home="there")
    rig.lose(2)
    calls(rig, MANY - 1, home="there")
    assert rig.client.statistics().broker == "a:1"
    rig.pass_(10)
    calls(rig, MANY, home="there")
    assert rig.dialled == ["a:1", "b:2", "b:2"]


def test_calls_without_a_session_have_no_home() -> None:
    """They run where there is room."""
    rig = rig_at_home(follow_home=True)
    for _ in range(2 * MANY):
        ticket = rig.call(session=None)
        rig.say(1, m.Result(ticket.id, b"", {"home": "there"}))
    assert rig.dialled == ["a:1"]
