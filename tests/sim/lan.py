"""A network of real members in virtual time, all from one seed: delay (so that datagrams overtake each other), loss,
copies, cuts both ways and one way, hosts without datagrams, crashes, restarts, pauses, clocks that are off and drift.

What nodes do over TCP here (exchange all they know, ask when datagrams are silent) takes longer than a datagram, is
not lost but late, and fails where nothing passes. What must hold of every change is checked as it happens.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from itertools import count
from random import Random

from edged.core.membership import Carry, Changed, Effect, Membership, Send, Status, Sync
from edged.core.membership.records import MAX_NUMBER
from edged.lab.clock import Clock

Watcher = Callable[["Host", Changed], None]


ROUNDING = 1e-6
"""Seconds, so that a deadline of a skewed clock has passed when the host wakes for it."""


RETRANSMIT = 0.2
"""Seconds that a lost segment costs a connection, about what Linux waits at least."""


class Host:
    """One life of one node."""

    def __init__(self, lan: "Lan", name: str, boot: str) -> None:
        self.lan = lan
        self.name = name
        self.address = f"{name}:7400"
        self.skew = lan.chance.uniform(0.0, lan.skew)
        self.pace = 1.0 + lan.chance.uniform(-lan.drift, lan.drift)
        """Seconds of its clock in a second."""
        chance = Random(lan.chance.random())
        self.core = Membership(name, boot, self.address, chance, self.now, most=lan.most)
        self.alive = True
        self.paused = False
        self.late: list[Callable[[], None]] = []
        self._wakes = float("inf")
        self.wake_soon()

    @property
    def now(self) -> float:
        """Its own clock."""
        return self.lan.clock.now * self.pace + self.skew

    def do(self, effects: Iterable[Effect]) -> None:
        """Carry out what the core wants."""
        for effect in effects:
            if isinstance(effect, Send):
                self.lan.send(self, effect.address, effect.payload)
            elif isinstance(effect, Carry):
                self.lan.carry(self, effect)
            elif isinstance(effect, Sync):
                self.lan.sync(self, effect.node)
            elif isinstance(effect, Changed):
                self.lan.changed(self, effect)
        self.wake_soon()

    def wake_soon(self) -> None:
        """At the next deadline; an earlier one than before takes its place."""
        at = (self.core.next_deadline() - self.skew) / self.pace + ROUNDING
        if at < self._wakes:
            self._wakes = at
            self.lan.clock.after(max(0.0, at - self.lan.clock.now), lambda: self._wake(at))

    def _wake(self, at: float) -> None:
        if self._wakes != at:
            return
        self._wakes = float("inf")
        if self.alive and not self.paused:
            if self.core.next_deadline() <= self.now:
                self.do(self.core.on_deadline(self.now))
            self.wake_soon()

    def when_running(self, act: Callable[[], None]) -> None:
        """Something came in; while the host stands still the kernel keeps it."""
        if self.paused:
            self.late.append(act)
        elif self.alive:
            act()

    def receive(self, payload: bytes) -> None:
        """A datagram."""
        self.lan.received += 1
        self.do(self.core.receive(payload, self.now))

    def resume(self) -> None:
        """SIGCONT: what came meanwhile first or the deadlines first, as it happens."""
        self.paused = False
        late, self.late = self.late, []
        if self.lan.chance.random() < 0.5:
            self.do(self.core.on_deadline(self.now))
        for act in late:
            act()
        self.wake_soon()

    def sees(self, name: str) -> Status | None:
        """How it sees another one."""
        member = self.core.member(name)
        return None if member is None else member.status


class Lan:
    """`hosts` by name. `loss` is a share of the datagrams, `delay` seconds at most, `copies` a share sent twice, `skew`
    seconds by which clocks differ, `drift` the share by which they go too fast or slow."""

    def __init__(
        self,
        seed: int,
        names: Iterable[str],
        *,
        loss: float = 0.0,
        delay: float = 0.01,
        copies: float = 0.0,
        skew: float = 0.0,
        drift: float = 0.0,
        most: int = 1024,
    ) -> None:
        self.chance = Random(seed)
        self.clock = Clock()
        self.loss, self.delay, self.copies, self.most = loss, delay, copies, most
        self.skew, self.drift = skew, drift
        self.without_datagrams: set[str] = set()
        """Hosts to and from which none passes, behind a firewall that knows TCP only."""
        self.sent = self.received = self.bytes = 0
        self.sent_to: Counter[str] = Counter()
        self.changes: list[tuple[float, str, str, Status]] = []
        self.watchers: list[Watcher] = []
        self._last: dict[tuple[str, str, str], tuple[object, ...]] = {}
        self._cut: dict[str, int] = {}
        self._shut: set[tuple[str, str]] = set()
        self._boots = count(1)
        self.hosts: dict[str, Host] = {}
        for name in names:
            self.start(name)

    def start(self, name: str) -> Host:
        """A life, the first or another."""
        boot = f"{next(self._boots):08d}-{self.chance.getrandbits(32):08x}"
        host = self.hosts[name] = Host(self, name, boot)
        return host

    def join(self, name: str, seed: str) -> None:
        """It connects to one that it was told of."""
        self.sync(self.hosts[name], seed)

    def acquaint(self) -> None:
        """All know all, as after a while."""
        items = [host.core.record.packed() for host in self.hosts.values()]
        for host in self.hosts.values():
            host.core.merge(items, host.now)
            host.wake_soon()

    def crash(self, name: str, resets: bool = False) -> None:
        """Power off; or SIGKILL, of which the others' connections tell at once."""
        self.hosts[name].alive = False
        for host in self.running() if resets else ():
            delay = self.chance.random() * self.delay
            self.clock.after(delay, lambda host=host: host.do(host.core.refused(name, host.now)))

    def cut(self, *sides: Iterable[str]) -> None:
        """Nothing passes between the sides; no side heals all."""
        self._cut = {name: number for number, side in enumerate(sides) for name in side}
        self._shut = set()

    def shut(self, *ways: tuple[str, str]) -> None:
        """Nothing passes from the first of each to the second; the other way it does."""
        self._shut = set(ways)

    def passes(self, one: str, other: str) -> bool:
        """Whether anything gets from here to there."""
        return self._cut.get(one) == self._cut.get(other) and (one, other) not in self._shut

    def connects(self, one: str, other: str) -> bool:
        """Whether they have a connection, which takes both ways."""
        return self.passes(one, other) and self.passes(other, one)

    def send(self, host: Host, address: str, payload: bytes) -> None:
        """A datagram; perhaps it arrives, perhaps twice."""
        self.sent += 1
        self.bytes += len(payload) + 28
        assert len(payload) <= 1_300, "a datagram is too long"
        name = address.partition(":")[0]
        self.sent_to[name] += 1
        open_way = self.passes(host.name, name) and not {host.name, name} & self.without_datagrams
        copies = 2 if self.chance.random() < self.copies else 1
        for _ in range(copies):
            if self.chance.random() >= self.loss and open_way:
                self.clock.after(
                    self.chance.random() * self.delay, lambda: self._arrive(name, payload)
                )

    def _arrive(self, name: str, payload: bytes) -> None:
        host = self.hosts.get(name)
        if host is not None:
            host.when_running(lambda: host.receive(payload))

    def _later(self, act: Callable[[], None]) -> None:
        """Over a connection: what is lost on the way is sent again."""
        seconds = self.chance.random() * self.delay * 4
        while self.chance.random() < self.loss:
            seconds += RETRANSMIT
        self.clock.after(seconds, act)

    def carry(self, host: Host, carry: Carry) -> None:
        """A datagram over the connection, and what comes back over it."""
        other = self.hosts.get(carry.node)
        if other is None or not self.connects(host.name, carry.node):
            return

        def there() -> None:
            answer, effects = other.core.carried(carry.payload, other.now)
            other.do(effects)
            if self.connects(host.name, carry.node):
                self._later(lambda: host.when_running(lambda: back(answer)))

        def back(answer: bytes) -> None:
            host.do(host.core.carried(answer, host.now)[1])

        self._later(lambda: other.when_running(there))

    def sync(self, host: Host, name: str) -> None:
        """Both tell each other everything."""
        other = self.hosts.get(name)
        if other is None or not self.connects(host.name, name):
            return

        def exchange() -> None:
            both = host.alive and other.alive and not host.paused and not other.paused
            if both and self.connects(host.name, name):
                other.do(other.core.merge(host.core.state(), other.now))
                host.do(host.core.merge(other.core.state(), host.now))

        self._later(exchange)

    def changed(self, host: Host, change: Changed) -> None:
        """A host sees a node otherwise."""
        assert change.node != host.name, "a node speaks of itself as of another"
        record, said = change.record, self.hosts[change.node].core.record
        assert record.rank <= said.rank, "a node has words of another that it never said"
        word = record.life, MAX_NUMBER if record.left else record.inc, change.status
        key = host.name, host.core.record.boot, change.node
        assert word > self._last.get(key, ()), "an older word took the place of a newer one"
        self._last[key] = word
        self.changes.append((self.clock.now, host.name, change.node, change.status))
        for watcher in self.watchers:
            watcher(host, change)

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.run(self.clock.now + seconds, lambda: None)

    def running(self) -> list[Host]:
        """Those that live."""
        return [host for host in self.hosts.values() if host.alive]

    def agree(self) -> bool:
        """Whether all that live see all that live as alive, and the rest as gone."""
        alive = {host.name for host in self.running()}
        for host in self.running():
            for name in self.hosts:
                if name != host.name and (host.sees(name) == Status.ALIVE) != (name in alive):
                    return False
        return True

    def false_deaths(self) -> int:
        """How often somebody was said to be down who lived; of lives that never ended."""
        lived = {host.name for host in self.running()}
        return sum(status is Status.DOWN and node in lived for _, _, node, status in self.changes)
