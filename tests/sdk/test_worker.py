"""The serve loop of a container, over a real socket: what every frame is answered with."""

import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio
from msgpack import ExtType, Timestamp, packb  # type: ignore[import-untyped]
from support.containers import InThread, Peer, value_of

from edged.sdk import Function, Session
from edged_protocol import messages as m
from edged_protocol.codec import encode, pack, unpack
from edged_protocol.errors import Code

REMOTE, LOCAL = {"mode": "remote"}, {"mode": "local"}


def example() -> Function:
    """A function with a method for everything a handler may do."""
    fn = Function("f")

    @fn.handler
    def incr(s: Session, by: int = 1) -> int:
        s.state["n"] = s.state.get("n", 0) + by
        return int(s.state["n"])

    @fn.shared
    def peek(s: Session) -> Any:
        s.state["dirt"] = 1
        return s.state

    @fn.handler
    def spoil(s: Session) -> None:
        s.state["n"] = -1
        s.state.setdefault("list", []).append(1)
        raise ValueError("spoiled \N{SNOWMAN}")

    @fn.handler
    def facts(s: Session) -> list[Any]:
        return [s.mode, s.node, s.key, s.call_id, s.epoch, s.version, 0 < s.remaining < 6]

    @fn.handler
    def wish(s: Session, mode: Any) -> None:
        s.prefer(mode)

    @fn.handler
    def end(s: Session, fails: bool = False) -> int:
        s.state["n"] = 99
        s.end()
        if fails:
            raise ValueError
        return 99

    @fn.shared
    def end_by_reading(s: Session) -> None:
        s.end()

    @fn.handler
    def odd(s: Session) -> Any:
        return {1, 2}

    @fn.handler
    def unreadable(s: Session, which: str) -> Any:
        s.state["n"] = 1
        deep: Any = None
        for _ in range(65):
            deep = [deep]
        return {"number": {1: 2}, "below": [{"a": {b"b": 1}}], "extension": ExtType(1, b""), "deep": deep}[which]

    @fn.handler
    def big(s: Session, size: int) -> bytes:
        return bytes(size)

    @fn.handler
    def hoard(s: Session, size: int) -> None:
        s.state["hoard"] = bytes(size)

    @fn.handler
    def nap(s: Session, seconds: float) -> None:
        time.sleep(seconds)

    @fn.handler
    def leave(s: Session) -> None:
        s.state["n"] = -1
        sys.exit(3)

    @fn.handler
    def mumble(s: Session) -> None:
        class Odd(Exception):
            def __str__(self) -> str:
                raise RuntimeError

        raise Odd

    return fn


def load(peer: Peer, **state: Any) -> None:
    """Make the container hold session "k" at version 3 of epoch 2."""
    said = {"serial": 0, "bytes": len(pack(state))}
    assert peer.ask("worker.load", pack(state), session="k", epoch=2, version=3) == m.Reply(peer._id, said)


def snapshot(peer: Peer) -> Any:
    """The state of session "k" as the container holds it."""
    reply = peer.ask("worker.snapshot", session="k")
    assert isinstance(reply, m.Reply) and reply.blob is not None, reply
    return unpack(reply.blob)


def refused(answer: Any, code: Code) -> m.Error:
    """The ERROR with that code."""
    assert isinstance(answer, m.Error) and answer.code == code, answer
    return answer


def test_hello_tells_the_methods() -> None:
    """The first frame names the container, its methods and the default one."""
    with InThread(example()) as peer:
        assert peer.hello["role"] == "worker" and peer.hello["name"] == "c1"
        assert peer.hello["methods"]["peek"] == {"shared": True}
        assert peer.hello["default"] == "incr"


def test_a_remote_call_returns_the_changed_state_only() -> None:
    """The new state comes with the answer, and is absent when the call changed nothing."""
    with InThread(example()) as peer:
        first = peer.call("incr", 2)
        assert value_of(first) == 2 and unpack(first.blob) == {"n": 2}  # type: ignore[union-attr, arg-type]
        again = peer.call("incr", 0, blob=pack({"n": 2}))
        assert value_of(again) == 2 and again.blob is None  # type: ignore[union-attr]


