"""What every datagram says beside its purpose (reliability §2.6): who sends it, what it knows in short, and rumours.

Decides how much of what is passed on fits into one, and how many are sent within the budget. Refuses to know why a
datagram is sent and what rumours mean.
"""

from collections.abc import Iterable

from .effects import Effect, Send
from .members import Member, Members, digest_of
from .messages import Datagram, Kind
from .profile import MAX_PAYLOAD, Profile
from .records import NodeRecord, Status
from .rumours import ITEM_OVERHEAD, Rumours

HEADER = 160
"""Bytes of a datagram beside its items, at most: two names, an address and numbers."""


class Letters:
    """Datagrams of this node. `me` is what it says of itself, once it has said something."""

    me: NodeRecord

    def __init__(self, members: Members, rumours: Rumours, profile: Profile, now: float) -> None:
        self._members = members
        self._rumours = rumours
        self._profile = profile
        self._own_digest = 0
        self._budget, self._spent_at = profile.bytes_per_second, now

    def say(self, record: NodeRecord) -> None:
        """New words of this node, to be passed on."""
        self.me = record
        self._own_digest = digest_of(record, Status.LEFT if record.left else Status.ALIVE)
        self._rumours.add("record", record.node, record.packed())

    def digest(self) -> int:
        """Of all that is known, this node's own word among it."""
        return self._members.digest ^ self._own_digest

    def to(
        self,
        address: str,
        kind: Kind,
        number: int,
        subject: str = "",
        answer_to: str = "",
        first: Iterable[bytes] = (),
    ) -> Send:
        """A datagram on its way."""
        return Send(address, self.datagram(kind, number, subject, answer_to, first))

    def datagram(
        self,
        kind: Kind,
        number: int,
        subject: str = "",
        answer_to: str = "",
        first: Iterable[bytes] = (),
    ) -> bytes:
        """Its payload: `first`, then as many rumours as fit."""
        items = [*first]
        room = MAX_PAYLOAD - HEADER - sum(len(item) + ITEM_OVERHEAD for item in items)
        if self._rumours:
            repeats = self._profile.repeats(len(self._members.present) + 1)
            items += self._rumours.take(room, repeats)
        return Datagram(
            kind, self.me.node, number, subject, answer_to, self.digest(), tuple(items)
        ).packed()

    def gossip(self, now: float, to: Iterable[Member]) -> list[Effect]:
        """Rumours alone, as long as there are some and the budget of bytes allows."""
        limit = self._profile.bytes_per_second
        self._budget = min(limit, self._budget + (now - self._spent_at) * limit)
        self._spent_at = now
        effects: list[Effect] = []
        for member in to:
            if self._budget < MAX_PAYLOAD or not self._rumours:
                break
            sent = self.to(member.record.address, Kind.GOSSIP, 0)
            self._budget -= len(sent.payload)
            effects.append(sent)
        return effects
