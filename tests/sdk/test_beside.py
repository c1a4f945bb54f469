"""Readers beside a running call of a local session: they see what was committed last, and change nothing."""

import copy
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.containers import InThread, Peer, value_of

from edged.sdk import Function, Session
from edged.sdk.tracked import Tracked, unpack
from edged_protocol import messages as m
from edged_protocol.codec import pack

LOCAL = {"mode": "local"}

numbers = st.integers(-1000, 1000)
values = numbers | st.lists(numbers, max_size=3) | st.dictionaries(st.text(max_size=2), numbers, max_size=2)
keys = st.sampled_from("abcdef")
changes = st.lists(
    st.tuples(st.just("set"), keys, values)
    | st.tuples(st.just("delete"), keys, st.none())
    | st.tuples(st.just("touch"), keys, numbers)
    | st.tuples(st.just("spoil"), keys, st.none())
    | st.tuples(st.just("clear"), st.none(), st.none()),
    max_size=8,
)


def change(state: Any, what: str, key: Any, value: Any) -> None:
    """One thing a handler may do."""
    if what == "set":
        state[key] = value
    elif what == "delete":
        state.pop(key, None)
    elif what == "clear":
        state.clear()
    elif key in state:
        held = state[key]
        if isinstance(held, list):
            held.append(value if what == "touch" else {1, 2})
        elif isinstance(held, dict):
            held["x"] = value if what == "touch" else {1, 2}


@given(st.dictionaries(keys, values), changes)
def test_what_was_committed_is_seen_whatever_a_call_does(start: dict[str, Any], done: list[Any]) -> None:
    """After any changes of a call that runs, also such as msgpack cannot carry, the copy is of the state before it."""
    state = Tracked(copy.deepcopy(start))
    state.begin()
    for one in done:
        change(state, *one)
        touched = dict(state.before)
        assert unpack(state.committed()) == start
        assert state.before == touched, "the copy has touched something"
    state.undo()
    assert unpack(state.committed()) == start == dict(state)


def test_a_copy_is_whole_while_another_thread_changes_the_state() -> None:
    """The call runs in another thread and changes keys, values and what is in them all the time."""
    start = {str(number): [number] * 20 for number in range(50)}
    state = Tracked(copy.deepcopy(start))
    state.begin()
    over = threading.Event()

    def call() -> None:
        number = 0
        while not over.is_set():
            number += 1
            key = str(number % 50)
            if number % 3:
                state.setdefault(key, []).append(number)
            else:
                state.pop(key, None)
            state[f"new {number % 97}"] = {"n": number}

    thread = threading.Thread(target=call)
    thread.start()
    try:
        for _ in range(200):
            assert unpack(state.committed()) == start
    finally:
        over.set()
        thread.join()


class Stays(dict[Any, Any]):
    """What was kept; nothing leaves it, not for a moment: another thread may look just then."""

    def pop(self, *_: Any) -> Any:
        raise AssertionError("what was kept was taken out")


def test_what_a_call_touched_stays_kept_while_it_runs() -> None:
    """A key that is deleted, made anew and deleted again has its value before the call all the time."""
    state = Tracked({"a": [1], "b": [2]})
    state.begin()
    state.before = Stays()
    for _ in range(2):
        state.pop("a")
        state["a"] = ["other"]
    state.pop("b")
    assert unpack(state.committed()) == {"a": [1], "b": [2]}
    state.undo()
    assert dict(state) == {"a": [1], "b": [2]}


def waiting(is_async: bool) -> Function:
    """A function whose writer changes the state, waits for another function, and changes it again."""
    fn = Function("f")
    if is_async:

        @fn.handler
        async def write(s: Session) -> Any:
            s.state.setdefault("list", []).append("half")
            await s.call("other")
            s.state["list"].append("whole")
            return s.state["list"]

    else:

        @fn.handler
        def write(s: Session) -> Any:
            s.state.setdefault("list", []).append("half")
            s.call("other")
            s.state["list"].append("whole")
            return s.state["list"]

    @fn.shared
    def read(s: Session) -> Any:
        seen = list(s.state.get("list", []))
        s.state.setdefault("list", []).append("dirt")
        return [seen, s.version]

    return fn


@pytest.fixture(params=[False, True], ids=["plain", "async"])
def peer(request: pytest.FixtureRequest) -> Any:
    """The node's end of a container that holds session "k" at version 3."""
    with InThread(waiting(request.param)) as peer:
        peer.ask("worker.load", pack({"list": ["start"]}), session="k", epoch=2, version=3)
        yield peer


def test_readers_are_answered_while_a_call_waits(peer: Peer) -> None:
    """They see the version before it, say which, and a writer behind it waits; the call finds none of their dirt."""
    writer = peer.invoke("write", meta=LOCAL)
    peer.send(writer)
    child = peer.receive()
    assert isinstance(child, m.Invoke)
    for _ in range(3):
        answer = peer.local("read")
        assert value_of(answer) == [["start"], 3]
        assert answer.meta is not None and answer.meta["version"] == 3
    second = peer.invoke("write", meta=LOCAL)
    peer.send(second, m.Result(child.id, b""))
    answer = peer.receive()
    assert (answer.id, value_of(answer)) == (writer.id, ["start", "half", "whole"])
    child = peer.receive()
    assert value_of(peer.local("read")) == [["start", "half", "whole"], 4]
    peer.send(m.Error(child.id, 203, "no"))
    assert isinstance(peer.receive(), m.Error)
    assert value_of(peer.local("read")) == [["start", "half", "whole"], 4]


def test_an_async_reader_that_waits_holds_up_nobody() -> None:
    """It goes on with what it saw when it began, while writers come and go."""
    fn = waiting(True)

    @fn.shared
    async def slow(s: Session) -> Any:
        before = list(s.state["list"])
        await s.call("other")
        return [before, s.state["list"]]

    with InThread(fn) as peer:
        peer.ask("worker.load", pack({"list": ["start"]}), session="k", epoch=2, version=3)
        reader = peer.invoke("slow", meta=LOCAL)
        peer.send(reader)
        asked = peer.receive()
        writer = peer.invoke("write", meta=LOCAL)
        peer.send(writer)
        child = peer.receive()
        peer.send(m.Result(child.id, b""))
        assert peer.receive().id == writer.id
        peer.send(m.Result(asked.id, b""))
        assert value_of(peer.receive()) == [["start"], ["start"]]


def test_a_plain_handler_beside_async_readers() -> None:
    """A handler that is not async waits in `s.call` and blocks the loop: an async reader waits, a plain one does not."""
    fn = waiting(False)

    @fn.shared
    async def slow(s: Session) -> Any:
        return list(s.state["list"])

    with InThread(fn) as peer:
        peer.ask("worker.load", pack({"list": ["start"]}), session="k", epoch=2, version=3)
        writer, slow_one = peer.invoke("write", meta=LOCAL), peer.invoke("slow", meta=LOCAL)
        peer.send(writer)
        child = peer.receive()
        peer.send(slow_one)
        assert value_of(peer.local("read")) == [["start"], 3]
        peer.send(m.Result(child.id, b""))
        assert peer.receive().id == writer.id
        answer = peer.receive()
        assert (answer.id, value_of(answer)) == (slow_one.id, ["start", "half", "whole"])
