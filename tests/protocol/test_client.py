"""The client's decisions on calls, message by message: how many are asked, what is repeated, what is told."""

import pytest
from support.client_rig import Rig, failure, result

from edged_protocol import book
from edged_protocol import messages as m
from edged_protocol.codec import unpack
from edged_protocol.errors import (
    Code,
    Defect,
    LocalProtocolError,
    NotRunRetry,
    UnknownOutcome,
    outcome_of,
)
from edged_protocol.tickets import MARGIN, Unreachable

# One call


def test_a_call_carries_id_time_and_wish() -> None:
    """INVOKE has a call id of 16 bytes, the time left, the arguments as an array, and the wish."""
    rig = Rig(token="t", role="operator")
    peer = rig.up()
    ticket = rig.call(1, "x", prefer="local", timeout=2.0)
    hello, invoke = peer.got
    assert isinstance(hello, m.Hello)
    assert hello.info == {"proto": 1, "role": "operator", "name": "rig", "token": "t"}
    assert isinstance(invoke, m.Invoke)
    assert invoke[1:6] == ("f", "s", "m", ticket.call_id, 2000)
    assert len(invoke.call_id or b"") == 16
    assert unpack(invoke.body) == [1, "x"]
    assert invoke.meta == {"prefer": "local"}


def test_an_answer_says_what_the_mesh_said() -> None:
    """Value, place, epoch, version, timings and the number of tries; what was not said is None."""
    rig = Rig()
    rig.up()
    ticket = rig.call()
    rig.say(
        1, result(1, [1, b"\0"], node="n", mode="local", epoch=3, version=9, run_us=4, home="h")
    )
    answer = ticket.answer()
    assert (answer.value, answer.node, answer.mode) == ([1, b"\0"], "n", "local")
    assert (answer.epoch, answer.version, answer.timings) == (3, 9, {"run_us": 4})
    assert (answer.attempts, answer.call_id, answer.meta["home"]) == (1, ticket.call_id, "h")
    bare = rig.call()
    rig.say(1, result(2))
    assert (bare.answer().node, bare.answer().epoch, bare.answer().timings) == (None, None, {})


def test_answers_come_in_any_order_and_unknown_ones_are_ignored() -> None:
    """Each answer finds its call by id; one nobody waits for changes nothing."""
    rig = Rig()
    rig.up()
    first, second = rig.call(), rig.call()
    rig.say(1, result(99), result(2, "two"), result(2, "again"), m.Reply(7, None), result(1, "one"))
    assert (first.answer().value, second.answer().value) == ("one", "two")


def test_an_answer_that_is_no_msgpack_is_told_as_a_defect() -> None:
    """Bodies are opaque to the mesh; the caller hears that the call has run."""
    rig = Rig()
    rig.up()
    ticket = rig.call()
    rig.say(1, m.Result(1, b"\xc1"))
    with pytest.raises(Defect, match="has run"):
        ticket.answer()


@pytest.mark.parametrize("seconds", [0, -1, 3601, float("nan")])
def test_a_timeout_the_wire_cannot_carry_is_refused(seconds: float) -> None:
    """More than 0 and at most an hour."""
    rig = Rig()
    with pytest.raises(ValueError, match="timeout"):
        rig.call(timeout=seconds)


def test_what_cannot_be_sent_is_refused_here() -> None:
    """Arguments msgpack has no form for, a call id of the wrong length, a frame beyond the broker's limit."""
    rig = Rig()
    peer = rig.up()
    with pytest.raises(LocalProtocolError):
        rig.call(object())
    with pytest.raises(ValueError, match="16 bytes"):
        rig.call(call_id=b"short")
    assert failure(rig.call(b"x" * 70_001)).code == Code.TOO_LARGE
    surrogate = rig.client.request("v", {"k": "\ud800"}, None, None, rig.now)
    assert isinstance(surrogate.error, LocalProtocolError)
    assert peer.invokes() == []
    assert rig.client.statistics().open == 0


# Many calls