def test_a_failing_remote_call_returns_no_state() -> None:
    """An exception is an ERROR 301 with type, text and the tail of the traceback."""
    with InThread(example()) as peer:
        error = refused(peer.call("spoil", blob=pack({"n": 1})), Code.FUNCTION_ERROR)
        assert error.message == "ValueError: spoiled \N{SNOWMAN}"
        assert error.meta is not None and error.meta["type"] == "ValueError"
        assert "in spoil" in error.meta["traceback"]
        assert len(error.meta["traceback"].encode()) <= 2048


def test_a_local_session_lives_in_the_container() -> None:
    """Local calls follow each other in memory; a failing one leaves no trace."""
    with InThread(example()) as peer:
        load(peer, n=5)
        assert value_of(peer.local("incr")) == 6
        refused(peer.local("spoil"), Code.FUNCTION_ERROR)
        refused(peer.local("leave"), Code.FUNCTION_ERROR)
        assert value_of(peer.local("incr", 10)) == 16
        assert snapshot(peer) == {"n": 16}


@pytest.mark.parametrize("meta", [REMOTE, LOCAL])
def test_a_shared_method_changes_nothing(meta: dict[str, Any]) -> None:
    """What a reader wrote is in its answer at most, never in the state."""
    with InThread(example()) as peer:
        load(peer, n=5)
        answer = peer.call("peek", blob=pack({"n": 5}), meta=meta)
        assert value_of(answer) == {"n": 5, "dirt": 1}
        assert answer.meta is not None and answer.meta["shared"] is True
        assert isinstance(answer, m.Result) and answer.blob is None
        assert snapshot(peer) == {"n": 5}


def test_sessions_of_one_container_do_not_mix() -> None:
    """A container may hold several local sessions and serve remote calls beside them."""
    with InThread(example()) as peer:
        load(peer, n=1)
        peer.ask("worker.load", None, session="other", epoch=1, version=0)
        assert value_of(peer.local("incr")) == 2
        assert value_of(peer.local("incr", session="other")) == 1
        assert value_of(peer.call("incr", blob=pack({"n": 40}))) == 41
        assert snapshot(peer) == {"n": 2}


def test_a_state_moves_in_pieces_from_one_container_to_another() -> None:
    """Deltas of a living state, put together in a second container, give a session that goes on where it was."""
    with InThread(example()) as source, InThread(example()) as target:
        load(source, **{str(n): bytes(100) for n in range(50)}, n=1)
        since, left = None, 1
        while left:
            piece = source.ask("worker.delta", session="k", since=since, limit=1000, digest=True)
            assert isinstance(piece, m.Reply)
            source.local("incr")
            since, left = piece.result["serial"], piece.result["left"] > 100
            assert isinstance(target.ask("worker.restore", piece.blob, session="k"), m.Reply)
        last = source.ask("worker.delta", session="k", since=since, digest=True)
        assert isinstance(last, m.Reply)
        reply = target.ask("worker.restore", last.blob, session="k")
        assert isinstance(reply, m.Reply)
        assert reply.result["digest"] == last.result["digest"]
        said = target.ask("worker.load", None, session="k", epoch=3, version=9, staged=True)
        assert isinstance(said, m.Reply)
        assert said.result["bytes"] == len(pack(snapshot(source)))
        assert snapshot(target) == snapshot(source)
        assert value_of(target.local("incr")) == value_of(source.local("incr"))


def test_a_state_is_loaded_from_its_parts() -> None:
    """A stored state and the deltas on it are one state, for a local session and for a remote call."""
    parts = pack([pack({"n": 1, "old": 1}), pack([{"n": 2}, []]), pack([{"m": 3}, ["old"]])])
    with InThread(example()) as peer:
        peer.ask("worker.load", parts, session="k", epoch=1, version=3, parts=True)
        assert snapshot(peer) == {"n": 2, "m": 3}
        answer = peer.call("incr", 0, blob=parts, meta={"mode": "remote", "parts": True})
        assert isinstance(answer, m.Result) and answer.blob is not None
        assert unpack(answer.blob) == {"n": 2, "m": 3}
        answer = peer.call("incr", blob=pack([None]), meta={"mode": "remote", "parts": True})
        assert value_of(answer) == 1


