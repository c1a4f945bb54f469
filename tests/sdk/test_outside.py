"""`s.call`: what a container asks of its node while a handler runs, and what the handler gets."""

import hashlib
from typing import Any

import pytest
from support.containers import InThread, Peer, value_of

from edged.sdk import CallError, Function, RanError, Session
from edged_protocol import messages as m
from edged_protocol.codec import pack
from edged_protocol.errors import Code

REMOTE = {"mode": "remote"}


def caller(is_async: bool) -> Function:
    """A function whose handlers call others, plain or async."""
    fn = Function("f")

    if is_async:

        @fn.handler
        async def ask(s: Session, *arguments: Any) -> Any:
            return await s.call("other", "echo", *arguments, session="t")

        @fn.handler
        async def thrice(s: Session) -> Any:
            return [await s.call("other", name) for name in ("a", "a", "b")]

        @fn.handler
        async def caught(s: Session) -> Any:
            s.state["n"] = 1
            try:
                await s.call("other")
            except CallError as error:
                return [error.code, error.message]

        @fn.handler
        async def hurried(s: Session, seconds: float) -> Any:
            return await s.call("other", timeout=seconds)

    else:

        @fn.handler
        def ask(s: Session, *arguments: Any) -> Any:
            return s.call("other", "echo", *arguments, session="t")

        @fn.handler
        def thrice(s: Session) -> Any:
            return [s.call("other", name) for name in ("a", "a", "b")]

        @fn.handler
        def caught(s: Session) -> Any:
            s.state["n"] = 1
            try:
                s.call("other")
            except CallError as error:
                return [error.code, error.message]

        @fn.handler
        def hurried(s: Session, seconds: float) -> Any:
            return s.call("other", timeout=seconds)

    @fn.handler
    def plain(s: Session) -> str:
        return "plain"

    return fn


@pytest.fixture(params=[False, True], ids=["plain", "async"])
def peer(request: pytest.FixtureRequest) -> Any:
    """The node's end of a container whose handlers are plain or async."""
    with InThread(caller(request.param)) as peer:
        yield peer


def begun(peer: Peer, method: str, *arguments: Any, **fields: Any) -> tuple[m.Invoke, m.Invoke]:
    """A call sent to the container, and what it then asks."""
    parent = peer.invoke(method, *arguments, **fields)
    peer.send(parent)
    child = peer.receive()
    assert isinstance(child, m.Invoke), child
    return parent, child


def test_a_handler_gets_what_it_called_for(peer: Peer) -> None:
    """The INVOKE names target, arguments, its parent and the time left; its RESULT is the handler's value."""
    parent, child = begun(peer, "ask", 1, "two", timeout_ms=3000)
    assert (child.function, child.session, child.method) == ("other", "t", "echo")
    assert child.body == pack([1, "two"])
    assert child.meta == {"parent": parent.id}
    assert 0 < child.timeout_ms <= 3000
    peer.send(m.Result(child.id, pack({"x": 1})))
    assert value_of(peer.receive()) == {"x": 1}


def test_a_repeated_call_repeats_the_ids_of_its_calls(peer: Peer) -> None:
    """The ids follow from the parent's id, the target and how often it was called; SPEC says how."""

    def ids(call_id: bytes) -> list[bytes | None]:
        peer.send(peer.invoke("thrice", call_id=call_id))
        found = []
        for _ in range(3):
            child = peer.receive()
            found.append(child.call_id)
            peer.send(m.Result(child.id, b""))
        assert value_of(peer.receive()) == [None] * 3
        return found

    first = ids(bytes(16))
    assert first == ids(bytes(16))
    assert len(set(first)) == 3
    assert set(first).isdisjoint(ids(bytes([1] * 16)))
    assert first[1] == hashlib.sha256(pack([bytes(16), "other", None, "a", 2])).digest()[:16]


