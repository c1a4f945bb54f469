"""What leaves a node as the answer of a call: how often it tells its load, and to whom."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from edged.core.calls import Call
from edged.daemon.answers import MOMENT, Answers
from edged.daemon.burden import Burden
from edged_protocol import messages as m
from edged_protocol.codec import decode
from edged_protocol.forms import decode_ran
from edged_protocol.plain import encode_ran


class Caller:
    """A connection that keeps what it is told."""

    def __init__(self, role: str) -> None:
        self.role, self.inflight, self.closed = role, 0, False
        self.frames: list[bytes] = []
        self.send = self.frames.append

    def told(self) -> list[Any]:
        """Its answers, as messages."""
        return [decode(frame[4:]) for frame in self.frames]


@pytest.fixture
def answers() -> Answers:
    made = Answers("here", {}, Burden(), lambda call, message, now: None)
    made.figures = lambda function: (4, 1, 0, 10, 1000)
    made.spread = cast(Any, SimpleNamespace())
    return made


async def answer(answers: Answers, caller: Caller, number: int, function: str = "f", after: float = 0.0) -> None:
    """A container has run a call of that caller."""
    await trio.sleep(after)
    now = trio.current_time()
    call = Call((caller, number), number, function, None, "", None, now, now + 1, b"", None)
    frame = encode_ran(number, b"x", 7)
    assert frame is not None
    plain = decode_ran(frame[4:])
    assert type(plain) is m.Plain
    caller.inflight += 1
    answers._calls[number] = call
    answers.worker_answers([(call, plain, 7e-6)], now)


async def test_each_node_is_told_the_load_of_a_function_once_in_a_moment(answers: Answers, autojump_clock: MockClock) -> None:
    """The first answer of a moment has it, of each function and for each node; the next moment's first has it again."""
    one, other = Caller("node"), Caller("node")
    await answer(answers, one, 1)
    await answer(answers, one, 2)
    await answer(answers, one, 3, "g")
    await answer(answers, other, 4)
    await answer(answers, one, 5, after=MOMENT / 2)
    await answer(answers, one, 6, after=MOMENT)
    assert ["load" in said.meta for said in one.told()] == [True, False, True, False, True]
    assert ["load" in said.meta for said in other.told()] == [True]
    assert all(said.meta["node"] == "here" and said.meta["run_us"] == 7 for said in one.told())
    assert (one.inflight, other.inflight, answers._calls) == (0, 0, {})


async def test_a_device_is_told_no_load(answers: Answers) -> None:
    """It has nothing to choose."""
    device = Caller("device")
    await answer(answers, device, 1)
    assert device.told() == [m.Result(1, b"x", {"node": "here", "run_us": 7, "queue_us": 0})]
