"""The client's decisions on control verbs and streams: what silence means, what is taken."""

import pytest
from support.client_rig import Rig, failure, result

from edged_protocol import messages as m
from edged_protocol.errors import (
    Code,
    NotRunRetry,
)
from edged_protocol.tickets import Unreachable


def test_a_verb_is_asked_once_and_answered_with_its_blob() -> None:
    """REQUEST and REPLY carry byte strings; an ERROR of any kind is raised, since only the caller may repeat."""
    rig = Rig()
    peer = rig.up()
    ticket = rig.client.request("function.upload", {"offset": 0}, b"piece", None, rig.now)
    rig.turn()
    assert peer.got[-1] == m.Request(1, "function.upload", {"offset": 0}, b"piece")
    rig.say(1, m.Reply(1, {"have": 5}, b"blob"))
    assert ticket.outcome() == ({"have": 5}, b"blob")
    refused = rig.client.request("session.migrate", {}, None, None, rig.now)
    rig.turn()
    rig.say(1, m.Error(2, 103, "busy", {"retry_after_ms": 1}))
    assert failure(refused).code == 103


@pytest.mark.parametrize(("verb", "seconds"), [("node.status", 10.0), ("session.migrate", 65.0)])
@pytest.mark.parametrize("how", ["lost", "silent", "unsent"])
def test_silence_matters_where_something_changes(verb: str, seconds: float, how: str) -> None:
    """A reading verb without answer is Unreachable, a changing one unknown: 403, or 401 when time is up."""
    rig = Rig()
    if how != "unsent":
        rig.up()
    ticket = rig.client.request(verb, {}, None, None, rig.now)
    rig.turn()
    if how == "lost":
        rig.lose(1)
    while not ticket.done:
        if how == "silent":
            rig.say(1, m.Pong(0))
        rig.pass_(0.5)
    assert how == "lost" or seconds <= rig.now - 100.0 < seconds + 0.6
    if seconds == 10.0 or how == "unsent":
        assert isinstance(ticket.error, Unreachable)
    else:
        assert failure(ticket).code == (403 if how == "lost" else 401)


@pytest.mark.parametrize("answer", [m.Reply(1, 1), m.Item(1, 1, True), result(1)])
def test_the_wrong_kind_of_answer_is_a_defect(answer: m.Message) -> None:
    """A call is answered with RESULT, a verb with REPLY; anything else is told as 500 and ends the wait."""
    rig = Rig()
    rig.up()
    call = rig.call() if not isinstance(answer, m.Result) else None
    verb = None if call else rig.client.request("node.status", {}, None, None, rig.now)
    rig.turn()
    rig.say(1, answer)
    assert failure(call or verb).code == Code.INTERNAL


def test_a_stream_gives_its_items_in_order() -> None:
    """ITEMs until the last, which may be empty; each wakes whoever waits."""
    rig = Rig()
    rig.up()
    feed = rig.client.feed("function.logs", {"name": "f"}, None, rig.now)
    rig.turn()
    assert not feed.ready
    rig.say(1, m.Item(1, "a", False), m.Item(1, None, False), m.Item(1, "b", False))
    assert (feed.take(), feed.take(), feed.done) == (["a"], ["b"], False)
    rig.say(1, m.Item(1, "c", False), m.Item(1, None, True))
    assert (feed.done, feed.take(), feed.take(), feed.take()) == (True, ["c"], [], [])


@pytest.mark.parametrize(("follow", "ends"), [(False, True), (True, False)])
def test_a_stream_waits_for_each_item(follow: bool, ends: bool) -> None:
    """10 s for each item, counted anew from the last; with `follow` without end."""
    rig = Rig()
    rig.up()
    feed = rig.client.feed("function.logs", {"follow": follow}, None, rig.now)
    rig.turn()
    for _ in range(3):
        rig.say(1, m.Item(1, "a", False))
        for _ in range(18):
            rig.pass_(0.5)
            rig.say(1, m.Pong(0))
    assert not feed.done
    for _ in range(40):
        rig.pass_(0.5)
        rig.say(1, m.Pong(0))
    assert feed.done == ends
    assert [feed.take() for _ in range(3)] == [["a"]] * 3
    if ends:
        with pytest.raises(Unreachable):
            feed.take()
        assert rig.peers[1].cancels() == [1]


def test_items_nobody_takes_are_bounded() -> None:
    """A stream faster than its reader ends with 101 after what was kept; the broker is told to stop."""
    rig = Rig()
    peer = rig.up()
    feed = rig.client.feed("function.logs", {"follow": True}, None, rig.now)
    rig.turn()
    for _ in range(50):
        rig.say(1, *[m.Item(1, "x" * 1000, False)] * 50)
    assert peer.cancels() == [1]
    with pytest.raises(NotRunRetry, match="faster than they are taken"):
        while feed.take():
            pass
