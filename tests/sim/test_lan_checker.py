"""What the tests of the membership would find: each defect, put in on purpose, breaks a story of some seed."""

from collections.abc import Callable
from typing import Any

import pytest

from edged.core.membership import Carry, Effect, Membership, Send, Status, core
from edged.core.membership.members import Member, Members
from edged.core.membership.messages import Rumour
from edged.core.membership.probes import Probe, Probes
from edged.core.membership.records import NodeRecord
from edged.core.membership.rumours import Rumours
from edged.core.membership.suspicion import Suspicion

from . import test_lan as told

pytestmark = pytest.mark.ahead

SEEDS = 20

Patch = pytest.MonkeyPatch


def no_contradiction(patch: Patch) -> None:
    """Who is suspected says nothing."""
    patch.setattr(Membership, "_contradict", lambda self, said: None)


def contradicted_too_low(patch: Patch) -> None:
    """It repeats itself, instead of raising its incarnation."""

    def contradict(self: Membership, said: Rumour) -> None:
        self._letters.say(self.record._replace(ver=self.record.ver + 1))

    patch.setattr(Membership, "_contradict", contradict)


def a_former_life_counts(patch: Patch) -> None:
    """What was said of a node's last life is taken for this one."""
    heard = Membership._heard

    def hear(self: Membership, said: Rumour, now: float) -> list[Effect]:
        member = self.member(said.node)
        if member is not None:
            said = said._replace(boot=member.record.boot, inc=max(said.inc, member.record.inc))
        return heard(self, said, now)

    patch.setattr(Membership, "_heard", hear)


def a_new_body_revives(patch: Patch) -> None:
    """Any newer record makes a node alive again, of the same incarnation as well."""

    def status(member: Member, record: NodeRecord) -> Status:
        return Status.LEFT if record.left else Status.ALIVE

    patch.setattr(core, "_status_after", status)
    patch.setattr(Membership, "set_body", lambda self, body: None)

    def contradict(self: Membership, said: Rumour) -> None:
        self._letters.say(self.record._replace(ver=self.record.ver + 1))

    patch.setattr(Membership, "_contradict", contradict)


def a_suspect_is_down_at_once(patch: Patch) -> None:
    """There is no time to contradict."""
    patch.setattr(Suspicion, "_lasts", lambda self: 0.5)


def nobody_confirms(patch: Patch) -> None:
    """A suspect has all the time, however many suspect it."""
    patch.setattr(Suspicion, "confirm", lambda self, who: False)


def without(*unwanted: type[Effect]) -> Callable[[Any, Probe], list[Effect]]:
    ask = Membership._ask_others
    return lambda self, probe: [effect for effect in ask(self, probe) if not isinstance(effect, unwanted)]


def no_helpers(patch: Patch) -> None:
    """Nobody else is asked before a word is said."""
    patch.setattr(Membership, "_ask_others", without(Send))


def no_connection(patch: Patch) -> None:
    """Who does not answer to datagrams is not asked otherwise."""
    patch.setattr(Membership, "_ask_others", without(Carry))


def nothing_is_passed_on(patch: Patch) -> None:
    """Each node knows what it has seen itself."""
    patch.setattr(Rumours, "take", lambda self, room, repeats: [])


def the_dead_are_taken_over(patch: Patch) -> None:
    """What an exchange says to be down is down, whatever this node sees."""
    item = Membership._item
    patch.setattr(Membership, "_item", lambda self, data, now, doubted=frozenset(): item(self, data, now))


def one_is_never_asked(patch: Patch) -> None:
    """The order of probes leaves somebody out."""
    following = Members.next_to_probe

    def follow(self: Members) -> Member | None:
        member = following(self)
        return None if member is not None and member.record.node == "n2" else member

    patch.setattr(Members, "next_to_probe", follow)


def a_sleeper_accuses(patch: Patch) -> None:
    """Who did not run takes the silence of that time for the others'."""
    patch.setattr(Membership, "_slept", lambda self, seconds: None)


def late_answers_count(patch: Patch) -> None:
    """An answer to a question that is over is taken for one to the last."""
    answered = Probes.answered

    def answer(self: Probes, number: int) -> object:
        return answered(self, number if number in self._own or not self._own else max(self._own))

    patch.setattr(Probes, "answered", answer)


def who_left_is_dead(patch: Patch) -> None:
    """A goodbye is not said."""
    patch.setattr(Membership, "leave", lambda self, now: [])


DEFECTS = [
    no_contradiction,
    contradicted_too_low,
    a_former_life_counts,
    a_new_body_revives,
    a_suspect_is_down_at_once,
    nobody_confirms,
    no_helpers,
    no_connection,
    nothing_is_passed_on,
    the_dead_are_taken_over,
    one_is_never_asked,
    a_sleeper_accuses,
    late_answers_count,
    who_left_is_dead,
]


def stories(seed: int) -> None:
    """Everything that is told with a seed, and what is told without."""
    told.test_newcomers_become_known_to_all(seed)
    told.test_a_death_is_seen_by_all_in_time(seed, True, 6.0)
    told.test_a_death_is_seen_by_all_in_time(seed, False, 9.0)
    told.test_a_pause_of_three_seconds_is_no_death(seed)
    told.test_a_restart_is_another_life(seed)
    told.test_a_goodbye_is_no_death(seed)
    told.test_both_sides_of_a_cut_find_each_other_again(seed)
    told.test_a_way_that_is_shut_in_one_direction_is_no_death(seed)
    told.test_a_node_without_datagrams_is_no_death(seed)
    told.test_who_slept_accuses_nobody()
    told.test_an_answer_to_another_question_is_none()
    told.test_a_word_about_a_former_life_is_void()
    told.test_anything_may_happen_and_all_agree_when_it_is_over(seed)


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.__name__)
def test_a_defect_is_found(defect: Callable[[Patch], None], monkeypatch: Patch) -> None:
    """A story that does not end as it should turns up soon once the defect is in."""
    defect(monkeypatch)
    for seed in range(SEEDS):
        try:
            stories(seed)
        except AssertionError:
            return
    pytest.fail("nobody noticed")
