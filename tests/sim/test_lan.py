"""The members of a mesh in virtual time: deaths are seen, and only deaths."""

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.core.membership import Membership, Namesake, Send, Status
from edged.core.membership.messages import Datagram, Kind, Rumour
from edged.core.membership.messages import parsed as parsed_datagram
from edged.core.membership.records import MAX_NUMBER, NodeRecord, parsed

from .lan import Lan

pytestmark = pytest.mark.ahead

FIVE = [f"n{i}" for i in range(5)]
SEEDS = range(40)


def met(seed: int, names: list[str] = FIVE, **network: float) -> Lan:
    """A mesh in which all know all."""
    lan = Lan(seed, names, **network)  # type: ignore[arg-type]
    lan.acquaint()
    lan.run(5.0)
    assert lan.agree()
    return lan


@pytest.mark.parametrize("seed", SEEDS)
def test_newcomers_become_known_to_all(seed: int) -> None:
    """Each tells one other only, over a connection; what gossip missed is found by digests."""
    lan = Lan(seed, FIVE, loss=0.05)
    for one, other in zip(FIVE[1:], FIVE, strict=False):
        lan.join(one, other)
    lan.run(15.0)
    assert lan.agree()


@pytest.mark.parametrize(("resets", "within"), [(True, 6.0), (False, 9.0)])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_death_is_seen_by_all_in_time(seed: int, resets: bool, within: float) -> None:
    """Of five: a kill, whose connections break, in six seconds; a machine without power a little later."""
    lan = met(seed, delay=0.02, loss=0.01)
    lan.crash("n2", resets)
    lan.run(within)
    assert all(host.sees("n2") is Status.DOWN for host in lan.running())
    assert lan.false_deaths() == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_a_pause_of_three_seconds_is_no_death(seed: int) -> None:
    """A node that stands still may be suspected; when it goes on it contradicts, and accuses nobody."""
    lan = met(seed)
    lan.hosts["n1"].paused = True
    lan.run(3.0)
    lan.hosts["n1"].resume()
    lan.run(20.0)
    assert not [change for change in lan.changes if change[3] is Status.DOWN]
    assert lan.agree()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_restart_is_another_life(seed: int) -> None:
    """Killed, said to be down, and back under the same name: seen as alive by all, in its new life."""
    lan = met(seed)
    lan.crash("n3")
    lan.run(8.0)
    again = lan.start("n3")
    lan.join("n3", "n0")
    lan.run(5.0)
    assert lan.agree()
    for host in lan.running():
        member = host.core.member("n3")
        assert member is None or member.record.boot == again.core.record.boot


def test_who_comes_and_goes_is_known_for_it() -> None:
    """Three ends in ten minutes: all are wary of it, until ten minutes after the first; two are none."""
    lan = met(1)
    began = lan.clock.now
    for end in range(3):
        assert {host.core.member("n3").wary_until for host in lan.running() if host.name != "n3"} == {0.0}, end  # type: ignore[union-attr]
        lan.crash("n3", resets=True)
        lan.run(10.0)
        lan.start("n3")
        lan.join("n3", "n0")
        lan.run(10.0)
    for host in lan.running():
        if host.name != "n3":
            assert began + 600 < host.core.member("n3").wary_until < began + 610  # type: ignore[union-attr]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_goodbye_is_no_death(seed: int) -> None:
    """Who leaves is known to have left, and is not probed, suspected or mourned."""
    lan = met(seed)
    host = lan.hosts["n4"]
    host.do(host.core.leave(host.now))
    lan.run(0.5)
    lan.crash("n4")
    lan.sent_to.clear()
    lan.run(15.0)
    assert lan.sent_to["n4"] == 0
    assert all(host.sees("n4") is Status.LEFT for host in lan.running())
    assert not [change for change in lan.changes if change[3] in (Status.SUSPECT, Status.DOWN)]


@pytest.mark.parametrize("seed", range(60))
def test_both_sides_of_a_cut_find_each_other_again(seed: int) -> None:
    """Each side takes the other for dead; after the cut all see all, without anybody's help."""
    lan = met(seed, loss=0.02)
    lan.cut(["n0", "n1"], ["n2", "n3", "n4"])
    lan.run(60.0)
    assert lan.hosts["n0"].sees("n3") is Status.DOWN
    assert lan.hosts["n3"].sees("n0") is Status.DOWN
    assert lan.hosts["n3"].sees("n4") is Status.ALIVE
    lan.cut()
    for one, other in (("n0", "n2"), ("n1", "n3")):
        lan.join(one, other)  # as the connections that are dialled for ever do
    lan.run(40.0)
    assert lan.agree()


@pytest.mark.parametrize("seed", range(20))
def test_a_way_that_is_shut_in_one_direction_is_no_death(seed: int) -> None:
    """Two that cannot hear each other, or one the other, both live: others hear them, and nobody is even suspected."""
    lan = met(seed)
    ways = [("n0", "n1")] if seed % 2 else [("n0", "n1"), ("n1", "n0")]
    lan.shut(*ways)
    lan.run(60.0)
    assert not [change for change in lan.changes if change[3] in (Status.SUSPECT, Status.DOWN)]


