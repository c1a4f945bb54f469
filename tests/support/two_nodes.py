"""One session's actors on two nodes with one store, without a mesh: whatever is under way ends in random order."""

import random
from typing import Any

from edged.core import effects as fx
from edged.core.calls import Call
from edged.core.records import Entry, Load, Loaded, Record, SessionKey, StoreFailed, Write, Written
from edged.core.rests import Rests
from edged.core.sessions import Rules, Seat
from support.leases import good_lease

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