def test_a_state_that_is_not_allowed_here_is_refused() -> None:
    """One that is longer than this version's limit is neither loaded nor collected without bound."""
    with InThread(example(), max_state=1000) as peer:
        big = pack({"a": bytes(1000)})
        refused(peer.ask("worker.load", big, session="k", epoch=1, version=1), Code.TOO_LARGE)
        piece = pack([{"a": bytes(700), "b": bytes(700)}, []])
        assert isinstance(peer.ask("worker.restore", piece, session="k"), m.Reply)
        refused(peer.ask("worker.load", None, session="k", staged=True), Code.TOO_LARGE)
        peer.ask("worker.restore", piece, session="k")
        refused(peer.ask("worker.restore", pack([{"c": bytes(700)}, []]), session="k"), Code.TOO_LARGE)


def test_a_state_beyond_one_frame_is_an_error_and_not_the_end() -> None:
    """A snapshot that no frame can carry is refused; the session goes on."""
    with InThread(example(), max_state=1 << 26) as peer:
        load(peer)
        for _ in range(3):
            peer.local("hoard", 8 << 20)
        value_of(peer.local("hoard", 21 << 20))
        refused(peer.ask("worker.snapshot", session="k"), Code.TOO_LARGE)
        assert value_of(peer.local("incr")) == 1


def test_a_stopped_session_is_forgotten() -> None:
    """After worker.stop the session is not here: the call was not run and may be repeated elsewhere."""
    with InThread(example()) as peer:
        load(peer, n=1)
        assert peer.ask("worker.stop", session="k") == m.Reply(peer._id, {})
        refused(peer.local("incr"), Code.MOVING)
        refused(peer.ask("worker.snapshot", session="k"), Code.BAD_REQUEST)


def test_stop_without_a_session_ends_the_container() -> None:
    """worker.stop answers first, then the stream ends."""
    with InThread(example()) as peer:
        assert peer.ask("worker.stop") == m.Reply(peer._id, {})
        with pytest.raises(EOFError):
            peer.receive()


def test_a_container_cleans_up_when_it_is_told_to_stop() -> None:
    """Behind the calls it has, and not when the stream just ends."""
    for stops in (True, False):
        fn, did = example(), []
        fn.stop(lambda did=did: did.append("stopped"))
        with InThread(fn) as peer:
            assert value_of(peer.call("incr")) == 1
            if stops:
                peer.ask("worker.stop")
        assert did == (["stopped"] if stops else [])


def test_a_handler_learns_the_facts_of_its_call() -> None:
    """Mode, node, key, call id, epoch, version and time left are those of the frame."""
    with InThread(example()) as peer:
        meta = {"mode": "remote", "epoch": 4, "version": 9}
        assert value_of(peer.call("facts", meta=meta)) == ["remote", "here", "k", bytes(16), 4, 9, True]
        load(peer)
        peer.local("incr")
        assert value_of(peer.local("facts"))[:6] == ["local", "here", "k", bytes(16), 2, 4]
        stateless = peer.call("facts", session=None, call_id=None, meta=None)
        assert value_of(stateless) == ["stateless", "here", None, None, 0, 0, True]


def test_a_wish_travels_with_the_answer() -> None:
    """prefer is told in the RESULT; a wish that is none is the function's error."""
    with InThread(example()) as peer:
        answer = peer.call("wish", "local")
        assert answer.meta is not None and answer.meta["prefer"] == "local"
        refused(peer.call("wish", "moon"), Code.FUNCTION_ERROR)


@pytest.mark.parametrize(
    ("body", "expected"),
    [(b"", 1), (pack(None), 1), (pack([]), 1), (pack(7), 7), (pack([7]), 7)],
)
def test_a_body_is_an_array_of_arguments_or_one(body: bytes, expected: int) -> None:
    """No body and nil are no argument, a scalar is one, an array holds them all."""
    with InThread(example()) as peer:
        assert value_of(peer.call("incr", body=body)) == expected


def test_calls_that_cannot_be_are_refused_before_they_run() -> None:
    """Unknown methods, bad bodies and wrong argument counts name what would fit."""
    with InThread(example()) as peer:
        assert "incr, peek, spoil" in refused(peer.call("nope"), Code.NO_SUCH_METHOD).message
        assert "incr(by: int = 1)" in refused(peer.call("incr", 1, 2), Code.BAD_REQUEST).message
        refused(peer.call("incr", body=b"\xc1"), Code.BAD_REQUEST)
        refused(peer.call("incr", body=b"\x93\x01"), Code.BAD_REQUEST)
        for extension in (ExtType(1, b""), ExtType(1, b"x"), Timestamp(1)):
            refused(peer.call("incr", body=packb(extension)), Code.BAD_REQUEST)
        refused(peer.ask("worker.dance"), Code.BAD_REQUEST)


