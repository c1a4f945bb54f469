"""This node's lease in the store, and its look at the others' (DESIGN §5.3, reliability Δ3).

Decides nothing: `core.leases` does, by the clock that is read here. CLOCK_BOOTTIME goes on in suspend, which trio's
does not. Whoever must know that the lease ended, or is good again, is told within the turn that found it out.
"""

from collections.abc import Callable
from functools import partial
from secrets import randbits

import trio

from edged.core.leases import FORGOTTEN, TAKE, Leases
from edged.core.records import LeaseTable, Outcome, ReadLeases, Renew, StoreFailed
from edged_protocol import messages as m
from edged_protocol.errors import Code, call_error

from .claiming import Claiming
from .hub import boottime
from .stores import Store, ask

FIRST_SECONDS = 1.0
"""A node whose store is away at its start serves nevertheless: remote nodes' sessions, and those without any."""

WAIT_SECONDS = 5.0
"""For a session that is to come here."""


class Leasing:
    """`run` for ever; `look` where replies are handed out."""

    def __init__(
        self, core: Leases, store: Store, claiming: Claiming, ended: Callable[[], None], good_again: Callable[[], None]
    ) -> None:
        self.core = core
        self._store = store
        self._claiming = claiming
        self._ended = ended
        self._good_again = good_again
        self._answered = trio.Event()
        self._good = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Turn for ever, once the name is claimed; started with the first answer of the store, be it that it is out of reach.
        Raises NameTaken."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._turns)
            with trio.move_on_after(FIRST_SECONDS):
                await self._answered.wait()
            task_status.started()

    async def _turns(self) -> None:
        await self._claiming.finish(self._store)
        while True:
            self._turn()
            await trio.sleep(self.core.pause)

    async def wait(self) -> None:
        """Until the lease is good, but not for long: a node that has just started gets it in a moment."""
        with trio.move_on_after(WAIT_SECONDS):
            await self._good.wait()

    def look(self) -> None:
        """Tell whoever has to know, if the lease has ended."""
        if self.core.lapsed(boottime()):
            self._good = trio.Event()
            self._ended()

    def _turn(self) -> None:
        self.look()
        now = boottime()
        for op in self.core.turn(now):
            done = partial(self._renewed, now) if isinstance(op, Renew) else self._observed
            self._store.submit(op, done)

    def _renewed(self, asked_at: float, outcome: Outcome) -> None:
        self._answered.set()
        self.look()
        if self.core.renewed(asked_at, outcome, boottime()):
            self._good.set()
            self._good_again()

    def _observed(self, outcome: Outcome) -> None:
        self.core.observed(outcome, boottime())

    async def forget(self, node: str) -> m.Map:
        """An operator says that `node` is lost for good: its lease is replaced by one that nobody renews, unless
        it does so itself because it is not. Raises CallError."""
        seen = await self.lease_of(node)
        if seen is not None and node not in self.core.lost and seen[0] != FORGOTTEN:
            wait = f"{TAKE * seen[1]:g} s without a renewal have to pass first"
            raise call_error(Code.BAD_REQUEST, f"{node} has a lease that may be good: {wait}")
        ttl = seen[1] if seen is not None else self.core.ttl
        done = await ask(self._store, Renew(node, FORGOTTEN, randbits(62), ttl))
        if isinstance(done, StoreFailed):
            raise call_error(Code.STORE_UNAVAILABLE, done.reason)
        return {"node": node, "taken_over_in_s": TAKE * ttl}

    async def lease_of(self, node: str) -> tuple[str, float] | None:
        """Boot and length of a node's lease, as the store has it. Raises CallError."""
        outcome = await ask(self._store, ReadLeases())
        if not isinstance(outcome, LeaseTable):
            reason = outcome.reason if isinstance(outcome, StoreFailed) else "no leases"
            raise call_error(Code.STORE_UNAVAILABLE, reason)
        self.core.observed(outcome, boottime())
        return self.core.seen(node)
