"""A session that a function, or an operator, ends: what counted is known, and the next call begins it anew."""

import pytest
from support.two_nodes import World

from edged.core.transition import S


def called(world: World, count: int) -> list[bytes]:
    """So many calls at "a", each run to its end; their ids."""
    ids = [world.random.randbytes(16) for _ in range(count)]
    for call_id in ids:
        world.call("a", call_id)
        world.run()
    return ids


def counts(world: World, ids: list[bytes]) -> list[int]:
    return [int(world.answers[call_id][-1].body) for call_id in ids]


@pytest.mark.parametrize("local", [False, True])
def test_a_call_may_end_its_session(local: bool) -> None:
    """It counts as the last one; the next begins the session anew with a higher epoch, and ids of before are known."""
    world = World(3)
    if local:
        world.want("a", "localize")
        world.run()
    first = called(world, 2)
    world.last.add(last := world.random.randbytes(16))
    world.call("a", last)
    world.call("a", behind := world.random.randbytes(16))
    world.run()
    assert counts(world, [*first, last, behind]) == [1, 2, 3, 1]
    epochs = [(world.answers[one][0].meta or {})["epoch"] for one in (*first, last, behind)]
    assert epochs[0] == epochs[1] == epochs[2] < epochs[3]
    world.call("b", last, attempt=1)
    world.run()
    assert counts(world, [last]) == [3]
    assert counts(world, called(world, 1)) == [2]


def test_an_operator_ends_a_local_session_behind_the_calls_it_has() -> None:
    """What it was given counts, nothing of the state is left, and who asked is told."""
    world = World(4)
    world.want("a", "localize")
    world.run()
    first = called(world, 2)
    world.call("a", running := world.random.randbytes(16))
    world.want("a", "end")
    world.call("a", behind := world.random.randbytes(16))
    world.run()
    assert [code for code, _ in world.done] == [0, 0]
    assert counts(world, [*first, running, behind]) == [1, 2, 3, 1]
    assert world.record is not None
    assert (world.record.mode, world.record.epoch, world.record.version) == ("remote", 2, 1)


def test_an_end_that_the_store_refuses_leaves_the_session_as_it_was() -> None:
    """Asked for, it fails with 106 and the container serves on."""
    world = World(5)
    world.want("a", "localize")
    world.run()
    first = called(world, 1)
    world.want("a", "end")
    world.refused.append(1)
    world.run()
    assert [code for code, _ in world.done] == [0, 106]
    assert world.seats["a"].local
    assert counts(world, [*first, *called(world, 1)]) == [1, 2]


@pytest.mark.parametrize("how", [1, 2])
def test_an_end_that_the_function_says_waits_for_the_store(how: int) -> None:
    """The call that said it may have been answered: nobody is served before the store has the end."""
    world = World(6)
    world.want("a", "localize")
    world.run()
    world.last.add(last := world.random.randbytes(16))
    world.call("a", last)
    world.refused.append(how)
    world.run()
    seat = world.seats["a"]
    assert seat.state is S.DOUBT
    world.do("a", seat.on_timer(seat.token, world.now))
    world.run()
    assert seat.state is S.FREE
    assert counts(world, [last, *called(world, 1)]) == [1, 1]


def test_only_a_local_session_ends_by_its_owner() -> None:
    """Of another one there is nothing to wait for: it ends by its record."""
    world = World(7)
    called(world, 1)
    world.want("a", "end")
    assert [code for code, _ in world.done] == [201]
