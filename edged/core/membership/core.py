"""The member: what each datagram, deadline and record leads to (DESIGN §6, reliability §2.6).

Joins probes, suspicions and rumours. Everything said of this node that is not so is contradicted by a higher
incarnation, which only this node may raise.
"""

from collections.abc import Iterable

from ..chance import Chance
from . import messages as m
from .effects import Carry, Changed, Deaf, Effect, Namesake, Sync, Told
from .exchanges import Exchanges
from .letters import Letters
from .members import Member, Members
from .messages import Datagram, Kind, Rumour
from .probes import Errand, Probe, Probes
from .profile import LAN, Profile
from .records import NodeRecord, Status, parsed
from .rumours import Rumours
from .suspicion import Suspicion

LATE = 0.25
"""Seconds behind a deadline that mean: this process did not run."""

LOOKERS = 8
"""Nodes that probe one whom another suspects, about so many of a large mesh."""

CLEANING = 60.0

DEAF = 5
"""Answers in a row that came by connection only: then no datagram gets through, and it is no chance loss."""


class Membership:
    """One node's view. All times are seconds of one clock that never goes back."""

    def __init__(
        self,
        node: str,
        boot: str,
        address: str,
        chance: Chance,
        now: float,
        profile: Profile = LAN,
        most: int = 1024,
    ) -> None:
        self._chance = chance
        self._profile = profile
        self._members = Members(chance, profile, most)
        self._rumours = Rumours()
        self._letters = Letters(self._members, self._rumours, profile, now)
        self._letters.say(NodeRecord(node, boot, 0, 1, False, address, b""))
        self._probes = Probes(profile)
        self._next_probe = now + chance.random() * profile.interval
        self._next_gossip = now + chance.random() * profile.gossip
        self._next_cleaning = now + CLEANING
        self._exchanges = Exchanges(profile, chance, now)
        self._namesake = boot

    # What is known

    @property
    def record(self) -> NodeRecord:
        """This node's own word."""
        return self._letters.me

    @property
    def health(self) -> int:
        """From 0 (well) to 8: how much speaks for this node being the slow one."""
        return self._probes.health

    def members(self) -> list[Member]:
        """All others that are remembered."""
        return list(self._members)

    def member(self, node: str) -> Member | None:
        """One of them."""
        return self._members.get(node)

    def state(self) -> list[bytes]:
        """Everything, for `merge` at another node: records, and who of them is down."""
        items = [self.record.packed()]
        for member in self._members:
            items.append(member.data)
            if member.status is Status.DOWN:
                items.append(self._word(2, member).packed())
        return items

    # What this node says of itself

    def set_body(self, body: bytes) -> None:
        """New words of this node. Raises ValueError when they are too long."""
        fresh = self.record._replace(body=body, ver=self.record.ver + 1)
        if parsed(fresh.packed()) is None:
            raise ValueError("the body is too long for a record")
        self._letters.say(fresh)

    def set_address(self, address: str) -> None:
        """Where this node is found from now on."""
        if address != self.record.address:
            self._letters.say(self.record._replace(address=address, ver=self.record.ver + 1))

    def leave(self, now: float) -> list[Effect]:
        """Goodbye."""
        self._letters.say(self.record._replace(left=True))
        return self._letters.gossip(now, self._members.some(2 * self._profile.fanout))

    # Time

    def next_deadline(self) -> float:
        """When `on_deadline` has something to do."""
        end = min(self._next_probe, self._probes.next_deadline(), self._exchanges.next, self._next_cleaning)
        if self._rumours:
            end = min(end, self._next_gossip)
        return min(end, self._members.next_down())

    def on_deadline(self, now: float) -> list[Effect]:
        """Everything whose time has come."""
        late = now - self._next_probe  # the one deadline that nothing moves into the past
        if late > LATE:
            self._slept(late)
        effects: list[Effect] = []
        for over in self._probes.due(now):
            effects += self._over(over, now)
        for node in [n for n, s in self._members.suspects.items() if s.deadline <= now]:
            effects += self._down(node, now)
        if self._next_probe <= now:
            self._next_probe = now + self._probes.interval
            effects += self._probe(self._members.next_to_probe(), now)
        if self._next_gossip <= now and self._rumours:
            self._next_gossip = now + self._profile.gossip
            effects += self._spread(now)
        if self._exchanges.due(now):
            effects += [Sync(member.record.node) for member in self._members.some(1)]
        if self._next_cleaning <= now:
            self._next_cleaning = now + CLEANING
            self._members.forget_old(now)
        return effects

    def _slept(self, seconds: float) -> None:
        self._probes.slept(seconds)
        for suspicion in self._members.suspects.values():
            suspicion.postpone(seconds)

    # Probing

    def refused(self, node: str, now: float) -> list[Effect]:
        """A connection to it broke: ask at once, through others as well."""
        member = self._members.get(node)
        if member is None or not member.here:
            return []
        effects = self._probe(member, now)
        probe = self._probes.of(node)
        if probe is not None and not probe.indirect:
            effects += self._ask_others(probe)
        return effects

    def _probe(self, member: Member | None, now: float) -> list[Effect]:
        if member is None:
            return []
        record = member.record
        number = self._probes.begin(record.node, now)
        if number is None:
            return []
        ping = number, record.node, self.record.address, self._accusation(member)
        return [self._letters.to(record.address, Kind.PING, *ping)]

    def _accusation(self, member: Member) -> list[bytes]:
        """One that is suspected hears it first, so that it can contradict."""
        return [self._word(1, member).packed()] if member.status is Status.SUSPECT else []

    def _over(self, over: Probe | Errand, now: float) -> list[Effect]:
        if isinstance(over, Errand):
            return [self._letters.to(over.address, Kind.NACK, over.number, over.subject)]
        if not over.indirect:
            return self._ask_others(over)
        self._probes.failed(over)
        member = self._members.get(over.node)
        if member is None or not member.here:
            return []
        return self._heard(self._word(1, member), now)

    def _ask_others(self, probe: Probe) -> list[Effect]:
        probe.indirect = True
        member = self._members.get(probe.node)
        if member is None:
            return []
        helpers = self._members.some(self._profile.helpers, but=probe.node)
        probe.helpers = len(helpers)
        ask = Kind.PING_FOR_ME, probe.number, probe.node, member.record.address
        asked: list[Effect] = [self._letters.to(helper.record.address, *ask) for helper in helpers]
        ping = self._letters.datagram(Kind.PING, probe.number, probe.node, self.record.address, self._accusation(member))
        return [*asked, Carry(probe.node, ping)]

    def _down(self, node: str, now: float) -> list[Effect]:
        member = self._members.get(node)
        return [] if member is None else self._heard(self._word(2, member), now)

    def _word(self, word: int, member: Member) -> Rumour:
        record = member.record
        return Rumour(word, record.node, record.boot, record.inc, self.record.node)

    # Datagrams

    def receive(self, payload: bytes, now: float) -> list[Effect]:
        """A datagram; what is none changes nothing."""
        datagram = m.parsed(payload)
        if datagram is None or datagram.sender == self.record.node:
            return []
        effects = [effect for item in datagram.items for effect in self._item(item, now)]
        effects += self._answer(datagram, now)
        return effects

    def carried(self, payload: bytes, now: float) -> tuple[bytes, list[Effect]]:
        """A datagram came over a connection, because the way for datagrams may be shut: what goes back over it
        (b"" for nothing), and the rest."""
        datagram = m.parsed(payload)
        if datagram is None or datagram.sender == self.record.node:
            return b"", []
        effects = [effect for item in datagram.items for effect in self._item(item, now)]
        effects += self._compare(datagram, now)
        if datagram.kind is Kind.PING and datagram.subject == self.record.node:
            return self._letters.datagram(Kind.ACK, datagram.number, self.record.node), effects
        if datagram.kind is Kind.ACK:
            effects += self._acked(datagram.number, by_connection=True)
        return b"", effects

    def _answer(self, datagram: Datagram, now: float) -> list[Effect]:
        kind, number = datagram.kind, datagram.number
        if kind is Kind.PING:
            if datagram.subject != self.record.node or not datagram.address:
                return []  # meant for whoever had this address before
            ack = self._letters.to(datagram.address, Kind.ACK, number, self.record.node)
            return [ack, *self._compare(datagram, now)]
        if kind is Kind.ACK:
            return [*self._acked(number), *self._compare(datagram, now)]
        if kind is Kind.NACK:
            self._probes.denied(number)
        elif kind is Kind.PING_FOR_ME:
            return self._run_errand(datagram, now)
        return []

    def _run_errand(self, datagram: Datagram, now: float) -> list[Effect]:
        asker = self._members.get(datagram.sender)
        if asker is None or not datagram.address or not datagram.subject:
            return []
        number = self._probes.errand(asker.record.address, datagram.number, datagram.subject, now)
        to = datagram.address
        return [self._letters.to(to, Kind.PING, number, datagram.subject, self.record.address)]

    def _acked(self, number: int, by_connection: bool = False) -> list[Effect]:
        asked = self._probes.answered(number)
        if isinstance(asked, Errand):
            return [self._letters.to(asked.address, Kind.ACK, asked.number, asked.subject)]
        member = None if asked is None else self._members.get(asked.node)
        if member is None:
            return []
        member.deaf = member.deaf + 1 if by_connection else 0
        return [Deaf(member.record.node)] if member.deaf == DEAF else []

    def _compare(self, datagram: Datagram, now: float) -> list[Effect]:
        """Two that know different things although nothing is on its way exchange all they know."""
        sender = datagram.sender
        same = datagram.digest == self._letters.digest() or self._members.get(sender) is None
        if same or self._rumours or not self._exchanges.wanted(sender, now):
            return []
        return [Sync(sender)]

    def _spread(self, now: float) -> list[Effect]:
        to = self._members.some(self._profile.fanout)
        gone = self._members.gone(now, self._profile.gossip_to_dead)
        if gone and self._chance.random() < 0.2:
            to.append(self._chance.choice(gone))  # it may live behind a cut that has healed
        return self._letters.gossip(now, to)

    # Words

    def merge(self, items: Iterable[bytes], now: float) -> list[Effect]:
        """What another node gave from its `state`; what makes no sense is left out.

        Who knew nobody has nothing to tell the others that they did not know: it passes none of that on. A node that
        is there for this one and down for the other is suspected: both sides of a cut would else take each other's
        dead over, and nobody would be left who tells them.
        """
        knew_nobody = not self._members.present
        here = frozenset(self._members.present)
        effects = [effect for item in items for effect in self._item(item, now, here)]
        if knew_nobody:
            self._rumours.keep_only(self.record.node)
        return effects

    def _item(self, item: bytes, now: float, doubted: frozenset[str] = frozenset()) -> list[Effect]:
        if item[:1] == m.RUMOUR:
            said = m.rumour(item)
            if said is not None and said.node in doubted:
                said = said._replace(word=1)
            return self._heard(said, now) if said is not None else []
        if self._members.knows(item):
            return []
        record = parsed(item)
        return self._learn(record, item, now) if record is not None else []

    def _learn(self, record: NodeRecord, data: bytes, now: float) -> list[Effect]:
        """A node's own word, if it is newer than what is known."""
        if record.node == self.record.node:
            if record.boot != self.record.boot and record.life > self.record.life:
                return self._met_namesake(record)
            return []
        member = self._members.get(record.node)
        if member is None:
            member = self._members.add(record, data, now)
            if member is None:
                return []
            return self._news(member, data, now)
        if record.rank <= member.record.rank:
            return []
        status = _status_after(member, record)
        self._members.update(member, record, data)
        if status is member.status:
            self._rumours.add("record", record.node, data)
            return [Told(record)]
        self._rumours.drop("word", record.node)
        self._members.turn(member, status, now)
        return self._news(member, data, now)

    def _met_namesake(self, record: NodeRecord) -> list[Effect]:
        """Told once of each life; who of two calls itself so first is not for the mesh to say."""
        known, self._namesake = self._namesake, record.boot
        return [] if known == record.boot else [Namesake(record)]

    def _news(self, member: Member, data: bytes, now: float) -> list[Effect]:
        self._exchanges.changed(now)
        self._rumours.add("record", member.record.node, data)
        return [Changed(member.record.node, member.status, member.record)]

    def _heard(self, said: Rumour, now: float) -> list[Effect]:
        """What one node says of another, or this one of itself."""
        if said.node == self.record.node:
            self._contradict(said)
            return []
        member = self._members.get(said.node)
        if member is None or said.boot != member.record.boot or said.inc < member.record.inc:
            return []
        if said.word == 2:
            return self._turned(member, Status.DOWN, said, now) if member.here else []
        if member.status is Status.ALIVE:
            nodes = len(self._members.present) + 1
            member.suspicion = Suspicion(said.by, nodes, self._profile, now)
            effects = self._turned(member, Status.SUSPECT, said, now)
            # Some look for themselves at once, else a confirmation would wait for their next turn to probe it.
            if said.by != self.record.node and self._chance.random() < LOOKERS / nodes:
                effects += self._probe(member, now)
            return effects
        if member.suspicion is not None and member.suspicion.confirm(said.by):
            self._rumours.add("word", said.node, said.packed())
        return []

    def _turned(self, member: Member, status: Status, said: Rumour, now: float) -> list[Effect]:
        self._exchanges.changed(now)
        self._members.turn(member, status, now)
        self._rumours.add("word", said.node, said.packed())
        return [Changed(said.node, status, member.record)]

    def _contradict(self, said: Rumour) -> None:
        if said.boot == self.record.boot and said.inc >= self.record.inc and not self.record.left:
            self._probes.feel(+1)
            self._letters.say(self.record._replace(inc=said.inc + 1, ver=self.record.ver + 1))


def _status_after(member: Member, record: NodeRecord) -> Status:
    """How a node is seen after a newer word of its own: only a new life or incarnation brings it back."""
    if record.left:
        return Status.LEFT
    old = member.record
    if record.life == old.life and record.inc == old.inc:
        return member.status
    return Status.ALIVE