def test_a_call_without_an_id_calls_with_new_ones(peer: Peer) -> None:
    """Nothing names such a parent, so nothing may make its calls pass for another's."""
    seen = set()
    for _ in range(2):
        _, child = begun(peer, "ask", call_id=None)
        seen.add(child.call_id)
        peer.send(m.Result(child.id, b""))
        peer.receive()
    assert len(seen) == 2 and None not in seen


def test_an_error_is_an_exception_with_its_code(peer: Peer) -> None:
    """What will not be better is raised at once; a handler that does not catch it has failed."""
    _, child = begun(peer, "caught")
    peer.send(m.Error(child.id, Code.FORBIDDEN, "no"))
    assert value_of(peer.receive()) == [203, "no"]
    _, child = begun(peer, "ask")
    peer.send(m.Error(child.id, Code.FUNCTION_ERROR, "ValueError: x"))
    error = peer.receive()
    assert (error.code, error.meta["type"]) == (Code.FUNCTION_ERROR, RanError.__name__)
    assert "301 function_error: ValueError: x" in error.message


def test_what_was_not_run_is_repeated_under_its_id(peer: Peer) -> None:
    """After a 1xx the same call comes again; `attempt` counts only tries that may have run."""
    _, child = begun(peer, "ask")
    peer.send(m.Error(child.id, Code.MOVING, "moving", {"retry_after_ms": 1}))
    second = peer.receive()
    assert (second.call_id, second.meta.get("attempt")) == (child.call_id, None)
    assert second.id != child.id
    peer.send(m.Error(second.id, Code.NODE_LOST, "lost"))
    third = peer.receive()
    assert (third.call_id, third.meta["attempt"]) == (child.call_id, 1)
    peer.send(m.Result(third.id, pack(9)))
    assert value_of(peer.receive()) == 9


def test_a_timeout_ends_the_tries(peer: Peer) -> None:
    """Within the time the handler gives it a call is repeated, then its last error is raised."""
    _, child = begun(peer, "hurried", 0.2)
    assert child.timeout_ms <= 200
    refusals = 0
    while isinstance(child, m.Invoke):
        refusals += 1
        peer.send(m.Error(child.id, Code.OVERLOADED, "full", {"retry_after_ms": 50}))
        child = peer.receive()
    assert refusals >= 2
    assert "101 overloaded: full" in child.message


def test_the_node_is_heard_while_a_handler_waits(peer: Peer) -> None:
    """PING is answered, a CANCEL drops a call that waits, and other calls wait their turn."""
    parent, child = begun(peer, "ask")
    waiting, dropped = peer.invoke("plain"), peer.invoke("plain")
    peer.send(waiting, dropped, m.Cancel(dropped.id), m.Ping(5), m.Result(9999, b""))
    assert peer.receive() == m.Pong(5)
    peer.send(m.Result(child.id, pack(1)))
    assert [peer.receive().id for _ in range(2)] == [parent.id, waiting.id]


def test_silence_of_the_node_has_an_end(peer: Peer) -> None:
    """A node that does not answer costs the time given and a little more; the handler is told 401."""
    begun(peer, "hurried", 0.05)
    assert "401 deadline_exceeded" in peer.receive().message


def test_arguments_that_no_frame_carries_are_the_handlers_error() -> None:
    """What msgpack or a frame cannot carry is never sent."""
    fn = Function("f")

    @fn.handler
    def bad(s: Session) -> Any:
        return s.call("other", "m", {1, 2})

    @fn.handler
    def large(s: Session) -> Any:
        return s.call("other", "m", bytes(2 << 20))

    with InThread(fn) as peer:
        assert "msgpack" in peer.call("bad").message  # type: ignore[union-attr]
        assert "205 too_large" in peer.call("large").message  # type: ignore[union-attr]


def test_a_hook_cannot_call() -> None:
    """A hook runs outside any call, so it has none to answer for."""
    fn = caller(False)

    @fn.download
    def fetch(s: Session) -> Any:
        return s.call("other")

    with InThread(fn) as peer:
        reply = peer.ask("worker.load", None, session="k", epoch=1, version=0, download=True)
        assert isinstance(reply, m.Error) and "hook" in reply.message
