"""What a container may ask while it runs a call, and what the node makes of it: who it is for, in what time."""

from typing import Any

import pytest

from edged.core.calls import Call
from edged.core.chains import MAX_CHAIN
from edged.daemon.nested import MAX_CHILDREN, Nested
from edged_protocol import messages as m
from edged_protocol.codec import decode
from edged_protocol.errors import Code


class Link:
    """The container's connection."""

    def __init__(self) -> None:
        self.inflight = 0
        self.sent: list[m.Message] = []

    def send(self, data: bytes) -> None:
        self.sent.append(decode(data[4:]))


class Worker:
    """A container that runs the calls it is given."""

    def __init__(self, *calls: Call) -> None:
        self.link = Link()
        self.calls = {call.serial: call for call in calls}
        self.children: dict[int, list[Call]] = {}


class Node:
    """The parts of a node that are told: what is routed, stolen and given up."""

    def __init__(self) -> None:
        self.routed: list[m.Invoke] = []
        self.stolen: list[Call] = []
        self.given_up: list[Call] = []
        self.long_calls = self.entrance = self

    def touch(self, link: Link) -> None:
        """It has something to send."""

    def take(self, link: Link, messages: list[m.Invoke], now: float, among: list[Call]) -> None:
        self.routed += messages
        among += [a_call(100 + message.id, message.function, message.session) for message in messages]

    def steal(self, call: Call, now: float) -> None:
        self.stolen.append(call)

    def give_up(self, call: Call) -> None:
        self.given_up.append(call)


def a_call(serial: int, function: str = "f", session: str | None = "s", **meta: Any) -> Call:
    return Call((None, serial), serial, function, session, "m", bytes(16), 0.0, 10.0, b"", meta)


def asks(parent: int, function: str = "other", session: str | None = "t", **fields: Any) -> m.Invoke:
    values = {"id": 1, "method": "m", "call_id": bytes(16), "timeout_ms": 60_000, "body": b"", "meta": {"parent": parent}}
    return m.Invoke(**{**values, "function": function, "session": session, **fields})


@pytest.fixture
def node() -> Node:
    return Node()


@pytest.fixture
def nested(node: Node) -> Nested:
    return Nested(node, node, node)  # type: ignore[arg-type]


def error(worker: Worker) -> m.Error:
    """What the container was answered."""
    [message] = worker.link.sent
    assert isinstance(message, m.Error)
    return message


def test_a_child_gets_what_its_parent_has(node: Node, nested: Nested) -> None:
    """Trace, chain and the time that is left come from the call that is run, whatever the container says of them."""
    parent = a_call(7, traceparent="00-trace", chain=[["first", "a"], ["second", None]])
    worker = Worker(parent)
    meta = {"parent": 7, "attempt": 2, "chain": [], "traceparent": "mine", "hops": 1, "alarm": ["fire"], "mode": "local"}
    nested.asked(worker, asks(7, meta=meta, blob=b"state"), 4.0)  # type: ignore[arg-type]
    [routed] = node.routed
    chain = [["first", "a"], ["second", None], ["f", "s"]]
    assert routed.meta == {"attempt": 2, "traceparent": "00-trace", "chain": chain}
    assert (routed.timeout_ms, routed.blob) == (6000, None)
    assert node.stolen == [parent], "what was held behind the parent need not wait for it"


def test_a_child_may_have_less_time(node: Node, nested: Nested) -> None:
    """The handler's own limit counts when it is shorter; none is the parent's."""
    worker = Worker(a_call(7))
    nested.asked(worker, asks(7, timeout_ms=500), 4.0)  # type: ignore[arg-type]
    nested.asked(worker, asks(7, timeout_ms=0), 4.0)  # type: ignore[arg-type]
    assert [message.timeout_ms for message in node.routed] == [500, 6000]


@pytest.mark.parametrize("meta", [None, {}, {"parent": 8}, {"parent": "7"}, {"parent": [7]}])
def test_who_runs_no_call_may_not_call(node: Node, nested: Nested, meta: Any) -> None:
    """A container may speak for the call that it runs, and for no other."""
    worker = Worker(a_call(7))
    nested.asked(worker, asks(7, meta=meta), 0.0)  # type: ignore[arg-type]
    assert error(worker).code == Code.FORBIDDEN
    assert not node.routed


def test_a_circle_and_an_endless_chain_are_refused(node: Node, nested: Nested) -> None:
    """Both are told at once, with the chain."""
    for parent, said in (
        (a_call(7, chain=[["other", "t"]]), "other/t -> f/s -> other/t"),
        (a_call(7, chain=[["g", str(n)] for n in range(MAX_CHAIN - 1)]), str(MAX_CHAIN)),
    ):
        worker = Worker(parent)
        nested.asked(worker, asks(7), 0.0)  # type: ignore[arg-type]
        assert error(worker).code == Code.BAD_REQUEST
        assert said in error(worker).message
    assert not node.routed


def test_a_parent_whose_time_is_over_calls_nobody(node: Node, nested: Nested) -> None:
    """It may still run to its hard limit; what it would call certainly does not."""
    worker = Worker(a_call(7))
    nested.asked(worker, asks(7), 10.0)  # type: ignore[arg-type]
    assert (error(worker).code, error(worker).meta) == (Code.DEADLINE_EXCEEDED, {"ran": False})
    assert not node.routed


def test_a_container_has_a_bound(node: Node, nested: Nested) -> None:
    """So many calls under way, and no more."""
    worker = Worker(a_call(7))
    worker.link.inflight = MAX_CHILDREN
    nested.asked(worker, asks(7), 0.0)  # type: ignore[arg-type]
    assert error(worker).code == Code.OVERLOADED


def test_children_end_with_their_parent(node: Node, nested: Nested) -> None:
    """What is not answered then nobody waits for: of the parent that ended only, and of all when the container dies."""
    worker = Worker(a_call(7), a_call(8))
    for id_, parent in ((1, 7), (2, 7), (3, 8)):
        nested.asked(worker, asks(parent, id=id_), 0.0)  # type: ignore[arg-type]
    worker.children[7][0].answered = True
    nested.parent_ended(worker, worker.calls.pop(7))  # type: ignore[arg-type]
    assert [call.serial for call in node.given_up] == [102]
    nested.container_ended(worker)  # type: ignore[arg-type]
    assert [call.serial for call in node.given_up] == [102, 103]
    assert not worker.children
