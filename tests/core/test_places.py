"""Which container a local session gets, where several share one."""

from math import ceil

from hypothesis import given
from hypothesis import strategies as st

from edged.core.places import Places

STEPS = st.lists(st.tuples(st.sampled_from(["come", "leave", "die", "shut", "open"]), st.integers(0, 30)), max_size=80)


def come(places: Places, held: dict[int, int], slow: tuple[int, ...] = ()) -> int:
    """One session more: in the container that was chosen, or else a new one."""
    chosen = places.choose(slow)
    assert chosen is None or isinstance(chosen, int)
    container = max(held, default=0) + 1 if chosen is None else chosen
    places.take(container)
    held[container] = held.get(container, 0) + 1
    return container


@given(st.integers(1, 8), STEPS)
def test_no_container_has_too_many_and_none_is_forgotten(limit: int, steps: list[tuple[str, int]]) -> None:
    """Whatever comes, leaves and dies: no container has more sessions than it may, the fullest open one with room is
    chosen, the last to leave is told so, and the free places are those of open containers."""
    places, held, shut = Places(limit), dict[int, int](), set[int]()
    for step, number in steps:
        known = sorted(held)
        if step == "come":
            room = [held[one] for one in known if held[one] < limit and one not in shut]
            container = come(places, held)
            assert held[container] == max(room, default=0) + 1
        elif known:
            one = known[number % len(known)]
            if step == "leave":
                held[one] -= 1
                assert places.leave(one) == (held[one] == 0)
            elif step == "die":
                places.gone(one)
                held[one] = 0
            else:
                places.shut(one, step == "shut")
                (shut.add if step == "shut" else shut.discard)(one)
            if not held[one]:
                del held[one]
                shut.discard(one)
        assert all(0 < many <= limit for many in held.values())
        assert places.free == sum(limit - many for one, many in held.items() if one not in shut)


@given(st.integers(1, 8), st.integers(0, 40))
def test_as_few_containers_as_possible_are_used(limit: int, sessions: int) -> None:
    """Sessions that only come fill one container after the other."""
    places, held = Places(limit), dict[int, int]()
    for _ in range(sessions):
        come(places, held)
    assert len(held) == ceil(sessions / limit)


def test_a_slow_container_is_chosen_by_nobody_who_does_not_have_to() -> None:
    """One that is `slow` is left out, though it is the fullest."""
    places, held = Places(3), dict[int, int]()
    assert [come(places, held), come(places, held), come(places, held, slow=(1,))] == [1, 1, 2]
    assert (places.choose(), places.choose((1,)), places.choose((1, 2))) == (1, 2, None)


def test_nobody_leaves_a_container_that_is_gone() -> None:
    """A session that leaves what has ended is not the last one of anything."""
    places = Places(2)
    places.take("a")
    places.gone("a")
    assert not places.leave("a")
    places.shut("a", True)
    places.take("a")
    assert places.choose() == "a"
