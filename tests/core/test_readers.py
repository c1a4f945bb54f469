"""Readers of a remote-state session: beside the writer, at a committed version, and never in anybody's way."""

from typing import Any

from support.leases import good_lease

from edged.core import effects as fx
from edged.core.calls import Call
from edged.core.records import Loaded, Record, SessionKey, StoreFailed
from edged.core.rests import Rests
from edged.core.sessions import Rules, Seat
from edged.core.transition import S

KEY = SessionKey("f", "s")


def record(version: int, state: bytes, **fields: Any) -> Record:
    values = {"epoch": 3, "mode": "remote", "owner": None, "owner_boot": None, "move": None, "floor": True}
    rest = {"schema": 1, "updated": 0.0, "alarms": None}
    return Record(**{**values, **rest, "version": version, "state": state, **fields})  # type: ignore[arg-type]


class Session:
    """A seat and its effects, of which the test answers those it likes."""

    def __init__(self) -> None:
        rules = Rules(("remote", "local"), 0.0, 3, 128, "checkpoint", 50, 1.0, shared={"get"})
        self.seat = Seat(KEY, "a", "boot-a", rules, good_lease("a", "boot-a"), lambda: "ab", Rests())
        self.serial = 0

    def call(self, method: str, **meta: Any) -> tuple[Call, list[fx.Effect]]:
        self.serial += 1
        id_ = self.serial.to_bytes(16, "big")
        call = Call(None, self.serial, *KEY, method, id_, 0.0, 1e9, b"", meta)
        return call, self.seat.arrived(call, 0.0)

    def loaded(self, effects: list[fx.Effect], found: Record | None) -> list[fx.Effect]:
        [ask] = effects
        assert isinstance(ask, fx.Ask)
        return self.seat.on_store(ask.token, Loaded(found), 0.0)

    def running_writer(self) -> Call:
        """A writer that a container runs on version 7."""
        writer, effects = self.call("incr")
        assert [type(effect) for effect in self.loaded(effects, record(7, b"seven"))] == [fx.RunPool]
        assert self.seat.state is S.RUNNING
        return writer


def test_a_reader_runs_beside_a_writer() -> None:
    """It gets the record as the store has it, and its answer changes nothing of the writer's way."""
    session = Session()
    writer = session.running_writer()
    reader, effects = session.call("get")
    [run] = session.loaded(effects, record(8, b"eight"))
    assert isinstance(run, fx.RunPool) and run.call is reader
    assert (reader.mode, reader.state) == ("remote", b"eight")
    [answer] = session.seat.on_answer(reader, 0, b"8", "", {"shared": True}, None, 0.0)
    assert isinstance(answer, fx.Answer)
    assert answer.meta is not None and (answer.meta["epoch"], answer.meta["version"]) == (3, 8)
    [commit] = session.seat.on_answer(writer, 0, b"8", "", {}, b"new", 0.0)
    assert isinstance(commit, fx.Ask) and commit.op.expect_version == 7


def test_readers_do_not_wait_for_each_other_nor_hold_up_a_writer() -> None:
    """Three at once, and a writer that comes later begins at once; a reader too many is refused as not run."""
    session = Session()
    asked = [session.call("get")[1] for _ in range(3)]
    assert [type(effects[0]) for effects in asked] == [fx.Ask] * 3
    [refused] = session.call("get")[1]
    assert isinstance(refused, fx.Answer) and refused.code == 101
    session.running_writer()
    for effects in asked:
        assert isinstance(session.loaded(effects, record(7, b"seven"))[0], fx.RunPool)
    assert not session.seat.quiet


def test_a_reader_that_ends_leaves_nothing_behind() -> None:
    """Answered, lost, expired or refused by the store: then the session's actor may go."""
    for end in ("answered", "lost", "expired", "store"):
        session = Session()
        reader, effects = session.call("get")
        reader.answered = end == "expired"
        if end == "store":
            [ask] = effects
            assert isinstance(ask, fx.Ask)
            [last] = session.seat.on_store(ask.token, StoreFailed(False, "away"), 0.0)
        else:
            [last] = session.loaded(effects, record(7, b"seven"))
        if end == "answered":
            [last] = session.seat.on_answer(reader, 301, b"", "no", {"type": "X"}, None, 0.0)
        elif end == "lost":
            [last] = session.seat.on_lost(reader, 402, "died", 0.0)
        assert isinstance(last, fx.Answer)
        assert last.code == {"answered": 301, "lost": 402, "expired": 401, "store": 106}[end]
        assert session.seat.quiet


def test_a_reader_goes_where_the_session_is_local() -> None:
    """The owner's container holds the state; this node's own former life is ended the writers' way."""
    session = Session()
    _, effects = session.call("get")
    [located, forward] = session.loaded(effects, record(7, b"", mode="local", owner="b", owner_boot="boot-b"))
    assert isinstance(located, fx.Located) and isinstance(forward, fx.Forward)
    assert (located.node, forward.node) == ("b", "b")
    session = Session()
    _, effects = session.call("get")
    session.loaded(effects, record(7, b"", mode="local", owner="a", owner_boot="older"))
    assert session.seat.state is S.READING


def test_one_that_turns_out_to_write_is_run_as_a_writer() -> None:
    """A method that a newer version of the function no longer declares as shared: its change is not lost."""
    session = Session()
    reader, effects = session.call("get")
    session.loaded(effects, record(7, b"seven"))
    again = session.seat.on_answer(reader, 0, b"8", "", {}, b"changed", 0.0)
    assert isinstance(session.loaded(again, record(7, b"seven"))[0], fx.RunPool)
    assert session.seat.state is S.RUNNING and session.seat.head is reader