def test_no_more_than_max_inflight_are_on_a_connection() -> None:
    """Others wait, and follow in order as answers free slots; what waits is sent with the time it has left."""
    rig = Rig()
    rig.welcome = {"max_inflight": 2}
    peer = rig.up()
    tickets = [rig.call(n, timeout=4.0) for n in range(4)]
    assert [unpack(call.body) for call in peer.invokes()] == [[0], [1]]
    rig.pass_(1.0)
    rig.say(1, result(2))
    assert [unpack(call.body) for call in peer.invokes()] == [[0], [1], [2]]
    assert peer.invokes()[-1].timeout_ms == 3000
    rig.say(1, result(1), result(3))
    rig.say(1, result(4))
    assert all(ticket.done and ticket.error is None for ticket in tickets)


@pytest.mark.parametrize("limit", ["MAX_OPEN", "MAX_OPEN_BYTES"])
def test_a_full_client_says_so(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    """Beyond its bounds a client refuses with 101 and how many are open; an answer makes room."""
    monkeypatch.setattr(book, limit, 2 if limit == "MAX_OPEN" else 250)
    rig = Rig()
    rig.up()
    for _ in range(2):
        rig.call(b"x" * 100)
    with pytest.raises(NotRunRetry, match="101 overloaded: this client has 2 calls open"):
        rig.call(b"x" * 100)
    rig.say(1, result(1))
    rig.call(b"x" * 100)


def test_a_call_that_found_no_room_was_not_run() -> None:
    """Waiting behind others until the deadline is 101, never an unknown outcome."""
    rig = Rig()
    rig.welcome = {"max_inflight": 1}
    rig.up()
    rig.call(timeout=60.0)
    waiting = rig.call(timeout=0.5)
    rig.pass_(0.5)
    assert failure(waiting).code == Code.OVERLOADED
    assert isinstance(waiting.error, NotRunRetry)


def test_a_cancelled_call_is_told_and_holds_its_slot_until_answered() -> None:
    """CANCEL goes out; the broker counts the call until it answers or its time is over, so the client does."""
    rig = Rig()
    rig.welcome = {"max_inflight": 1}
    peer = rig.up()
    for end in ("answer", "time"):
        given_up = rig.call(timeout=2.0)
        behind = rig.call(timeout=9.0)
        rig.client.cancel(given_up, rig.now)
        rig.turn()
        id_ = peer.invokes()[-1].id
        assert peer.cancels()[-1] == id_
        assert given_up not in rig.woken
        if end == "answer":
            rig.say(1, result(id_))
        else:
            rig.say(1, m.Pong(0))
            rig.pass_(2.9)
            rig.say(1, m.Pong(0))
            assert len(peer.invokes()) == 3
            rig.pass_(0.2)
        assert peer.invokes()[-1].call_id == behind.call_id
        rig.say(1, result(peer.invokes()[-1].id))
        assert behind.error is None
    waiting = rig.call(), rig.call()
    rig.client.cancel(waiting[1], rig.now)
    rig.turn()
    assert len(peer.cancels()) == 2, "what was never sent needs no CANCEL"


def test_memory_does_not_grow_with_calls() -> None:
    """After many calls, cancelled and answered, nothing of them is left but a bounded list of alarms."""
    rig = Rig()
    rig.up()
    for n in range(2000):
        ticket = rig.call(timeout=3600.0)
        if n % 2:
            rig.client.cancel(ticket, rig.now)
        rig.say(1, result(n + 1, epoch=1))
    assert len(rig.client._book._alarms) < 200
    said = rig.client.statistics()
    assert (said.in_flight, said.waiting, said.open) == (0, 0, 0)
    assert rig.client._book._bytes == 0


# Repeats


@pytest.mark.parametrize("code", [*Code, 199, 499, 299, 399, 777])
def test_each_code_is_repeated_as_its_hundred_says(code: int) -> None:
    """1xx: same id, same attempt; 4xx but 404: same id, attempt + 1; all others are raised at once."""
    rig = Rig()
    peer = rig.up()
    ticket = rig.call()
    rig.say(1, m.Error(1, code, "because", {"k": 1}))
    outcome = outcome_of(code)
    if code == 404 or outcome not in ("not_run_retry", "unknown"):
        error = failure(ticket)
        assert (error.code, error.message, error.meta) == (code, "because", {"k": 1})
        return
    assert not ticket.done
    rig.pass_(0.06)
    first, second = peer.invokes()
    assert second.call_id == first.call_id
    assert second.meta == (None if outcome == "not_run_retry" else {"attempt": 1})
    assert second.timeout_ms < first.timeout_ms
    rig.say(1, result(second.id, 7))
    assert (ticket.answer().value, ticket.answer().attempts) == (7, 2)


def test_attempt_counts_only_what_may_have_run() -> None:
    """Along 1xx, 4xx, 401 not run, a lost connection and 1xx again, `attempt` rises for the 4xx and the loss."""
    rig = Rig("a:1", "b:1")
    rig.up()
    ticket = rig.call(timeout=30.0)
    line = 1
    for code, meta, attempt in (
        (103, {"retry_after_ms": 1}, 0),
        (402, None, 1),
        (401, {"ran": False}, 1),
        (None, None, 2),
        (101, {"retry_after_ms": 1}, 2),
    ):
        peer = rig.peers[line]
        if code is None:
            rig.lose(line)
            line += 1
            rig.greet(line)
        else:
            rig.say(line, m.Error(peer.invokes()[-1].id, code, "", meta))
            rig.pass_(0.9)
        sent = rig.peers[line].invokes()[-1]
        assert (sent.meta or {}).get("attempt", 0) == attempt, code
        assert sent.call_id == ticket.call_id
    rig.say(line, result(sent.id))
    assert ticket.answer().attempts == 6


def test_the_broker_s_pause_is_kept_and_a_hopeless_one_is_not_waited_for() -> None:
    """No repeat before retry_after_ms; one that would come after the deadline is raised at once."""
    rig = Rig()
    peer = rig.up()
    ticket = rig.call(timeout=1.0)
    rig.say(1, m.Error(1, 101, "busy", {"retry_after_ms": 400}))
    rig.pass_(0.39)
    assert len(peer.invokes()) == 1
    rig.pass_(0.21)
    assert len(peer.invokes()) == 2
    rig.say(1, m.Error(2, 101, "busy still", {"retry_after_ms": 400}))
    assert failure(ticket).message == "busy still"


def test_an_overload_is_not_fed() -> None:
    """When every call is answered 101, repeats are the burst, a fifth of the calls and ten a second."""
    rig = Rig()
    peer = rig.up()
    calls = 0
    while rig.now < 120.0:
        for _ in range(20):
            rig.call(timeout=2.0)
            calls += 1
        asked = [call.id for call in peer.invokes()]
        peer.got.clear()
        rig.say(1, *(m.Error(id_, 101, "busy", {"retry_after_ms": 10}) for id_ in asked))
        rig.pass_(0.1)
    repeated = rig.client.statistics().repeated
    # What is planned when it ends is counted, but not yet sent: 2 s of it at most.
    assert 256 + 0.2 * calls <= repeated <= 256 + 0.2 * calls + 10 * (20.0 + 2.0)


def test_not_run_is_not_said_after_a_try_that_may_have_run() -> None:
    """A 1xx or 2xx that ends a call whose earlier try is in doubt leaves the outcome unknown."""
    for code in (101, 204):
        rig = Rig()
        rig.up()
        ticket = rig.call(timeout=1.0)
        rig.say(1, m.Error(1, 402, "container died"))
        rig.pass_(0.06)
        rig.say(1, m.Error(2, code, "no", {"retry_after_ms": 9000}))
        error = failure(ticket)
        assert isinstance(error, UnknownOutcome)
        assert (error.code, error.meta["last_code"]) == (402, code)
        assert "container died" in str(error)


def test_once_is_never_repeated_in_doubt() -> None:
    """With `once` a 1xx is repeated, a 4xx and a lost connection are told; without session it needs no id."""
    rig = Rig()
    peer = rig.up()
    ticket = rig.call(once=True)
    rig.say(1, m.Error(1, 103, "moving", {"retry_after_ms": 1}))
    rig.pass_(0.01)
    assert peer.invokes()[1].call_id == ticket.call_id
    rig.say(1, m.Error(2, 402, "died"))
    assert failure(ticket).code == 402
    stateless, named = rig.call(session=None, once=True), rig.call(session=None)
    assert [call.call_id for call in peer.invokes()[2:]] == [None, named.call_id]
    assert named.call_id is not None
    rig.lose(1)
    assert failure(stateless).code == Code.NODE_LOST
    assert not named.done


def test_a_lost_state_is_told_at_once() -> None:
    """105 with `state_lost` reaches the application, although 105 alone is repeated."""
    rig = Rig()
    rig.up()
    ticket = rig.call()
    rig.say(1, m.Error(1, 105, "lost", {"state_lost": True}))
    assert failure(ticket).meta == {"state_lost": True}


# Deadlines


def test_the_client_waits_for_the_broker_s_own_verdict() -> None:
    """A 401 after the deadline is the broker's; only after a second of silence the client makes its own."""
    rig = Rig()
    peer = rig.up()
    told, silent = rig.call(timeout=0.5), rig.call(timeout=0.5)
    rig.pass_(0.6)
    rig.say(1, m.Error(1, 401, "still running", {"queue": 1}))
    assert failure(told).meta == {"queue": 1}
    assert peer.cancels() == []
    rig.pass_(MARGIN - 0.11)
    assert not silent.done
    rig.pass_(0.02)
    assert (failure(silent).code, failure(silent).message) == (401, "no answer in time")
    assert peer.cancels() == [2]
    rig.say(1, result(2))
    assert rig.woken.count(silent) == 1


def test_without_a_broker_a_call_was_not_run() -> None:
    """When none is to be had until the deadline it is Unreachable, which names every failure."""
    rig = Rig("a:1", "b:1")
    ticket = rig.call(timeout=0.2)
    for line in (1, 2):
        rig.lose(line)
    rig.until(100.3)
    error = failure(ticket)
    assert isinstance(error, Unreachable)
    assert isinstance(error, NotRunRetry)
    assert "a:1: reset; b:1: reset" in str(error)


# The epoch fence


@pytest.mark.parametrize("stale", [result(2, "stale", epoch=4), m.Error(2, 301, "", {"epoch": 4})])
def test_an_answer_of_a_superseded_owner_is_none(stale: m.Message) -> None:
    """A RESULT or 3xx below the highest epoch seen is dropped, and the same call id asked as another attempt."""
    rig = Rig()
    peer = rig.up()
    rig.call()
    rig.say(1, result(1, epoch=5))
    ticket = rig.call()
    rig.say(1, stale)
    assert not ticket.done
    rig.pass_(0.06)
    again = peer.invokes()[-1]
    assert (again.call_id, again.meta) == (ticket.call_id, {"attempt": 1})
    rig.say(1, result(3, "fresh", epoch=5))
    assert ticket.answer().value == "fresh"
    assert rig.client.statistics().fenced == 1


def test_the_fence_is_per_session_and_heeds_answers_only() -> None:
    """Another session, a stateless call and a refusal are not measured by it, nor do they raise it."""
    rig = Rig()
    rig.up()
    rig.call()
    rig.say(1, result(1, epoch=5))
    others = [rig.call(session="t"), rig.call(session=None), rig.call()]
    rig.say(1, result(2, epoch=1), result(3, epoch=1))
    rig.say(1, m.Error(4, 204, "", {"epoch": 9}))
    assert [ticket.error is None for ticket in others] == [True, True, False]
    last = rig.call()
    rig.say(1, result(5, epoch=5))
    assert last.done
    assert last.error is None
