"""What the daemon may ask of a state store, whichever it is (DESIGN §5).

Decides nothing. A store calls back because the hot path has no task to wait in: the session's state
machine gets the outcome as an event. `ask` is for everybody else.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import trio

from edged.core.records import Forget, Load, Op, Outcome, Renew, Write

log = logging.getLogger(__name__)

Done = Callable[[Outcome], None]

MAX_WAITING = 4096
"""Operations a store holds; some 0.2 s of work, beyond that waiting only makes calls late."""

MAX_WAITING_BYTES = 64 * 1024 * 1024
"""What these may weigh: a few dozen large states."""


@dataclass(frozen=True, slots=True)
class StoreStatistics:
    """A snapshot. `problem`: why nothing is answered; `durability`: what an acknowledged write
    survives, where the driver can tell; `lives`: how often the store was there anew."""

    driver: str
    problem: str | None
    waiting: int
    waiting_bytes: int
    operations: int
    failed: int
    durability: str = ""
    lives: int = 0


class Store(Protocol):
    """A driver. `run` serves until it is cancelled and raises StoreUnusable if it cannot begin."""

    def submit(self, op: Op, done: Done) -> None:
        """Ask for `op`, on trio's thread; `done` is called there, once, after this returned."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve; started when operations are taken."""

    def statistics(self) -> StoreStatistics:
        """What the operator sees."""


async def ask(store: Store, op: Op) -> Outcome:
    """The outcome of `op`. Cancelling stops the wait, not the operation."""
    answered = trio.Event()
    outcomes: list[Outcome] = []

    def done(outcome: Outcome) -> None:
        outcomes.append(outcome)
        answered.set()

    store.submit(op, done)
    await answered.wait()
    return outcomes[0]


def answer_soon(done: Done, outcome: Outcome) -> None:
    """Call `done` in the next round of the loop: it may not be called within `submit`."""
    trio.lowlevel.current_trio_token().run_sync_soon(answer, done, outcome)


def answer(done: Done, outcome: Outcome) -> None:
    """Call `done`; its defects are its own and must not cost another operation its answer."""
    try:
        done(outcome)
    except Exception:
        log.exception("a store's answer could not be used")


def durable(op: Op) -> bool:
    """Whether nothing may undo it once it is acknowledged: an epoch or a lease that goes back has two owners."""
    return op.durable if isinstance(op, Write) else isinstance(op, Renew | Forget)


def weight(op: Op) -> int:
    """The bytes `op` is counted with while it waits; a Load stands for a state of unknown size."""
    if isinstance(op, Write):
        data = len(op.state or b"") + len(op.delta or b"")
        return 512 + data + sum(len(entry.body or b"") for entry in op.results)
    return 16 * 1024 if isinstance(op, Load) else 512