@pytest.mark.parametrize("seed", range(20))
def test_a_node_without_datagrams_is_no_death(seed: int) -> None:
    """Behind a firewall that passes TCP only it lives for all, sees a death in time, and is known to be deaf; one that
    stands still does not answer there either."""
    lan = met(seed)
    lan.without_datagrams = {"n1"}
    lan.run(120.0)
    assert lan.false_deaths() == 0
    assert [host.core.member("n1").deaf > 5 for host in lan.running() if host.name != "n1"] == [True] * 4  # type: ignore[union-attr]
    lan.crash("n3")
    lan.run(30.0)
    assert all(host.sees("n3") is Status.DOWN for host in lan.running())
    lan.hosts["n1"].paused = True
    lan.run(30.0)
    assert all(host.sees("n1") is Status.DOWN for host in lan.running() if host.name != "n1")
    lan.without_datagrams = set()
    lan.hosts["n1"].resume()
    lan.run(60.0)
    assert lan.agree()
    assert [host.core.member("n1").deaf for host in lan.running() if host.name != "n1"] == [0] * 3  # type: ignore[union-attr]


def troubled(seed: int) -> Lan:
    """Loss, copies, overtaking, clocks that are off and drift, cuts both ways and one way, hosts without datagrams,
    crashes, restarts and pauses; then quiet."""
    lan = met(seed, skew=1000.0, drift=0.02)
    lan.loss, lan.copies, lan.delay = 0.1, 0.1, 0.3
    chance = Random(seed)
    for _ in range(12):
        name = chance.choice(FIVE)
        TROUBLES[chance.randrange(len(TROUBLES))](lan, name, chance)
        lan.run(chance.uniform(0.1, 8.0))
    lan.cut()
    lan.without_datagrams = set()
    lan.loss, lan.delay = 0.01, 0.01
    for host in lan.running():
        if host.paused:
            host.resume()
        for other in lan.running():
            lan.sync(host, other.name)
    lan.run(40.0)
    return lan


def crash(lan: Lan, name: str, chance: Random) -> None:
    if len(lan.running()) > 2:
        lan.crash(name)


def restart(lan: Lan, name: str, chance: Random) -> None:
    if not lan.hosts[name].alive:
        lan.start(name)
        lan.join(name, chance.choice(lan.running()).name)


def cut(lan: Lan, name: str, chance: Random) -> None:
    half = [name, chance.choice([other for other in FIVE if other != name])]
    lan.cut(half, [other for other in FIVE if other not in half])


def one_way(lan: Lan, name: str, chance: Random) -> None:
    lan.shut(*((name, other) for other in chance.sample(FIVE, 2) if other != name))


def no_datagrams(lan: Lan, name: str, chance: Random) -> None:
    lan.without_datagrams ^= {name}


def heal(lan: Lan, name: str, chance: Random) -> None:
    lan.cut()


def pause(lan: Lan, name: str, chance: Random) -> None:
    host = lan.hosts[name]
    if host.alive and not host.paused:
        host.paused = True
    elif host.alive:
        host.resume()


TROUBLES: list[Callable[[Lan, str, Random], None]] = [crash, restart, cut, one_way, no_datagrams, heal, pause]


@pytest.mark.parametrize("seed", range(30))
def test_anything_may_happen_and_all_agree_when_it_is_over(seed: int) -> None:
    """Whatever the trouble was: no word takes the place of a newer one meanwhile, and one view of it after."""
    assert troubled(seed).agree()


def test_loss_alone_kills_nobody() -> None:
    """A hundred nodes, one datagram of twenty lost, half an hour: no false death."""
    lan = met(7, [f"n{i}" for i in range(100)], loss=0.05)
    lan.run(1800.0)
    assert lan.false_deaths() == 0
    assert lan.agree()


def test_a_word_of_its_own_reaches_all() -> None:
    """A new body is soon everywhere, by an exchange where gossip missed somebody; no older one takes its place."""
    lan = met(3, [f"n{i}" for i in range(30)], loss=0.05, copies=0.2)
    for turn in range(1, 6):
        lan.hosts["n0"].core.set_body(b"%d" % turn)
        lan.hosts["n0"].wake_soon()
        lan.run(40.0)
        seen = {host.core.member("n0").record.body for host in lan.running() if host.name != "n0"}  # type: ignore[union-attr]
        assert seen == {b"%d" % turn}


def alone() -> Membership:
    """A member that knows one other."""
    core = Membership("me", "00000001-aa", "h:1", Random(1), 0.0)
    core.merge([NodeRecord("you", "00000002-bb", 3, 4, False, "h:2", b"").packed()], 0.0)
    return core


