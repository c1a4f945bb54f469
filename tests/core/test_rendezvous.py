"""Rendezvous hashing: an order that all nodes agree on."""

from collections import Counter

from edged.core.records import SessionKey
from edged.core.rendezvous import rank


def ranked(key: SessionKey, nodes: list[str]) -> list[str]:
    return sorted(nodes, key=lambda node: rank(key, node, nodes))


NODES = [f"n{number}" for number in range(5)]
KEYS = [SessionKey("f", f"s{number}") for number in range(1000)]


def test_the_order_does_not_depend_on_who_asks() -> None:
    """The same nodes in any order of asking give the same order, without a place taken twice."""
    assert [rank(KEYS[0], node, NODES) for node in ranked(KEYS[0], NODES)] == [0, 1, 2, 3, 4]
    assert ranked(KEYS[0], NODES) == ranked(KEYS[0], NODES[::-1])


def test_a_node_that_goes_moves_nobody_else() -> None:
    """Without one node the others keep their places among themselves."""
    for key in KEYS[:50]:
        before = ranked(key, NODES)
        gone = before[1]
        assert ranked(key, [n for n in NODES if n != gone]) == [n for n in before if n != gone]


def test_every_node_comes_first_for_its_share() -> None:
    """A thousand keys: no node is first for less than a tenth or more than a third of them."""
    first = Counter(ranked(key, NODES)[0] for key in KEYS)
    assert set(first) == set(NODES)
    assert all(100 < count < 333 for count in first.values())
