"""The client's decisions on connections: whom it dials, when it leaves, what that means for calls on their way."""

import pytest
from support.client_rig import Rig, failure, result

from edged_protocol import messages as m
from edged_protocol.codec import decode, unpack
from edged_protocol.errors import (
    Code,
    UnknownOutcome,
)
from edged_protocol.lines import NEXT, Phase
from edged_protocol.tickets import Unreachable


def test_brokers_are_tried_in_order_and_in_parallel() -> None:
    """A failure leads to the next at once, silence after 250 ms; the first WELCOME wins, the others are closed."""
    rig = Rig("a:1", "b:1", "c:1", "d:1", "e:1")
    met = rig.meet()
    assert rig.dialled == ["a:1"]
    rig.lose(1)
    assert rig.dialled == ["a:1", "b:1"]
    rig.pass_(0.24)
    assert len(rig.dialled) == 2
    rig.pass_(0.02)
    rig.pass_(0.26)
    rig.pass_(0.26)
    assert rig.dialled == ["a:1", "b:1", "c:1", "d:1"], "at most three at once"
    assert not met.done
    rig.greet(3)
    assert met.done
    assert met.error is None
    assert [rig.peers[line].closed for line in (2, 3, 4)] == [True, False, True]
    rig.client.connected(4, rig.now)
    rig.client.lost(4, "late", rig.now)
    assert rig.client.statistics().broker == "c:1"


def test_a_second_welcome_loses_the_race() -> None:
    """Two brokers that greet at the same time leave one connection."""
    rig = Rig("a:1", "b:1")
    rig.meet()
    rig.pass_(0.3)
    for line in (1, 2):
        rig.client.connected(line, rig.now)
    rig.turn()
    rig.client.received(2, rig.peers[2].connection.outgoing(), rig.now)
    rig.client.received(1, rig.peers[1].connection.outgoing(), rig.now)
    rig.turn()
    assert [rig.peers[line].closed for line in (1, 2)] == [True, False]


def test_a_silent_broker_is_given_up() -> None:
    """No WELCOME in 3 s: closed; when each candidate failed, whoever waits for a broker hears why."""
    rig = Rig("a:1")
    met = rig.meet(timeout=60.0)
    rig.client.connected(1, rig.now)
    rig.pass_(3.1)
    assert rig.peers[1].closed
    assert "no greeting in 3 s" in str(failure(met))


def test_a_refusal_before_welcome_is_told() -> None:
    """GOAWAY instead of WELCOME is the reason, and that broker is not asked again soon."""
    rig = Rig("a:1")
    met = rig.meet()
    rig.client.connected(1, rig.now)
    rig.say(1, m.GoAway("unauthenticated"))
    assert "unauthenticated" in str(failure(met))
    rig.pass_(2.0)
    assert rig.dialled == ["a:1"]


def test_what_a_lost_connection_had_goes_first_elsewhere() -> None:
    """Calls in flight are repeated under their ids at the next broker, in their order, before newer ones."""
    rig = Rig("a:1", "b:1")
    rig.up()
    tickets = [rig.call(n) for n in range(3)]
    rig.lose(1)
    newer = rig.call("new")
    assert rig.dialled == ["a:1", "b:1"]
    sent = rig.greet(2).invokes()
    assert [unpack(call.body) for call in sent] == [[0], [1], [2], ["new"]]
    assert [call.call_id for call in sent] == [t.call_id for t in [*tickets, newer]]
    assert [call.meta for call in sent] == [{"attempt": 1}] * 3 + [None]


def test_a_lost_connection_is_a_lost_node_when_time_is_up() -> None:
    """With no broker until the deadline, a call that was in flight is unknown: 403."""
    rig = Rig()
    rig.up()
    ticket = rig.call(timeout=0.5)
    rig.lose(1)
    rig.pass_(0.6)
    error = failure(ticket)
    assert isinstance(error, UnknownOutcome)
    assert error.code == Code.NODE_LOST


def test_goaway_finishes_here_and_goes_on_there() -> None:
    """What is in flight is answered on the old connection, new calls go to a broker named in GOAWAY."""
    rig = Rig("a:1")
    peer = rig.up()
    old = rig.call("old")
    rig.say(1, m.GoAway("draining", {"brokers": [["n2", "b:1"]]}))
    new = rig.call("new")
    assert rig.dialled == ["a:1", "b:1"]
    other = rig.greet(2)
    assert [unpack(call.body) for call in other.invokes()] == [["new"]]
    assert not peer.closed
    rig.say(1, m.Ping(3), result(1, "done"))
    assert old.answer().value == "done"
    assert (old.tries, peer.closed) == (1, True)
    rig.say(2, result(1, "there"))
    assert new.answer().value == "there"


def test_leaving_connections_are_few() -> None:
    """Brokers that send away again and again leave at most four connections to finish; the oldest's calls move on."""
    rig = Rig(*(f"h{n}:1" for n in range(7)))
    rig.meet()
    tickets = []
    for line in range(1, 7):
        rig.greet(line)
        tickets.append(rig.call(line, timeout=60.0))
        rig.say(line, m.GoAway("draining"))
    assert [peer.closed for peer in rig.peers.values()] == [True, True, *[False] * 5]
    rig.greet(7)
    last = [[unpack(call.body)[0] for call in rig.peers[line].invokes()] for line in (6, 7)]
    assert last == [[1, 6], [2]]
    assert not any(ticket.done for ticket in tickets)


def test_welcome_teaches_other_brokers() -> None:
    """A client that was given one address goes on at another when that one is lost."""
    rig = Rig("a:1")
    rig.welcome = {"brokers": [["n1", "a:1"], ["n2", "b:1"], ["n3", "unix:/etc/x"]]}
    rig.up()
    rig.lose(1)
    assert rig.dialled == ["a:1", "b:1"]


