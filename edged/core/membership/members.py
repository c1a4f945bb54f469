"""What is known of every node (reliability §2.6, §2.7).

Decides how many are remembered and for how long after their end, and in which order they are probed. A node that
is down is remembered so that late words about it do not bring it back.
"""

from collections import deque
from collections.abc import Iterator
from zlib import crc32

from ..chance import Chance
from .profile import Profile
from .records import NodeRecord, Status
from .suspicion import Suspicion

FLAPS = 3
FLAP_SECONDS = 600.0
"""So many ends in that time, and a node gets half of what others get."""


def digest_of(record: NodeRecord, status: Status = Status.ALIVE) -> int:
    """64 bits of a life, an incarnation and an end; a suspect is not at its end."""
    text = f"{record.node} {record.boot} {record.inc} {max(1, status)}".encode()
    return crc32(text) << 32 | crc32(text, 1)


class Member:
    """One other node."""

    __slots__ = ("data", "deaf", "digest", "downs", "record", "since", "status", "suspicion")

    def __init__(self, record: NodeRecord, data: bytes, now: float) -> None:
        self.record = record
        self.data = data
        self.status = Status.LEFT if record.left else Status.ALIVE
        self.since = now
        self.suspicion: Suspicion | None = None
        self.downs: deque[float] | None = None
        self.digest = 0
        """What it adds to the digest of all."""
        self.deaf = 0
        """How often in a row it answered by connection only."""

    @property
    def here(self) -> bool:
        """Alive, or not known to be otherwise."""
        return self.status <= Status.SUSPECT

    @property
    def wary_until(self) -> float:
        """Until when it should get half of what others get, because it comes and goes."""
        downs = self.downs
        return downs[0] + FLAP_SECONDS if downs is not None and len(downs) == FLAPS else 0.0

    def turned(self, status: Status, now: float) -> None:
        """It is seen otherwise."""
        self.status, self.since = status, now
        if status is Status.DOWN:
            if self.downs is None:
                self.downs = deque(maxlen=FLAPS)
            self.downs.append(now)


class Members:
    """All others by name, at most `most` of them."""

    def __init__(self, chance: Chance, profile: Profile, most: int) -> None:
        self._chance = chance
        self._profile = profile
        self._most = most
        self._all: dict[str, Member] = {}
        self._order: list[str] = []
        self._next = 0
        self._present: list[str] = []
        self._digest = 0
        self._down: dict[str, Member] = {}
        self._data: set[bytes] = set()
        self.suspects: dict[str, Suspicion] = {}

    def __iter__(self) -> Iterator[Member]:
        return iter(self._all.values())

    def get(self, node: str) -> Member | None:
        """What is known of it."""
        return self._all.get(node)

    def knows(self, data: bytes) -> bool:
        """Whether this very record is the last one known: most of what an exchange brings."""
        return data in self._data

    @property
    def present(self) -> list[str]:
        """Those that are here."""
        return self._present

    @property
    def digest(self) -> int:
        """The same on two nodes that know the same lives, incarnations and ends; bodies do not count."""
        return self._digest

    def add(self, record: NodeRecord, data: bytes, now: float) -> Member | None:
        """A node not heard of before; None when there is no room."""
        if len(self._all) >= self._most and not self._forget_one():
            return None
        member = self._all[record.node] = Member(record, data, now)
        self._data.add(data)
        self._count(member)
        if member.here:
            self._appear(record.node)
        return member

    def _appear(self, node: str) -> None:
        """Probed at a place that chance says, so that newcomers are not probed by all at once."""
        self._present.append(node)
        self._order.insert(self._chance.randint(self._next, len(self._order)), node)

    def update(self, member: Member, record: NodeRecord, data: bytes) -> None:
        """A newer word of it."""
        self._data.discard(member.data)
        self._data.add(data)
        member.record, member.data = record, data
        self._count(member)

    def turn(self, member: Member, status: Status, now: float) -> None:
        """It is seen otherwise; to be suspected is done with `suspicion` as well."""
        was = member.here
        member.turned(status, now)
        self._count(member)
        node = member.record.node
        if status is Status.SUSPECT:
            assert member.suspicion is not None
            self.suspects[node] = member.suspicion
        else:
            member.suspicion = None
            self.suspects.pop(node, None)
        if status is Status.DOWN:
            self._down[node] = member
        else:
            self._down.pop(node, None)
        if was and not member.here:
            self._present.remove(node)
        elif member.here and not was:
            self._appear(node)

    def _count(self, member: Member) -> None:
        """As it is seen now, into the digest of all."""
        fresh = digest_of(member.record, member.status)
        self._digest ^= member.digest ^ fresh
        member.digest = fresh

    def next_down(self) -> float:
        """When the first suspect is down, unless it contradicts."""
        return min((one.deadline for one in self.suspects.values()), default=float("inf"))

    def next_to_probe(self) -> Member | None:
        """Each once, in an order by chance, then in another one."""
        while self._next < len(self._order):
            member = self._all.get(self._order[self._next])
            self._next += 1
            if member is not None and member.here:
                return member
        if not self._present:
            return None
        self._order = self._chance.sample(self._present, len(self._present))
        self._next = 1
        return self._all[self._order[0]]

    def some(self, count: int, but: str = "") -> list[Member]:
        """So many that are here, by chance, without `but`."""
        names = self._chance.sample(self._present, min(count + 1, len(self._present)))
        return [self._all[name] for name in names if name != but][:count]

    def gone(self, now: float, within: float) -> list[Member]:
        """Those that went down not longer ago than that."""
        return [member for member in self._down.values() if now - member.since < within]

    def forget_old(self, now: float) -> None:
        """Tombstones past their time."""
        for member in list(self._all.values()):
            if not member.here and now - member.since >= self._profile.tombstone:
                self._forget(member)

    def _forget_one(self) -> bool:
        gone = [member for member in self._all.values() if not member.here]
        if gone:
            self._forget(min(gone, key=lambda member: member.since))
        return bool(gone)

    def _forget(self, member: Member) -> None:
        self._digest ^= member.digest
        self._data.discard(member.data)
        self._down.pop(member.record.node, None)
        del self._all[member.record.node]
