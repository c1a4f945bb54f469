"""What a container holds: local sessions, their states in every form, and where those come from and go to."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from support.containers import InThread, value_of
from support.worker_example import LOCAL, example, load, refused, snapshot

from edged.sdk import Function, Session
from edged_protocol import messages as m
from edged_protocol.codec import pack, unpack
from edged_protocol.errors import Code


def test_a_local_session_lives_in_the_container() -> None:
    """Local calls follow each other in memory; a failing one leaves no trace."""
    with InThread(example()) as peer:
        load(peer, n=5)
        assert value_of(peer.local("incr")) == 6
        refused(peer.local("spoil"), Code.FUNCTION_ERROR)
        refused(peer.local("leave"), Code.FUNCTION_ERROR)
        assert value_of(peer.local("incr", 10)) == 16
        assert snapshot(peer) == {"n": 16}


def test_sessions_of_one_container_do_not_mix() -> None:
    """A container may hold several local sessions and serve remote calls beside them."""
    with InThread(example()) as peer:
        load(peer, n=1)
        peer.ask("worker.load", None, session="other", epoch=1, version=0)
        assert value_of(peer.local("incr")) == 2
        assert value_of(peer.local("incr", session="other")) == 1
        assert value_of(peer.call("incr", blob=pack({"n": 40}))) == 41
        assert snapshot(peer) == {"n": 2}
        peer.ask("worker.stop", session="other")
        refused(peer.local("incr", session="other"), Code.MOVING)
        assert value_of(peer.local("incr")) == 3


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


def test_a_state_beyond_its_limit_is_refused() -> None:
    """In both modes a state that grew too large is 205 and the old one stays."""
    with InThread(example(), max_state=1000) as peer:
        refused(peer.call("hoard", 1000), Code.TOO_LARGE)
        load(peer, n=1)
        refused(peer.local("hoard", 1000), Code.TOO_LARGE)
        assert value_of(peer.local("hoard", 900)) is None
        assert len(snapshot(peer)["hoard"]) == 900


@dataclass
class Reading:
    """A state of a second form."""

    count: int = 0
    unit: str = "mm"


def renamed(shape: Any) -> Function:
    """A function whose first version had its count under `n`."""
    fn = Function("renamed", state=shape)

    @fn.handler
    def count(s: Session) -> int:
        return int(s.state.count if shape is Reading else s.state["count"])

    @fn.upgrade
    def up(value: dict[str, Any], schema: int) -> dict[str, Any]:
        return {"count": value["n"] * schema, "unit": "mm"}

    return fn


@pytest.mark.parametrize("shape", [dict, Reading])
def test_an_older_state_is_upgraded_before_the_first_call(shape: Any) -> None:
    """By what was stored and its schema; the new form comes back with a call that changes nothing, and is no delta on the
    old one."""
    with InThread(renamed(shape)) as peer:
        assert peer.hello["upgrades"] is True
        answer = peer.call("count", blob=pack({"n": 7}), meta={"mode": "remote", "schema": 3})
        assert isinstance(answer, m.Result) and answer.blob is not None
        assert (value_of(answer), unpack(answer.blob)) == (21, {"count": 21, "unit": "mm"})
        said = peer.ask("worker.load", pack({"n": 7}), session="k", epoch=1, version=3, schema=3, parts=False)
        assert isinstance(said, m.Reply) and said.result["serial"] is None
        assert value_of(peer.local("count")) == 21
        assert snapshot(peer) == {"count": 21, "unit": "mm"}


def test_an_upgrade_that_fails_runs_nothing() -> None:
    """207 with the tail of its traceback, and the session is not here; without an upgrade it is 207 as well."""
    with InThread(renamed(dict)) as peer:
        error = refused(peer.call("count", blob=pack({"m": 1}), meta={"mode": "remote", "schema": 1}), Code.WRONG_SCHEMA)
        assert error.message == "@fn.upgrade of schema 1: KeyError: 'n'"
        assert error.meta is not None and "in up" in error.meta["traceback"]
        refused(peer.ask("worker.load", pack({"m": 1}), session="k", epoch=1, version=3, schema=1), Code.WRONG_SCHEMA)
        refused(peer.local("count"), Code.MOVING)
    with InThread(example()) as peer:
        assert peer.hello["upgrades"] is False
        refused(peer.call("incr", blob=pack({"n": 1}), meta={"mode": "remote", "schema": 1}), Code.WRONG_SCHEMA)


def test_an_older_state_of_the_function_s_own_kind_is_upgraded_as_it_was_dumped() -> None:
    """What `dump` gave is what `upgrade` gets, and what it returns is what `load` gets."""
    fn = Function("own", state=set)
    fn.load(lambda value: set(value["items"]))
    fn.dump(lambda state: {"items": sorted(state)})
    fn.upgrade(lambda value, schema: {"items": value})

    @fn.handler
    def size(s: Session) -> int:
        return len(s.state)

    with InThread(fn) as peer:
        answer = peer.call("size", blob=pack([1, 2, 3]), meta={"mode": "remote", "schema": 1})
        assert isinstance(answer, m.Result) and answer.blob is not None
        assert (value_of(answer), unpack(answer.blob)) == (3, {"items": [1, 2, 3]})
