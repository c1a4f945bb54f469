"""A local session whose owner's lease lapses, is renewed, and lapses again before anybody could read the record."""

from typing import Any

import pytest
from support.leases import good_lease

from edged.core import effects as fx
from edged.core.calls import Call
from edged.core.records import (
    Leased,
    Load,
    Loaded,
    Record,
    Renew,
    SessionKey,
    StoreFailed,
    Write,
    Written,
)
from edged.core.rests import Rests
from edged.core.sessions import Rules, Seat
from edged.core.transition import S

KEY = SessionKey("counter", "one")
CUT = StoreFailed(None, "no answer")


class Owner:
    """A node that serves one session, its lease, and a store that answers or is out of reach."""

    def __init__(self, on_partition: str) -> None:
        rules = Rules(("remote", "local"), 0.0, 500, 128, "checkpoint", 50, 1e9, start="local", on_partition=on_partition)
        self.leases = good_lease()
        self.seat = Seat(KEY, "a", "boot-a", rules, self.leases, lambda: "a", Rests())  # type: ignore[arg-type]
        self.record: Record | None = None
        self.now, self.serial, self.reachable = 0.0, 0, True
        self.answers: list[fx.Answer] = []
        self.calls()
        assert self.seat.state is S.LOCAL

    def calls(self) -> None:
        """One call, to whatever it leads."""
        self.serial += 1
        call = Call("client", self.serial, *KEY, "incr", self.serial.to_bytes(16, "big"), self.now, 1e9, b"", {})
        self.do(self.seat.arrived(call, self.now))

    def do(self, effects: list[fx.Effect]) -> None:
        for effect in effects:
            if isinstance(effect, fx.Ask):
                self.do(self.seat.on_store(effect.token, self.store(effect.op) if self.reachable else CUT, self.now))
            elif isinstance(effect, fx.Start):
                self.do(self.seat.on_container(effect.token, "container", "", self.now))
            elif isinstance(effect, fx.Control):
                self.do(self.seat.on_control(effect.token, fx.Said(0, "", {}, b"state"), self.now))
            elif isinstance(effect, fx.RunOwn):
                self.do(self.seat.on_answer(effect.call, 0, b"done", "", {}, None, self.now))
            elif isinstance(effect, fx.Answer):
                self.answers.append(effect)

    def store(self, op: Any) -> Any:
        if isinstance(op, Load):
            return Loaded(self.record, ())
        assert isinstance(op, Write)
        self.record = Record(op.epoch, op.mode, op.owner, op.owner_boot, op.version, op.move, b"", False, 1, 0.0, None)
        return Written(True)

    def lapses(self) -> None:
        """So much later that the lease is over."""
        self.now += self.leases.ttl
        assert self.leases.lapsed(self.now)
        self.do(self.seat.on_lapsed(self.now))

    def renews(self) -> None:
        """The renewal is the last that the store answers before the next reading."""
        self.leases.lapsed(self.now)
        [renewal] = [op for op in self.leases.turn(self.now) if isinstance(op, Renew)]
        assert self.leases.renewed(self.now, Leased(True, renewal.seq), self.now)
        self.do(self.seat.on_renewed(self.now))

    def code(self) -> int | None:
        """Of the answer to a call now; None when it waits."""
        before = len(self.answers)
        self.calls()
        return self.answers[-1].code if len(self.answers) > before else None


@pytest.mark.parametrize(("on_partition", "code"), [("fence", 105), ("hold", 0), ("keep", 0)])
def test_cut_off_behind_a_renewal_it_is_served_as_its_function_chose(on_partition: str, code: int) -> None:
    """Nobody is served until the record was read, for which the store answers no more; once the lease has lapsed again,
    `hold` and `keep` serve on as they did before the renewal."""
    owner = Owner(on_partition)
    owner.lapses()
    assert owner.code() == code
    owner.reachable = False
    owner.renews()
    assert (owner.seat.state, owner.code()) == (S.FENCED, None)
    owner.lapses()
    assert owner.answers[-1].code == code, "what waited is answered"
    assert owner.code() == code


@pytest.mark.parametrize("on_partition", ["fence", "hold", "keep"])
def test_whoever_heard_of_a_higher_epoch_waits_for_the_record(on_partition: str) -> None:
    """Then somebody has taken over, as far as this node knows: nobody is served, lease or not, before the record was read."""
    owner = Owner(on_partition)
    owner.reachable = False
    owner.do(owner.seat.on_epoch_seen(owner.seat.epoch + 1, owner.now))
    owner.lapses()
    assert owner.seat.state is S.FENCED
    assert owner.code() != 0
    owner.reachable = True
    owner.renews()
    assert owner.seat.state is S.LOCAL
    assert owner.code() == 0


def test_a_move_of_a_fenced_session_is_refused_with_the_reason() -> None:
    """Whoever asks learns that the lease is what is missing, not that it moves already."""
    owner = Owner("fence")
    owner.reachable = False
    owner.lapses()
    owner.renews()
    assert owner.seat.state is S.FENCED
    [done] = owner.seat.want("externalize", "operator", "", b"m" * 16, owner.now)
    assert isinstance(done, fx.Done)
    assert (done.code, done.message) == (103, "the session is not served: a could not renew its lease")