def test_who_slept_accuses_nobody() -> None:
    """A process that did not run for ten seconds takes the silence of that time for its own."""
    core = alone()
    asked = next(now / 10 for now in range(20) if core.on_deadline(now / 10))
    for late in (10.0, 10.1, 10.2):
        core.on_deadline(asked + late)
    assert core.health > 0
    member = core.member("you")
    assert member is not None
    assert member.status is Status.ALIVE


def test_an_answer_to_another_question_is_none() -> None:
    """Numbers join answers to questions: one that comes late, for a question that is over, saves nobody."""
    core, now, asked = alone(), 0.0, 0
    while core.member("you").status is Status.ALIVE:  # type: ignore[union-attr]
        now += 0.1
        assert now < 30.0
        for effect in core.on_deadline(now):
            if isinstance(effect, Send):
                datagram = parsed_datagram(effect.payload)
                asked = datagram.number if datagram else asked
        core.receive(Datagram(Kind.ACK, "you", asked + 1, "you").packed(), now)
        core.receive(Datagram(Kind.ACK, "you", 0, "you").packed(), now)


def test_a_word_about_a_former_life_is_void() -> None:
    """A node that is back is not down because its former life is, whatever incarnation that had."""
    core = alone()
    hear(core, Rumour(2, "you", "00000001-ff", 9, "third"))
    assert core.member("you").status is Status.ALIVE  # type: ignore[union-attr]
    hear(core, Rumour(2, "you", "00000002-bb", 3, "third"))
    assert core.member("you").status is Status.DOWN  # type: ignore[union-attr]


def test_a_namesake_is_told_of_once() -> None:
    """A later life under this node's name is another node, told of once; a former life of this one is none."""
    core = alone()
    former, other = (NodeRecord("me", boot, 0, 1, False, "h:9", b"") for boot in ("00000000-cc", "00000007-dd"))
    assert core.merge([former.packed()], 1.0) == []
    assert core.merge([other.packed()], 1.0) == [Namesake(other)]
    assert core.merge([other.packed(), other._replace(ver=2).packed()], 2.0) == []
    assert core.record.boot == "00000001-aa"


def hear(core: Membership, said: Rumour) -> None:
    """A datagram with a rumour."""
    core.receive(Datagram(Kind.GOSSIP, "third", 0, items=(said.packed(),)).packed(), 1.0)


def test_down_for_another_is_suspect_for_who_sees_it_alive() -> None:
    """In an exchange; a node not heard of before is taken for what it is told to be."""
    core = alone()
    gone = NodeRecord("gone", "00000003-cc", 0, 1, False, "h:3", b"")
    words = [Rumour(2, "you", "00000002-bb", 3, "third"), Rumour(2, "gone", gone.boot, 0, "third")]
    core.merge([gone.packed(), *(word.packed() for word in words)], 1.0)
    seen = {one.record.node: one.status for one in core.members()}
    assert seen == {"you": Status.SUSPECT, "gone": Status.DOWN}


@given(st.binary(max_size=200))
def test_any_bytes_change_nothing(data: bytes) -> None:
    """Bytes that are no datagram, and items that are no words, lead to nothing."""
    core = alone()
    before = core.state()
    assert core.receive(data, 1.0) == []
    assert core.merge([data], 1.0) == []
    assert core.state() == before


@given(
    st.lists(
        st.builds(
            NodeRecord,
            st.just("you"),
            st.sampled_from(["00000001-ff", "00000002-bb", "00000003-00"]),
            st.integers(0, 3),
            st.integers(0, 3),
            st.booleans(),
            st.just("h:2"),
            st.just(b""),
            st.just(()),
        ),
        max_size=6,
    )
)
def test_the_newest_word_counts_in_any_order(records: list[NodeRecord]) -> None:
    """Whatever the order, what is known in the end is the word with the highest rank."""
    best = {}
    for order in (records, records[::-1], sorted(records)):
        core = Membership("me", "00000001-aa", "h:1", Random(1), 0.0)
        core.merge([record.packed() for record in order], 0.0)
        member = core.member("you")
        best[None if member is None else member.record.rank, member and member.status] = True
    assert len(best) == 1
    if records:
        assert next(iter(best))[0] == max(record.rank for record in records)


def test_what_a_later_version_adds_is_passed_on() -> None:
    """Elements behind those that are known stay in the record."""
    record = NodeRecord("you", "00000002-bb", 1, 1, False, "h:2", b"", ("later", 7))
    assert parsed(record.packed()) == record
    core = Membership("me", "00000001-aa", "h:1", Random(1), 0.0)
    core.merge([record.packed()], 0.0)
    assert record.packed() in core.state()


def test_numbers_have_a_bound() -> None:
    """A record whose numbers leave no room above them is none: nobody could contradict it."""
    for inc, ver in ((MAX_NUMBER, 0), (0, MAX_NUMBER), (-1, 0)):
        assert (
            parsed(NodeRecord("you", "00000002-bb", inc, ver, False, "h:2", b"").packed()) is None
        )
