"""The calls that wait in a container's socket: their order, CANCEL, deadlines, frames in pieces."""

import threading
import time

from support.containers import PATIENCE, InThread, value_of
from support.worker_example import LOCAL, example, load, refused

from edged.sdk import Session
from edged.sdk.channel import LOOK_SECONDS
from edged_protocol import messages as m
from edged_protocol.codec import encode, pack
from edged_protocol.errors import Code


def test_queued_calls_are_served_in_order() -> None:
    """Frames that arrive in one write are answered in their order, each with its id."""
    with InThread(example()) as peer:
        load(peer)
        calls = [peer.invoke("incr", meta=LOCAL) for _ in range(200)]
        peer.send(*calls)
        answers = [peer.receive() for _ in calls]
        assert [answer.id for answer in answers] == [call.id for call in calls]
        assert [value_of(answer) for answer in answers] == list(range(1, 201))


def test_a_cancelled_call_that_waits_is_never_run_nor_answered() -> None:
    """CANCEL of a queued id removes it without a word; one that arrives while an earlier call runs too."""
    fn, runs, cancelled = example(), threading.Event(), threading.Event()

    @fn.handler
    def hold(s: Session) -> bool:
        runs.set()
        told = cancelled.wait(PATIENCE)
        time.sleep(2 * LOOK_SECONDS)  # what is tested: after a call that took longer the socket is looked at
        return told

    with InThread(fn) as peer:
        load(peer)
        first, dropped, last = (peer.invoke("incr", meta=LOCAL) for _ in range(3))
        peer.send(peer.invoke("hold"), first, dropped, last)
        assert runs.wait(PATIENCE)
        peer.send(m.Cancel(dropped.id), m.Cancel(9999))
        cancelled.set()
        answers = [peer.receive() for _ in range(3)]
        assert [answer.id for answer in answers[1:]] == [first.id, last.id]
        assert value_of(answers[2]) == 2


def test_cancelling_all_that_waits_does_not_hold_back_an_answer() -> None:
    """The answer of a call leaves although the queue behind it was emptied by CANCELs."""
    with InThread(example()) as peer:
        load(peer)
        for _ in range(20):
            calls = [peer.invoke("incr", meta=LOCAL) for _ in range(3)]
            peer.send(*calls, *(m.Cancel(call.id) for call in calls[1:]))
            assert peer.receive().id == calls[0].id


def test_an_answer_does_not_wait_for_a_long_call_behind_it() -> None:
    """Only calls known to be short delay an answer; it is there before the long one ends."""
    fn, first_is_there = example(), threading.Event()

    @fn.handler
    def hold(s: Session) -> bool:
        return first_is_there.wait(PATIENCE)

    with InThread(fn) as peer:
        load(peer)
        first_is_there.set()
        assert value_of(peer.local("hold")) is True
        first_is_there.clear()
        peer.send(peer.invoke("incr", meta=LOCAL), peer.invoke("leave"), peer.invoke("hold"))
        assert value_of(peer.receive()) == 1
        first_is_there.set()
        refused(peer.receive(), Code.FUNCTION_ERROR)
        assert value_of(peer.receive()) is True


def test_a_call_that_expired_in_the_queue_is_not_run() -> None:
    """A deadline that passed behind a slow call gives 401 and says that it did not run."""
    with InThread(example()) as peer:
        load(peer)
        peer.send(peer.invoke("nap", 0.1), peer.invoke("incr", meta=LOCAL, timeout_ms=20))
        peer.receive()
        error = refused(peer.receive(), Code.DEADLINE_EXCEEDED)
        assert error.meta == {"ran": False}
        assert value_of(peer.local("incr")) == 1


def test_pings_are_answered_while_calls_wait() -> None:
    """PING gets its nonce back; an unknown message type is refused by its id; strangers are ignored."""
    with InThread(example()) as peer:
        peer.send(m.Ping(77), m.GoAway("restart"))
        assert peer.receive() == m.Pong(77)
        peer.sock.sendall(b"\0\0\0\x03\x92\x63\x05")
        assert peer.receive().code == Code.BAD_REQUEST


def test_frames_may_come_in_any_pieces() -> None:
    """A call that arrives byte by byte, or with a megabyte of state, is one call."""
    with InThread(example()) as peer:
        for byte in encode(peer.invoke("incr", 3)):
            peer.sock.sendall(bytes([byte]))
        assert value_of(peer.receive()) == 3
        blob = pack({"n": 1, "pad": bytes(900_000)})
        assert value_of(peer.call("incr", blob=blob)) == 2
