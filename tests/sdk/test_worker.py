"""The serve loop of a container, over a real socket: what every frame is answered with."""

import socket
import subprocess
import sys
from typing import Any

import pytest
import trio
from msgpack import ExtType, Timestamp, packb  # type: ignore[import-untyped]
from support.containers import InThread, Peer, value_of
from support.worker_example import LOCAL, example, load, refused, snapshot

from edged.sdk import Session
from edged_protocol import messages as m
from edged_protocol.codec import pack, unpack
from edged_protocol.errors import Code

REMOTE = {"mode": "remote"}


def test_hello_tells_the_methods() -> None:
    """The first frame names the container, its methods and the default one."""
    with InThread(example()) as peer:
        assert peer.hello["role"] == "worker" and peer.hello["name"] == "c1"
        assert peer.hello["methods"]["peek"] == {"shared": True}
        assert peer.hello["default"] == "incr"
        assert peer.hello["several"] is True


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
        assert process.wait(60) == 0


def test_the_sdk_stays_light() -> None:
    """Importing what a function and its container need loads no event loop, no CLI and no cryptography."""
    code = (
        "import sys, edged.sdk, edged.sdk.zygote; "
        "print(*({'trio', 'click', 'rich', 'ssl', 'cryptography', 'asyncio', 'h11'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []
