"""Datagrams under the mesh's key: only what a node of the mesh said, and that once."""

import os
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from edged.core.membership import Membership
from edged.core.membership.messages import Datagram, Kind
from edged.core.membership.records import NodeRecord
from edged.daemon.sealing import MAX_DATAGRAM, WINDOW, Opened, Sealer

KEY, OTHER = b"k" * 32, b"o" * 32


def test_what_one_seals_the_other_opens() -> None:
    """With the sender's name; in any order, each once."""
    one, other = Sealer("m", "n1", [KEY]), Sealer("m", "n2", [KEY])
    datagrams = [one.seal(b"%d" % n) for n in range(100)]
    Random(1).shuffle(datagrams)
    opened = [other.open(datagram) for datagram in datagrams]
    assert {o.payload for o in opened if o} == {b"%d" % n for n in range(100)}
    assert {o.sender for o in opened if o} == {"n1"}
    assert [other.open(datagram) for datagram in datagrams] == [None] * 100
    assert other.refused == {"replayed": 100}


def test_one_that_is_far_behind_is_refused() -> None:
    """What lies before the window could be a second time as well as a first."""
    one, other = Sealer("m", "n1", [KEY]), Sealer("m", "n2", [KEY])
    first, *rest = [one.seal(b"") for _ in range(WINDOW + 1)]
    assert other.open(rest[-1])
    assert other.open(rest[0])
    assert other.open(first) is None


def test_keys_are_changed_without_a_pause() -> None:
    """While all take both keys, whoever seals with either is understood; then the old one is a stranger's."""
    old, both, new = (Sealer("m", n, k) for n, k in (("a", [KEY]), ("b", [OTHER, KEY]), ("c", [OTHER])))
    assert both.open(old.seal(b"x")) == Opened("a", b"x")
    assert both.open(new.seal(b"y")) == Opened("c", b"y")
    assert new.open(both.seal(b"z")) == Opened("b", b"z")
    assert new.open(old.seal(b"x")) is None
    assert new.refused == {"wrong_key": 1}


def test_another_mesh_with_the_same_key_is_a_stranger() -> None:
    """The name of the mesh is part of what is sealed, and so is the sender's."""
    one, other = Sealer("m", "n1", [KEY]), Sealer("m2", "n2", [KEY])
    assert other.open(one.seal(b"")) is None
    datagram = Sealer("m", "n3", [KEY]).seal(b"")
    assert Sealer("m", "n2", [KEY]).open(datagram.replace(b"n3", b"n1")) is None


@given(st.binary(max_size=MAX_DATAGRAM + 10))
def test_any_bytes_are_refused(data: bytes) -> None:
    """Nothing that a stranger can think of is opened, or raises."""
    sealer = Sealer("m", "n1", [KEY])
    assert sealer.open(data) is None
    assert sealer.refused.total() == 1


def test_a_hundred_thousand_bad_datagrams_change_nothing() -> None:
    """Garbage, pieces, altered, replayed and under a wrong key: all refused and counted, no state changed."""
    chance = Random(5)
    friend, stranger, sealer = (
        Sealer("m", name, [key]) for name, key in (("you", KEY), ("you", OTHER), ("me", KEY))
    )
    core = Membership("me", "00000001-aa", "h:1", chance, 0.0)
    record = NodeRecord("you", "00000002-bb", 3, 4, False, "h:2", b"").packed()
    good = [friend.seal(Datagram(kind, "you", 7, items=(record,)).packed()) for kind in Kind]
    for datagram in good:
        opened = sealer.open(datagram)
        assert opened
        core.receive(opened.payload, 1.0)
    assert core.member("you")
    before, refused = core.state(), sealer.refused.total()
    bad = 100_000
    for n in range(bad):
        datagram = chance.choice(good)
        kind = n % 5
        if kind == 0:
            datagram = os.urandom(chance.randrange(200))
        elif kind == 1:
            datagram = datagram[: chance.randrange(len(datagram))]
        elif kind == 2:
            at = chance.randrange(len(datagram))
            datagram = datagram[:at] + bytes([datagram[at] ^ 1 << chance.randrange(8)]) + datagram[at + 1 :]
        elif kind == 3:
            datagram = stranger.seal(b"\x97" + datagram)
        opened = sealer.open(datagram)
        if opened is not None:
            core.receive(opened.payload, 4.0)
    assert core.state() == before
    assert sealer.refused.total() - refused == bad
    assert set(sealer.refused) == {"malformed", "wrong_key", "replayed"}