def test_answers_that_no_frame_carries_are_function_errors() -> None:
    """A result that msgpack or the frame cannot hold fails the call and undoes its changes."""
    with InThread(example()) as peer:
        assert "set" in refused(peer.call("odd"), Code.FUNCTION_ERROR).message
        assert "2097157 bytes" in refused(peer.call("big", 2 << 20), Code.FUNCTION_ERROR).message
        assert "cannot be had" in refused(peer.call("mumble"), Code.FUNCTION_ERROR).message


@pytest.mark.parametrize("which", ["number", "below", "extension", "deep"])
def test_an_answer_that_no_caller_could_read_does_not_count(which: str) -> None:
    """Keys that are no strings, extensions and what nests too deep are no body (SPEC "Encoding"): the call fails."""
    with InThread(example()) as peer:
        answer = peer.call("unreadable", which, meta=REMOTE, session="s", blob=None)
        assert isinstance(answer, m.Error) and answer.code == 301 and answer.message.startswith("Unpackable")
        assert value_of(peer.call("incr", meta=REMOTE, session="s", blob=None)) == 1


def test_a_state_beyond_its_limit_is_refused() -> None:
    """In both modes a state that grew too large is 205 and the old one stays."""
    with InThread(example(), max_state=1000) as peer:
        refused(peer.call("hoard", 1000), Code.TOO_LARGE)
        load(peer, n=1)
        refused(peer.local("hoard", 1000), Code.TOO_LARGE)
        assert value_of(peer.local("hoard", 900)) is None
        assert len(snapshot(peer)["hoard"]) == 900


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
    with InThread(example()) as peer:
        load(peer)
        first, dropped, last = (peer.invoke("incr", meta=LOCAL) for _ in range(3))
        peer.send(peer.invoke("nap", 0.2), first, dropped, last)
        peer.send(m.Cancel(dropped.id), m.Cancel(9999))
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
    with InThread(example()) as peer:
        load(peer)
        value_of(peer.local("nap", 0.0))
        begun = time.monotonic()
        peer.send(peer.invoke("incr", meta=LOCAL), peer.invoke("leave"), peer.invoke("nap", 1.0))
        peer.receive()
        waited = time.monotonic() - begun
        peer.receive()
        peer.receive()
        assert waited < 0.9 < time.monotonic() - begun


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


def test_async_handlers_share_the_loop() -> None:
    """An async handler may await; plain ones of the same function work as ever."""
    fn = example()

    @fn.handler
    async def doze(s: Session) -> float:
        await trio.sleep(0.001)
        s.state["dozed"] = True
        return trio.current_time()

    @fn.handler
    async def cry(s: Session) -> None:
        s.state["n"] = -1
        await trio.lowlevel.checkpoint()
        raise ValueError("no")

    with InThread(fn) as peer:
        load(peer, n=1)
        assert value_of(peer.local("doze")) > 0
        refused(peer.local("cry"), Code.FUNCTION_ERROR)
        assert value_of(peer.local("incr")) == 2
        assert snapshot(peer) == {"n": 2, "dozed": True}


def test_hooks_carry_a_state_of_its_own_kind() -> None:
    """load and dump are used in both modes, and what they raise is a function error."""
    fn = Function("f", state=set)
    fn.dump(sorted)

    @fn.load
    def restore(value: list[int]) -> set[int]:
        return set(map(int, value))

    @fn.handler
    def add(s: Session, n: int) -> int:
        s.state.add(n)
        if n < 0:
            raise ValueError("negative")
        return len(s.state)

    with InThread(fn) as peer:
        answer = peer.call("add", 4, blob=pack([1, 2]))
        assert value_of(answer) == 3 and unpack(answer.blob) == [1, 2, 4]  # type: ignore[union-attr, arg-type]
        refused(peer.call("add", 4, blob=pack(["x"])), Code.FUNCTION_ERROR)
        refused(peer.ask("worker.load", pack(["x"]), session="k"), Code.FUNCTION_ERROR)
        peer.ask("worker.load", pack([7]), session="k", epoch=1, version=1)
        assert value_of(peer.local("add", 1)) == 2
        refused(peer.local("add", -1), Code.FUNCTION_ERROR)
        assert snapshot(peer) == [1, 7]


