"""The addresses where other nodes may be, and when to dial each (DESIGN §6, reliability §2.9).

One list for all sources: seeds, members that gossip knows, announcements on the LAN, nodes remembered from before.
An address is a rumour until a node of this mesh has answered there; a wrong one costs a dial now and then, and what
strangers announce is bounded. Refuses to know sockets and who lives: gossip does.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import IntEnum

MAX_DIALS = 8
"""At the same time."""

MAX_ANNOUNCED = 128
MAX_PER_HOST = 8
ANNOUNCED_SECONDS = 60.0
"""Until an announcement that was not repeated is forgotten."""

FIRST_DIAL = 0.5
"""Seconds for a newcomer's own connections, which it has begun before anybody heard of it."""

SECOND_DIAL = 2.0
"""Seconds for the node with the lower name to dial: if both did they would meet twice."""

STEADY = 10.0
"""Seconds a connection must have lasted to count as a success."""


class Source(IntEnum):
    """Where an address comes from; the higher one counts when there are several."""

    REMEMBERED = 0
    AWAY = 1
    """A member that is down: behind a cut it takes this node for dead as well, and neither has another way back."""
    ANNOUNCED = 2
    MEMBER = 3
    SEED = 4


FIRST_WAIT, LAST_WAIT = 0.1, {
    Source.SEED: 5.0,
    Source.MEMBER: 5.0,
    Source.ANNOUNCED: 300.0,
    Source.AWAY: 60.0,
    Source.REMEMBERED: 300.0,
}
"""Seconds between two dials of an address: doubled up to that."""


@dataclass(slots=True)
class _Candidate:
    source: Source
    node: str
    due: float
    expires: float
    wait: float = FIRST_WAIT
    dialling: bool = False


class Candidates:
    """What is told goes in by source, `due` says whom to dial now, `ended` what came of it."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._known: dict[str, _Candidate] = {}
        self.refused = 0
        """Announcements beyond the bounds."""

    def seed(self, address: str) -> None:
        """The configuration names it."""
        self._tell(address, "", Source.SEED, 0.0, float("inf"))

    def remembered(self, node: str, address: str) -> None:
        """It was part of the mesh in this node's former life."""
        self._tell(address, node, Source.REMEMBERED, 0.0, float("inf"))

    def announced(self, node: str, address: str, now: float) -> None:
        """Somebody announces on the LAN to be that node of this mesh."""
        if node == self._node:
            return
        if address not in self._known and not self._room_for(address):
            self.refused += 1
            return
        first = self._node < node
        due = now if first else now + SECOND_DIAL
        self._tell(address, node, Source.ANNOUNCED, due, now + ANNOUNCED_SECONDS)

    def _room_for(self, address: str) -> bool:
        host = _host(address)
        theirs = [_host(a) for a, one in self._known.items() if one.source is Source.ANNOUNCED]
        return len(theirs) < MAX_ANNOUNCED and theirs.count(host) < MAX_PER_HOST

    def members(self, rows: Iterable[tuple[str, str, float]], away: Iterable[str] = ()) -> None:
        """The (node, address, known since) that gossip holds to be there, and the addresses of those that are down. The
        others are members no more."""
        here = set()
        for node, address, since in rows:
            here.add(address)
            pause = FIRST_DIAL if self._node < node else SECOND_DIAL
            self._tell(address, node, Source.MEMBER, since + pause, float("inf"))
        down = set(away) - here
        for address, one in list(self._known.items()):
            if one.source is Source.MEMBER and address in down:
                one.source = Source.AWAY
            elif one.source in (Source.MEMBER, Source.AWAY) and address not in here | down:
                self._drop(address)

    def _tell(self, address: str, node: str, source: Source, due: float, expires: float) -> None:
        one = self._known.get(address)
        if one is None:
            self._known[address] = _Candidate(source, node, due, expires)
            return
        if source >= one.source:
            if source > one.source:
                one.wait = min(one.wait, LAST_WAIT[source])
                one.due = min(one.due, max(due, 0.0))
            one.source, one.expires = source, expires
            one.node = node or one.node

    def _drop(self, address: str) -> None:
        if not self._known[address].dialling:
            del self._known[address]
        else:
            self._known[address].expires = 0.0

    def due(self, now: float, connected: Collection[str]) -> list[str]:
        """The addresses to dial now; `ended` must be told of each."""
        for address in [a for a, one in self._known.items() if one.expires <= now and not one.dialling]:
            del self._known[address]
        room = MAX_DIALS - sum(one.dialling and one.node not in connected for one in self._known.values())
        chosen: list[str] = []
        for address, one in sorted(self._known.items(), key=lambda item: -item[1].source):
            absent = not one.dialling and one.node not in connected
            if absent and one.due <= now and len(chosen) < room:
                one.dialling = True
                chosen.append(address)
        return chosen

    def is_node(self, address: str, node: str) -> None:
        """The handshake told who is there."""
        if address in self._known:
            self._known[address].node = node

    def ended(self, address: str, lasted: float, jitter: float, now: float) -> None:
        """A dial failed, or the connection it led to has ended after `lasted` seconds. `jitter`: 0.8 to 1.2."""
        one = self._known.get(address)
        if one is None:
            return
        one.dialling = False
        if lasted > STEADY:
            one.wait = FIRST_WAIT
        one.due = now + one.wait * jitter
        one.wait = min(2 * one.wait, LAST_WAIT[one.source])

    def __len__(self) -> int:
        return len(self._known)


def _host(address: str) -> str:
    return address.rpartition(":")[0]
