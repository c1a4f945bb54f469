"""A whole client against brokers that fail at random, in virtual time: nothing is lost, doubled or misreported."""

from collections import Counter
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from support.client_rig import Peer, Rig, result

from edged_protocol import messages as m
from edged_protocol.errors import (
    CallError,
    NotRun,
    NotRunRetry,
    RanError,
)
from edged_protocol.lines import GRACE
from edged_protocol.tickets import MARGIN, Invocation

REFUSALS = (101, 103, 105, 106, 107)
IN_DOUBT = (401, 402, 403)
FATES = (
    "answer",
    "refuse",
    "doubt",
    "doubt_ran",
    "cut",
    "cut_ran",
    "goaway",
    "mute",
    "mute_ran",
    "fail",
)


class Mesh:
    """Brokers with one store, which remembers every call id; each call meets a fate of its own."""

    def __init__(self, seed: int, weights: list[int]) -> None:
        self.chance = Random(seed)
        self.weights = weights
        self.rig = Rig("a:1", "b:1", "c:1", seed=seed)
        self.rig.welcome = {"max_inflight": 4}
        self.value = 0
        self.outcomes: dict[bytes, int] = {}
        self.ran: Counter[bytes] = Counter()
        self.maybe: Counter[bytes] = Counter()
        self.read: Counter[int] = Counter()
        self.owed: dict[tuple[int, int], float] = {}

    def run(self, call_id: bytes) -> int:
        """The handler's effect, once for each id."""
        if call_id not in self.outcomes:
            self.value += 1
            self.outcomes[call_id] = self.value
            self.ran[call_id] += 1
        return self.outcomes[call_id]

    def settle(self) -> None:
        """Let brokers greet, or refuse to, and answer what they were asked."""
        for line, peer in list(self.rig.peers.items()):
            if peer.closed:
                continue
            if not peer.connection.established:
                self.rig.greet(line) if self.chance.random() < 0.7 else self.rig.lose(line)
            else:
                self.serve(line, peer)

    def serve(self, line: int, peer: Peer) -> None:
        """Answer what is new on one line."""
        new = peer.invokes()[self.read[line] :]
        self.read[line] += len(new)
        for call in new:
            # A broker has answered by then, or is no broker; a muted call's answer got lost.
            self.owed[line, call.id] = self.rig.now + call.timeout_ms / 1000 + 0.99
        held = [at for (of, _), at in self.owed.items() if of == line and at > self.rig.now]
        assert len(held) <= 4, "more in flight than the broker takes"
        for call in new:
            if not peer.closed:
                self.judge(line, call)

    def judge(self, line: int, call: m.Invoke) -> None:
        """One call's fate."""
        assert call.call_id is not None
        attempt = (call.meta or {}).get("attempt", 0)
        assert attempt == self.maybe[call.call_id], (
            "attempt is not the number of tries that may have run"
        )
        (fate,) = self.chance.choices(FATES, self.weights)
        if fate.endswith("_ran") or fate in ("answer", "goaway"):
            value = self.run(call.call_id)
        if fate in ("cut", "cut_ran"):
            for open_ in self.rig.client._lines.get(line).asked.values():  # type: ignore[union-attr]
                assert isinstance(open_, Invocation)
                self.maybe[open_.call_id or b""] += 1
            self.rig.lose(line)
            return
        if fate.startswith("mute"):
            return
        del self.owed[line, call.id]
        if fate == "answer":
            self.rig.say(line, result(call.id, value))
        elif fate == "goaway":
            self.rig.say(line, m.GoAway("draining"), result(call.id, value))
        elif fate == "refuse":
            meta = (
                {"retry_after_ms": self.chance.randrange(100)}
                if self.chance.random() < 0.5
                else None
            )
            self.rig.say(line, m.Error(call.id, self.chance.choice(REFUSALS), "", meta))
        elif fate == "fail":
            self.rig.say(line, m.Error(call.id, 301 if call.call_id in self.ran else 204, "", None))
        else:
            self.maybe[call.call_id] += 1
            self.rig.say(line, m.Error(call.id, self.chance.choice(IN_DOUBT), "", None))

    def step(self) -> None:
        """Some time, and whatever it brings; brokers answer PINGs by themselves."""
        for line, peer in list(self.rig.peers.items()):
            if not peer.closed and peer.connection.established:
                self.rig.say(line, m.Pong(0))
        self.rig.pass_(0.05)
        self.settle()


def check(mesh: Mesh, ticket: Invocation) -> None:
    """What the caller was told is true."""
    assert ticket.call_id is not None
    ran = ticket.call_id in mesh.ran
    if ticket.error is None:
        assert ticket.answer().value == mesh.outcomes[ticket.call_id]
        return
    assert isinstance(ticket.error, CallError)
    if isinstance(ticket.error, NotRun | NotRunRetry):
        assert not ran, f"it ran, but was told {ticket.error}"
        assert not mesh.maybe[ticket.call_id]
    if isinstance(ticket.error, RanError):
        assert ran


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.integers(0, 4), min_size=len(FATES), max_size=len(FATES)))
def test_every_call_ends_once_in_time_and_truly(seed: int, weights: list[int]) -> None:
    """Whatever brokers do: one outcome each by deadline + margin, one effect for each id, no false 'not run'."""
    weights[0] += 1
    mesh = Mesh(seed, weights)
    rig = mesh.rig
    rig.meet()
    tickets: list[Invocation] = []
    for _ in range(25):
        tickets += [rig.call(timeout=mesh.chance.choice([0.3, 1.0, 3.0]))]
        mesh.step()
    while not all(ticket.done for ticket in tickets):
        open_ = [ticket for ticket in tickets if not ticket.done]
        assert all(rig.now <= ticket.deadline + MARGIN + 0.1 for ticket in open_)
        mesh.step()
    for ticket in tickets:
        check(mesh, ticket)
    assert [rig.woken.count(ticket) for ticket in tickets] == [1] * len(tickets)
    assert max(mesh.ran.values(), default=0) <= 1
    rig.pass_(GRACE)
    said = rig.client.statistics()
    assert (said.in_flight, said.waiting, said.open) == (0, 0, 0)


def test_with_brokers_that_only_lose_answers_every_call_succeeds() -> None:
    """Cut, refused and doubtful tries alone never fail a call that has time: 200 calls, 200 different values."""
    mesh = Mesh(7, [4, 2, 1, 2, 1, 1, 1, 0, 0, 0])
    mesh.rig.meet()
    tickets = [mesh.rig.call(timeout=600.0) for _ in range(200)]
    while not all(ticket.done for ticket in tickets):
        mesh.step()
    assert sorted(ticket.answer().value for ticket in tickets) == list(range(1, 201))
    assert mesh.rig.client.statistics().repeated > 50


@given(st.binary(min_size=1, max_size=200), st.integers(1, 40))
def test_any_bytes_from_a_broker_are_survived(data: bytes, cut: int) -> None:
    """Nothing a broker sends raises, and the call in flight still ends as it should."""
    rig = Rig("a:1", "b:1")
    rig.up()
    ticket = rig.call(timeout=2.0)
    for at in range(0, len(data), cut):
        rig.feed(1, data[at : at + cut])
    rig.pass_(4.1)
    assert ticket.done
    assert ticket.result is not None or isinstance(ticket.error, CallError)
    assert rig.client.statistics().open == 0