def test_a_state_may_come_from_and_go_to_a_service() -> None:
    """download gives the state when a session turns local, upload gets it before it is let go."""
    service: dict[str, Any] = {"k": {"n": 41}}
    fn = example()

    @fn.download
    def fetch(s: Session) -> Any:
        return service[s.key or ""]

    @fn.upload
    def push(s: Session) -> None:
        service[s.key or ""] = dict(s.state)

    with InThread(fn) as peer:
        peer.ask("worker.load", pack({"n": 1}), session="k", epoch=1, version=1, download=True)
        refused(peer.local("spoil"), Code.FUNCTION_ERROR)
        assert value_of(peer.local("incr")) == 42
        peer.ask("worker.snapshot", session="k", upload=True)
        assert service["k"] == {"n": 42}
        refused(peer.ask("worker.load", None, session="gone", download=True), Code.FUNCTION_ERROR)


@dataclass
class Place:
    x: int = 0
    trace: list[int] = field(default_factory=list)


def test_a_dataclass_is_a_state_and_an_answer() -> None:
    """A dataclass travels as a map, as state and as result."""
    fn = Function("f", state=Place)

    @fn.handler
    def go(s: Session, x: int) -> Place:
        s.state.x = x
        s.state.trace.append(x)
        place: Place = s.state
        return place

    with InThread(fn) as peer:
        answer = peer.call("go", 3)
        assert value_of(answer) == {"x": 3, "trace": [3]}
        blob = answer.blob  # type: ignore[union-attr]
        assert unpack(blob or b"") == {"x": 3, "trace": [3]}
        peer.ask("worker.load", blob, session="k", epoch=1, version=1)
        assert value_of(peer.local("go", 4)) == {"x": 4, "trace": [3, 4]}


FORKING = """
import os, socket, sys
from edged.sdk import Function
from edged.sdk.worker import run
fn = Function("f")
@fn.handler
def split(s):
    child = os.fork()
    if child:
        os.waitpid(child, 0)
    return child
run(fn, socket.socket(fileno=int(sys.argv[1])), "c1", 1000)
"""


def test_a_child_that_a_handler_forked_cannot_answer() -> None:
    """A forked child that returns into the loop ends there: each call has one answer."""
    ours, theirs = socket.socketpair()
    fd = theirs.fileno()
    with subprocess.Popen([sys.executable, "-c", FORKING, str(fd)], pass_fds=[fd]) as process, ours:
        theirs.close()
        peer = Peer(ours)
        assert value_of(peer.call("split")) > 0
        assert value_of(peer.call("split")) > 0
        ours.shutdown(socket.SHUT_WR)
        assert process.wait(10) == 0


def test_the_sdk_stays_light() -> None:
    """Importing what a function and its container need loads no event loop, no CLI and no cryptography."""
    code = (
        "import sys, edged.sdk, edged.sdk.zygote; "
        "print(*({'trio', 'click', 'rich', 'ssl', 'cryptography', 'asyncio', 'h11'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []


def test_a_call_that_ends_its_session_says_so() -> None:
    """The answer has `end`; a container that held the session has let go of it, and calls behind are for a new one."""
    with InThread(example()) as peer:
        assert value_of(answer := peer.call("end", blob=pack({"n": 1}))) == 99
        assert answer.meta["end"] is True  # type: ignore[union-attr, index]
        load(peer, n=1)
        assert value_of(peer.call("end", meta=LOCAL)) == 99
        refused(peer.call("incr", meta=LOCAL), Code.MOVING)
        refused(peer.ask("worker.snapshot", session="k"), Code.BAD_REQUEST)


def test_a_session_ends_only_by_a_call_that_counts() -> None:
    """One that raises, or only reads, ends nothing; a call without a session has none to end."""
    with InThread(example()) as peer:
        load(peer, n=1)
        refused(peer.call("end", True, meta=LOCAL), Code.FUNCTION_ERROR)
        refused(peer.call("end_by_reading", meta=LOCAL), Code.FUNCTION_ERROR)
        refused(peer.call("end", meta={}), Code.FUNCTION_ERROR)
        assert snapshot(peer) == {"n": 1}
