"""Bytes of bodies in hand: bounded for each connection, and for all."""

from types import SimpleNamespace
from typing import Any

from edged.daemon.burden import MAX_ALL, MAX_LINK, Burden


def link(role: str = "device") -> Any:
    return SimpleNamespace(role=role, heavy=0)


def test_a_connection_has_its_share() -> None:
    """What goes beyond it is refused, and fits again once something has gone."""
    burden, one = Burden(), link()
    assert burden.take(one, MAX_LINK)
    assert not burden.take(one, 1)
    assert burden.take(link(), 1)
    burden.drop(one, MAX_LINK)
    assert burden.take(one, MAX_LINK)


def test_all_connections_together_are_bounded() -> None:
    """However many there are."""
    burden = Burden()
    links = [link() for _ in range(MAX_ALL // MAX_LINK)]
    assert all(burden.take(one, MAX_LINK) for one in links)
    assert not burden.take(link(), 1)
    burden.drop(links[0], MAX_LINK)
    assert burden.take(link(), 1)


def test_a_node_passes_on_calls_of_many_clients() -> None:
    """Only the bound of all holds for its connection."""
    burden, peer = Burden(), link("node")
    assert burden.take(peer, MAX_ALL)
    assert not burden.take(peer, 1)