def test_a_broker_that_breaks_the_rules_loses_only_its_connection() -> None:
    """GOAWAY says why, its calls are repeated at the next broker, and those of the client go on."""
    for reason, data in (
        ("frame_too_large", b"\xff\xff\xff\xff"),
        ("bad_msgpack", b"\0\0\0\1\xc1"),
    ):
        rig = Rig("a:1", "b:1")
        rig.up()
        ticket = rig.call()
        rig.feed(1, data)
        goaway = decode(rig.peers[1].last_words[4:])
        assert isinstance(goaway, m.GoAway)
        assert (goaway.reason, rig.peers[1].closed) == (reason, True)
        rig.greet(2)
        rig.say(2, result(1, 1))
        assert ticket.answer().attempts == 2


@pytest.mark.parametrize(
    "message",
    [m.Hello({"proto": 1}), m.Welcome({"proto": 1}), m.Cancel(1), m.Request(1, "v", {}),
     m.Invoke(1, "f", None, "", None, 1, b"")],
    ids=lambda message: type(message).__name__,
)  # fmt: skip
def test_what_is_not_for_a_client_ends_the_connection(message: m.Message) -> None:
    """A broker has nothing to ask of a client."""
    rig = Rig("a:1", "b:1")
    rig.up()
    rig.say(1, message)
    assert rig.peers[1].closed
    assert rig.dialled == ["a:1", "b:1"]


def test_a_ping_is_answered() -> None:
    """PONG has the nonce of the PING."""
    rig = Rig()
    peer = rig.up()
    rig.say(1, m.Ping("n"))
    assert peer.got[-1] == m.Pong("n")


def test_a_dead_broker_is_noticed_while_the_call_has_time() -> None:
    """After 1 s of silence a PING, after 3 more the call is at the next broker; any byte is a sign of life."""
    rig = Rig("a:1", "b:1")
    peer = rig.up()
    ticket = rig.call()
    rig.pass_(1.01)
    assert peer.got[-1] == m.Ping(0)
    rig.say(1, m.Pong(0))
    rig.pass_(0.9)
    assert not isinstance(peer.got[-1], m.Ping) or peer.got.count(m.Ping(0)) == 1
    rig.pass_(0.2)
    assert peer.got.count(m.Ping(0)) == 2
    rig.pass_(2.8)
    assert not peer.closed
    assert rig.now < ticket.deadline
    rig.pass_(0.2)
    assert peer.closed
    assert rig.dialled == ["a:1", "b:1"]


def test_an_idle_connection_is_kept_alive() -> None:
    """Without calls a PING every 30 s, and a broker that does not answer it is left."""
    rig = Rig("a:1", "b:1")
    peer = rig.up()
    rig.pass_(29.9)
    assert m.Ping(0) not in peer.got
    rig.pass_(0.2)
    assert peer.got[-1] == m.Ping(0)
    rig.pass_(3.0)
    assert peer.closed


def test_the_first_call_after_a_pause_needs_no_ping() -> None:
    """Silence is counted from the call on."""
    rig = Rig()
    peer = rig.up()
    rig.pass_(20.0)
    rig.call()
    rig.pass_(0.9)
    assert m.Ping(0) not in peer.got


def test_a_broker_that_does_not_read_costs_bounded_memory() -> None:
    """Calls stay in the queue above 256 KiB unsent; PINGs it will not read answers of end the connection."""
    rig = Rig("a:1", "b:1")
    rig.welcome = {"max_frame": 1 << 21}
    rig.up()
    rig.deaf.add(1)
    for _ in range(10):
        rig.call(b"x" * 60_000)
    line = rig.client._lines.get(1)
    assert line is not None
    assert line.pending < 256 * 1024 + 61_000
    assert rig.client.statistics().waiting == 5
    for _ in range(1000):
        rig.say(1, *[m.Ping("x" * 64)] * 100)
        if rig.peers[1].closed:
            break
        assert line.pending < 5 << 20
    assert rig.peers[1].closed


def test_a_flapping_broker_is_not_dialled_in_a_loop() -> None:
    """One that greets and hangs up is left alone for longer each time; one that served is dialled at once."""
    rig = Rig("a:1")
    rig.up()
    rig.pass_(5.0)
    started = rig.now
    rig.lose(1)
    for line in range(2, 12):
        rig.until(rig.client.next_deadline())
        rig.greet(line)
        if line == 2:
            assert rig.now - started <= 0.05
        rig.lose(line)
    assert rig.now - started > 5.0


@pytest.mark.parametrize("before", list(Phase))
@pytest.mark.parametrize("after", list(Phase))
def test_a_line_only_goes_forward(before: Phase, after: Phase) -> None:
    """The table has a row for each phase; every line can end, none comes back."""
    order = list(Phase)
    assert (after in NEXT[before]) <= (order.index(after) > order.index(before))
    assert before is Phase.GONE or Phase.GONE in NEXT[before]


def test_closing_ends_everything() -> None:
    """What was sent is unknown, what was not is not run; nothing can be asked any more."""
    rig = Rig()
    rig.welcome = {"max_inflight": 1}
    peer = rig.up()
    sent, waiting = rig.call(), rig.call()
    rig.client.close(rig.now)
    rig.turn()
    assert (failure(sent).code, peer.closed) == (Code.NODE_LOST, True)
    assert isinstance(waiting.error, Unreachable)
    with pytest.raises(Unreachable, match="closed"):
        rig.call()
    rig.pass_(60.0)
    assert rig.dialled == ["a:1"]
