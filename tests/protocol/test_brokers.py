"""Addresses, and which broker is tried next."""

from random import Random
from typing import Any

import pytest

from edged_protocol.brokers import MAX_BROKERS, Address, Brokers, parse_address


def brokers(*given: str) -> Brokers:
    """Candidates with a fixed seed."""
    return Brokers(given, Random(3))


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:7400", Address("127.0.0.1", 7400)),
        ("edge-1.local:1", Address("edge-1.local", 1)),
        ("[::1]:7400", Address("::1", 7400)),
        ("[fe80::1%eth0]:65535", Address("fe80::1%eth0", 65535)),
        ("unix:/run/edged/admin.sock", Address("/run/edged/admin.sock", None)),
    ],
)
def test_an_address_is_read_and_written(text: str, address: Address) -> None:
    """The three forms, and back."""
    assert parse_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    ["", "a", "a:", ":1", "a:0", "a:65536", "a:-1", "a:1x", "a:" + "9" * 5000, "::1:7400", "a:b:1",
     "unix:", "unix:/a\0b", "a\n:1", "a:²"],
)  # fmt: skip
def test_what_is_no_address_is_refused(text: str) -> None:
    """Each is a ValueError that names the text."""
    with pytest.raises(ValueError, match="no|written"):
        parse_address(text)


def test_candidates_are_tried_in_the_order_given() -> None:
    """In order; one that failed comes after those that did not, and not before its pause is over."""
    known = brokers("a:1", "b:1", "c:1")
    a, b = parse_address("a:1"), parse_address("b:1")
    assert known.choose(0.0, ()) == a
    known.failed(a, "refused", 0.0)
    assert known.choose(0.0, ()) == b
    assert known.choose(0.0, {b}) == parse_address("c:1")
    known.failed(b, "refused", 0.0)
    known.failed(parse_address("c:1"), "refused", 0.0)
    assert known.exhausted
    assert known.choose(0.0, ()) is None
    assert 0.0 < known.next_time(()) <= 0.05
    assert known.choose(0.05, ()) == a


def test_pauses_double_up_to_five_seconds() -> None:
    """An address that keeps failing is left alone for longer; one that refuses for longest at once."""
    known, address = brokers("a:1"), parse_address("a:1")
    pauses = []
    for _ in range(12):
        known.failed(address, "refused", 0.0)
        pauses.append(known.next_time(()))
    assert pauses[0] <= 0.05
    assert 0.4 <= pauses[4] <= 0.8
    assert 2.5 <= max(pauses) <= 5.0
    known.worked(address)
    assert not known.exhausted
    known.failed(address, "unauthenticated", 0.0, refused=True)
    assert known.next_time(()) >= 2.5
    assert known.explain() == "a:1: unauthenticated"


@pytest.mark.parametrize(
    "rows",
    [None, 7, "ab", [7], [["n"]], [["n", 7]], [["n", "nonsense"]], [["n", "unix:/etc/x"]],
     [["n", "x:1", "more"]], [[["n"], ["x:1"]]]],
)  # fmt: skip
def test_malformed_lists_teach_nothing(rows: Any) -> None:
    """Nothing a broker says raises, and none leads to a path on this machine."""
    known = brokers("a:1")
    known.learn(rows, ())
    assert len(known) == 1


def test_what_the_mesh_tells_is_bounded() -> None:
    """Learned candidates come behind those given, are at most 64, and the one that failed most makes room."""
    known = brokers("a:1", "b:1")
    known.learn([["n", f"h{n}:1"] for n in range(1000)], ())
    assert len(known) == MAX_BROKERS
    known.failed(parse_address("h5:1"), "refused", 0.0)
    known.learn([["n", "new:1"]], ())
    assert len(known) == MAX_BROKERS
    chosen = set()
    while (address := known.choose(0.0, chosen)) is not None:
        chosen.add(address)
    assert {parse_address(text) for text in ("a:1", "b:1", "new:1", "h6:1")} <= chosen
    assert parse_address("h5:1") not in chosen


def test_no_broker_is_no_client() -> None:
    """At least one address is needed."""
    with pytest.raises(ValueError, match="brokers are needed"):
        brokers()
