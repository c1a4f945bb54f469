"""A session's actor on two nodes with one store, every answer delayed at random: each call counts once."""

import random
from typing import Any

import pytest
from support.leases import good_lease

from edged.core import effects as fx
from edged.core.calls import Call
from edged.core.records import Entry, Load, Loaded, Record, SessionKey, StoreFailed, Write, Written
from edged.core.rests import Rests
from edged.core.sessions import Rules, Seat
from edged.core.transition import NEXT, S

KEY = SessionKey("counter", "one")


class World:
    """Two nodes, a store and containers that count; what is under way ends in random order."""

    def __init__(self, seed: int, durability: str = "checkpoint", dwell: float = 0.0) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        rules = Rules(("remote", "local"), dwell, 500, 128, durability, 5, 1.0)
        self.seats = {
            name: Seat(KEY, name, f"boot-{name}", rules, good_lease(name, f"boot-{name}"), lambda: "ab", Rests())
            for name in "ab"
        }
        self.record: Record | None = None
        self.results: dict[bytes, Entry] = {}
        self.memory: dict[int, int] = {}
        self.pending: list[tuple[Any, ...]] = []
        self.answers: dict[bytes, list[fx.Answer]] = {}
        self.done: list[tuple[int, str]] = []
        self.wanted = 0
        self.serial = 0
        self.lanes: dict[int, list[tuple[Any, ...]]] = {}
        self.last: set[bytes] = set()
        """Calls that end the session."""
        self.let_go: set[int] = set()
        self.refused: list[int] = []
        """How the store refuses the next writes: 1 for certain, 2 when nobody knows."""

    def call(self, node: str, call_id: bytes, attempt: int = 0) -> None:
        """A client's increment enters at `node`."""
        self.serial += 1
        meta = {"attempt": attempt}
        call = Call(node, self.serial, *KEY, "incr", call_id, self.now, 1e9, b"", meta)
        self.do(node, self.seats[node].arrived(call, self.now))

    def want(self, node: str, move: str, target: str = "", dwells: bool = False) -> None:
        """An operator's move; with `dwells` the network's."""
        self.wanted += 1
        boot = f"{target}/boot-{target}" if target else ""
        asker = lambda code, message, _: self.done.append((code, message))  # noqa: E731
        move_id = self.random.randbytes(16)
        self.do(node, self.seats[node].want(move, asker, boot, move_id, self.now, dwells=dwells))

    def do(self, node: str, effects: list[fx.Effect]) -> None:
        """Answers at once, everything else later."""
        for effect in effects:
            if isinstance(effect, fx.Answer):
                for call in (effect.call, *effect.call.attached):
                    call.answered = True
                    self.answers.setdefault(call.call_id or b"", []).append(effect)
            elif isinstance(effect, fx.Done):
                effect.asker(effect.code, effect.message, effect.result)
            elif isinstance(effect, fx.RunOwn | fx.Control):
                self.lanes.setdefault(effect.container, []).append((node, effect))
            else:
                self.pending.append((node, effect))

    def step(self) -> None:
        """One thing that is under way ends."""
        self.now += 0.01
        lanes = [lane for lane in self.lanes.values() if lane]
        which = self.random.randrange(len(self.pending) + len(lanes))
        if which < len(self.pending):
            node, effect = self.pending.pop(which)
        else:
            node, effect = lanes[which - len(self.pending)].pop(0)
        self.end(node, self.seats[node], effect)

    def run(self) -> None:
        """Until nothing but timers is under way."""
        for _ in range(100_000):
            if all(isinstance(e, fx.Timer) for _, e in self.pending) and not any(
                self.lanes.values()
            ):
                return
            self.step()
        raise AssertionError("it does not come to rest")

    def end(self, node: str, seat: Seat, effect: fx.Effect) -> None:
        if isinstance(effect, fx.Ask):
            self.do(node, seat.on_store(effect.token, self.store(effect.op), self.now))
        elif isinstance(effect, fx.RunPool):
            call = effect.call
            count = int(call.state or b"0") + 1
            body = str(count).encode()
            meta = {"end": True} if call.call_id in self.last else {}
            self.do(node, seat.on_answer(call, 0, body, "", meta, body, self.now))
        elif isinstance(effect, fx.RunOwn) and effect.container in self.let_go:
            self.do(node, seat.on_answer(effect.call, 103, b"", "not here", {}, None, self.now))
        elif isinstance(effect, fx.RunOwn):
            count = self.memory[effect.container] = self.memory[effect.container] + 1
            body = str(count).encode()
            meta = {"end": True} if effect.call.call_id in self.last else {}
            self.let_go |= {effect.container} if meta else set()
            self.do(node, seat.on_answer(effect.call, 0, body, "", meta, None, self.now))
        elif isinstance(effect, fx.Start):
            self.serial += 1
            self.do(node, seat.on_container(effect.token, self.serial, "", self.now))
        elif isinstance(effect, fx.Control):
            self.control(node, seat, effect)
        elif isinstance(effect, fx.Forward):
            other = effect.node
            self.do(other, self.seats[other].arrived(effect.call, self.now))
        elif isinstance(effect, fx.Tell):
            self.tell(node, seat, effect)
        elif isinstance(effect, fx.Timer) and effect.token == -1:
            self.do(node, seat.on_timer(-1, self.now))

    def control(self, node: str, seat: Seat, effect: fx.Control) -> None:
        blob = None
        if effect.verb == "worker.load":
            self.memory[effect.container] = int(effect.blob or b"0")
        else:
            blob = str(self.memory[effect.container]).encode()
        self.do(node, seat.on_control(effect.token, fx.Said(0, "", {}, blob), self.now))

    def tell(self, node: str, seat: Seat, effect: fx.Tell) -> None:
        other = effect.node.partition("/")[0]
        target = self.seats[other]

        def asker(code: int, message: str, _: Any) -> None:
            self.do(node, seat.on_peer(effect.token, code, message, self.now))

        move = effect.params["move"]
        if effect.verb == "session.invite":
            self.do(other, target.invited(asker, effect.params["from"], move, self.now))
        elif effect.verb == "session.offer":
            self.do(other, target.offered(asker, effect.params, self.now))
        elif effect.verb == "session.chunk":
            self.do(other, target.piece(asker, effect.params, effect.blob or b"", self.now))
        elif effect.verb == "session.withdraw":
            self.do(other, target.withdrawn(move, self.now))
        elif effect.verb == "session.done":
            self.do(other, target.safe_there(move, self.now))
        else:
            self.do(other, target.committed(move, self.now))

    def store(self, op: Any) -> Any:
        if isinstance(op, Load):
            known = self.results.values() if op.ask is None else map(self.results.get, op.ask)
            return Loaded(self.record, tuple(entry for entry in known if entry is not None))
        assert isinstance(op, Write)
        if self.refused:
            return StoreFailed(False if self.refused.pop() == 1 else None, "away")
        old = self.record
        if (op.expect_epoch, op.expect_version) != ((old.epoch, old.version) if old else (0, 0)):
            return Written(False, old, None)
        for entry in op.results:
            if entry.call_id in self.results:
                return Written(False, old, self.results[entry.call_id])
        self.results |= {entry.call_id: entry for entry in op.results}
        state = op.state if op.state is not None else old.state if old else None
        self.record = Record(
            op.epoch, op.mode, op.owner, op.owner_boot, op.version, op.move, state,
            False, op.schema, 0.0, op.alarms,
        )  # fmt: skip
        return Written(True, self.record, None)


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
