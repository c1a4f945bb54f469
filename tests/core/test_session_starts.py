"""A session that begins local-state, or may be nothing else: what its first call leads to."""

from typing import Any

import pytest
from support.leases import good_lease

from edged.core import effects as fx
from edged.core.calls import Call
from edged.core.leases import Leases
from edged.core.records import Load, Loaded, Record, SessionKey, Write
from edged.core.rests import Rests
from edged.core.sessions import Rules, Seat
from edged.core.transition import S

KEY = SessionKey("counter", "one")
BOTH, ONLY = ("remote", "local"), ("local",)
OLD = Record(2, "remote", None, None, 5, None, b"5", False, 1, 0.0, None)


class Play:
    """One session's actor, and what its last step led to."""

    def __init__(self, allow: tuple[str, ...], start: str, leases: Leases | None = None) -> None:
        rules = Rules(allow, 0.0, 500, 128, "checkpoint", 5, 1.0, start=start)
        leases = leases or good_lease("a", "boot-a")
        self.seat = Seat(KEY, "a", "boot-a", rules, leases, lambda: "a", Rests())  # type: ignore[arg-type]
        self.effects: list[fx.Effect] = []
        self.call = Call("client", 1, *KEY, "incr", bytes(16), 0.0, 1e9, b"", {})

    def arrives(self) -> None:
        self.effects = self.seat.arrived(self.call, 0.0)

    def reads(self, record: Record | None) -> None:
        """The store answers the reading."""
        ask = self.only(fx.Ask)
        assert isinstance(ask.op, Load)
        self.effects = self.seat.on_store(ask.token, Loaded(record, ()), 0.0)

    def no_container(self) -> None:
        self.effects = self.seat.on_container(self.only(fx.Start).token, None, "no slot is free", 0.0)

    def only(self, kind: type[Any]) -> Any:
        """The effect of that kind."""
        [found] = [effect for effect in self.effects if isinstance(effect, kind)]
        return found

    @property
    def kinds(self) -> set[type[Any]]:
        return {type(effect) for effect in self.effects}


@pytest.mark.parametrize(
    ("allow", "start", "record", "local"),
    [
        (BOTH, "remote", None, False),
        (BOTH, "local", None, True),
        (BOTH, "local", OLD, False),
        (ONLY, "remote", None, True),
        (ONLY, "local", OLD, True),
        (("remote",), "local", None, False),
    ],
)
def test_what_has_to_be_local_gets_its_container_before_its_call_runs(
    allow: tuple[str, ...], start: str, record: Record | None, local: bool
) -> None:
    """New sessions where the manifest says so, and all of a function that allows nothing else."""
    play = Play(allow, start)
    play.arrives()
    play.reads(record)
    assert play.kinds == ({fx.Start, fx.Timer} if local else {fx.RunPool})
    assert list(play.seat.queue) == ([play.call] if local else [])


def test_without_a_container_a_new_session_begins_remote_state() -> None:
    """Where that is allowed: the call runs in the pool at once."""
    play = Play(BOTH, "local")
    play.arrives()
    play.reads(None)
    play.no_container()
    play.reads(None)
    assert play.only(fx.RunPool).call is play.call


def test_without_a_container_a_call_that_may_not_run_elsewhere_is_refused() -> None:
    """104 with the reason, once for each call: the next one tries again."""
    play = Play(ONLY, "local")
    for _ in range(2):
        play.arrives()
        play.reads(None)
        play.no_container()
        play.reads(None)
        answer = play.only(fx.Answer)
        assert (answer.code, answer.message, play.seat.state) == (104, "no slot is free", S.FREE)


def test_a_lease_is_waited_for_a_moment() -> None:
    """A node that has just started gets it; where it does not come, a call that may only be local-state is refused, another
    one runs."""
    for allow, expected in ((ONLY, fx.Answer), (BOTH, fx.RunPool)):
        for comes in (False, True):
            leases = Leases("a", "boot-a", 15.0)
            play = Play(allow, "local", leases)
            play.arrives()
            play.reads(None)
            waits = play.only(fx.Timer)
            assert play.kinds == {fx.Timer} and play.seat.state is S.YIELDING
            leases.good = comes
            play.effects = play.seat.on_timer(waits.token, 1.0)
            play.reads(None)
            assert expected in play.kinds or (comes and fx.Start in play.kinds)
            assert comes == (fx.Start in play.kinds)


def test_what_a_node_of_this_name_owns_is_taken_only_under_a_lease_of_this_life() -> None:
    """Before, that node may live: whoever calls waits and reads again, whoever wants the session here is refused."""
    leases = Leases("a", "boot-a", 15.0)
    owned = Record(2, "local", "a", "boot-0", 5, None, b"5", False, 1, 0.0, None)
    wanted = Play(BOTH, "remote", leases)
    wanted.effects = wanted.seat.want("localize", "somebody", "", b"m" * 16, 0.0)
    assert wanted.only(fx.Done).code == 106

    play = Play(BOTH, "remote", leases)
    play.arrives()
    for _ in range(3):
        play.reads(owned)
        assert play.kinds == {fx.Timer} and play.seat.state is S.YIELDING
        play.effects = play.seat.on_timer(play.only(fx.Timer).token, 1.0)
    leases.claimed = True
    play.reads(owned)
    assert isinstance(play.only(fx.Ask).op, Write)
