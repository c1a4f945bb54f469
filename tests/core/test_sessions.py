"""A session's actor on two nodes with one store, every answer delayed at random: each call counts once."""

import gc

import pytest
from support.two_nodes import World

from edged.core.calls import Call
from edged.core.transition import NEXT, S


def values(world: World) -> list[int]:
    """The counter values that were acknowledged, one a call."""
    acknowledged = [
        {int(a.body) for a in answers if a.code == 0} for answers in world.answers.values()
    ]
    return sorted(value for one in acknowledged for value in one)


@pytest.mark.parametrize("durability", ["none", "checkpoint", "sync"])
@pytest.mark.parametrize("seed", range(300))
def test_every_call_counts_once_whatever_moves(seed: int, durability: str) -> None:
    """Calls and retries through both nodes while moves run: values 1 to n, each once."""
    world = World(seed, durability)
    chance = world.random
    ids = [chance.randbytes(16) for _ in range(60)]
    for call_id in ids:
        world.call(chance.choice("ab"), call_id)
        if chance.random() < 0.2:
            world.call(chance.choice("ab"), call_id, 1)
        if chance.random() < 0.3:
            node = chance.choice("ab")
            move = chance.choice(["localize", "externalize", "migrate"])
            world.want(node, move, "b" if node == "a" else "a" if move == "migrate" else "")
        for _ in range(chance.randrange(12)):
            if world.pending or any(world.lanes.values()):
                world.step()
    world.run()
    for call_id in ids:
        attempt = 1
        while all(a.code in (103, 105, 107) for a in world.answers.get(call_id, [])):
            world.answers.pop(call_id, None)
            world.call(chance.choice("ab"), call_id, attempt)
            world.run()
            attempt += 1
            assert attempt < 50
    assert values(world) == list(range(1, len(ids) + 1))
    for answers in world.answers.values():
        assert len({a.body for a in answers if a.code == 0}) == 1, "a retry got another answer"
    assert len(world.done) == world.wanted, "a move was never answered"
    assert not (world.seats["a"].local and world.seats["b"].local), "two owners"


def test_every_state_is_in_the_table_and_can_be_left() -> None:
    """The table covers all states, and none is an end."""
    assert set(NEXT) == set(S)
    assert all(NEXT[state] for state in S)


def test_a_queued_local_call_has_not_started() -> None:
    """Of the calls a session's container holds only the first runs; the hard limit is for that one."""
    world = World(1)
    world.want("a", "localize")
    world.run()
    for _ in range(2):
        world.call("a", world.random.randbytes(16))
    first, second = (effect.call for _, effect in next(lane for lane in world.lanes.values() if lane))
    assert first.started > 0.0
    assert second.started == 0.0
    world.now += 7.0
    world.step()
    assert second.started == pytest.approx(world.now)


def test_a_call_that_its_container_was_not_given_has_not_started() -> None:
    """Where other sessions share it, a call may be first in its session and yet wait for its turn."""
    world = World(1)
    world.want("a", "localize")
    world.run()
    for _ in range(2):
        world.call("a", world.random.randbytes(16))
    _, second = (effect.call for _, effect in next(lane for lane in world.lanes.values() if lane))
    second.container = None
    world.step()
    assert second.started == 0.0


@pytest.mark.parametrize(("begun", "codes"), [(True, [402, 0]), (False, [0, 0])])
def test_only_a_call_that_had_begun_dies_with_its_container(begun: bool, codes: list[int]) -> None:
    """The first one is unknown, unless it was another session's call that ran; the others run where the session goes on."""
    world, ids = World(1), (b"first", b"second")
    world.want("a", "localize")
    world.run()
    for call_id in ids:
        world.call("a", call_id)
    for _, effect in next(lane for lane in world.lanes.values() if lane):
        effect.call.started *= begun
    world.lanes.clear()
    world.do("a", world.seats["a"].on_container_lost(world.now))
    world.run()
    assert [answer.code for call_id in ids for answer in world.answers[call_id]] == codes


def test_a_wish_is_answered_when_the_session_lives_elsewhere() -> None:
    """A move asked for while a call finds out that another node owns the session ends with a reason."""
    world = World(2)
    world.want("b", "localize")
    world.run()
    world.call("a", world.random.randbytes(16))
    world.want("a", "localize")
    world.run()
    assert [code for code, _ in world.done] == [0, 103]


def test_the_record_tells_of_moves_that_nobody_told_of() -> None:
    """A node that has heard nothing of a session's last move finds its epoch in the record: the session has just moved,
    for all but operators, and rests from then on."""
    world = World(3, dwell=5.0)
    for move in ("localize", "externalize"):
        world.want("b", move)
        world.run()
    world.want("a", "localize", dwells=True)
    world.run()
    assert world.done[-1] == (103, "the session has just moved: it rests for 5.0 s more")
    assert world.seats["a"].quiet
    world.now += 5.0
    world.want("a", "localize", dwells=True)
    world.run()
    assert world.done[-1] == (0, "")
    world.want("a", "externalize", dwells=True)
    world.want("a", "externalize")
    world.run()
    assert [code for code, _ in world.done[-2:]] == [103, 0]


def test_a_piece_of_another_move_is_refused() -> None:
    """What a target has of one move is never mixed with another's; a piece that it has is answered, and not taken again."""
    world = World(3)
    seat, move = world.seats["b"], bytes(16)
    told: list[int] = []
    asker = lambda code, message, _: told.append(code)  # noqa: E731
    world.do("b", seat.invited(asker, "a", move, 0.0))
    world.run()
    piece = {"n": 1, "more": True, "whole": True}
    for which in (b"another" + bytes(9), move, move):
        world.do("b", seat.piece(asker, {**piece, "move": which}, b"12", 0.1))
    world.do("b", seat.piece(asker, {"n": 2, "more": False, "whole": True, "move": move}, b"3", 0.1))
    assert told == [0, 103, 0, 0, 0]
    assert seat.arrival is not None
    assert seat.arrival.whole == b"123"


def calls() -> int:
    """Those that this process still has."""
    return sum(type(one) is Call for one in gc.get_objects())


@pytest.mark.parametrize("move", ["", "localize"])
def test_a_call_that_is_over_waits_for_no_collector(move: str) -> None:
    """A body may have a megabyte, and the collector comes after thousands of calls: nothing of a call refers back to it."""
    world = World(8)
    if move:
        world.want("a", move)
    for number in range(40):
        world.call("ab"[number % 2], world.random.randbytes(16))
    world.refused.append(1)
    gc.collect()
    gc.disable()
    try:
        world.run()
        assert 0 in {answer.code for answers in world.answers.values() for answer in answers}
        world.answers.clear()
        left = calls()
        gc.collect()
        assert left == calls()
    finally:
        gc.enable()
