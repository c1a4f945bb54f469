"""Sessions that expire: those of a function with `[state] ttl`, by one of the nodes that run it, and what is left of all that
have ended, by one node of the mesh (DESIGN §5.7).

Decides which node looks through a function's records, and how often; that two do it for a while harms nothing, as a session
ends by compare-and-set on what was seen of it. Which have expired is `core.expiry`'s; how they end, `ending`'s. Sessions that
a node holds are `idling`'s there.
"""

import logging
import time
from typing import TYPE_CHECKING

import trio

from edged.core.expiry import Expiry
from edged.core.records import (
    ENDED_SECONDS,
    MAX_PAGE,
    Forget,
    Listed,
    ListSessions,
    Record,
    SessionKey,
)
from edged.core.rendezvous import rank
from edged_protocol.errors import CallError, Code

from .ending import close
from .stores import ask

if TYPE_CHECKING:
    from .node import Node

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""Between two looks at which function's records are due to be looked through."""

ROUNDS = 4
"""Rounds through a function's records in its time to live, but for the bounds below."""

SHORTEST = 1.0
LONGEST = 600.0
"""Seconds between two rounds; each reads a page of 500 records at a time."""

OF_ALL = "", ENDED_SECONDS
"""In place of a function and its time to live: what has ended, of whatever function."""

SELDOM = 3600.0
"""Seconds between two rounds through all records there are, for what may as well stay an hour longer."""


class Expiring:
    """`run` for ever."""

    def __init__(self, node: "Node") -> None:
        self._node = node
        self._of: dict[tuple[str, float], Expiry] = {}
        self._next: dict[tuple[str, float], float] = {}

    async def run(self) -> None:
        """Round by round."""
        while True:
            await trio.sleep(LOOK_SECONDS)
            try:
                await self._rounds()
            except CallError as error:
                log.warning("sessions could not expire: %s", error)
            except Exception:
                log.exception("sessions could not expire")

    async def _rounds(self) -> None:
        due = {(name, f.spec.manifest.state.ttl) for name, f in self._node.workers.served.functions.items()}
        mine = {(name, ttl) for name, ttl in (*due, OF_ALL) if ttl and self._mine(name)}
        for gone in self._of.keys() - mine:
            del self._of[gone], self._next[gone]
        for name, ttl in sorted(mine):
            if self._next.get((name, ttl), 0.0) <= trio.current_time():
                pause = min(max(ttl / ROUNDS, SHORTEST), LONGEST) if name else SELDOM
                self._next[name, ttl] = trio.current_time() + pause
                await self._round(name, self._of.setdefault((name, ttl), Expiry(ttl, ended=not name)))

    def _mine(self, function: str) -> bool:
        """Whether this node comes first of those that run it, or of all."""
        node = self._node
        if not function:
            here = [node.name, *(member.record.node for member in node.gossip.core.members() if member.here)]
            return rank(SessionKey("", ""), node.name, here) == 0
        nodes = [name for name in node.router.nodes_for(function) if not node.router.doubted(name)]
        return node.name in nodes and rank(SessionKey(function, ""), node.name, nodes) == 0 and not node.workers.resting

    async def _round(self, function: str, expiry: Expiry) -> None:
        expiry.begin()
        op = ListSessions(function or None)
        while True:
            outcome = await ask(self._node.store, op)
            if not isinstance(outcome, Listed):
                return
            wall = time.time()  # noqa: TID251 - compared with what other wall clocks have written; core.expiry does not rely on it
            rows = [(key, record) for key, record in outcome.rows if self._free(key, record)]
            for key, point in expiry.look(rows, wall, trio.current_time()):
                await (self._end(key, point) if function else self._let_go(key, point))
            if len(outcome.rows) < MAX_PAGE:
                return
            op = op._replace(after=outcome.rows[-1][0])

    def _free(self, key: SessionKey, record: Record) -> bool:
        """Whether nobody holds it, as far as is known; `close` knows."""
        if record.mode == "remote":
            return key not in self._node.relay.seats  # else a call is under way here
        owner = record.owner or ""
        return owner in self._node.leasing.core.lost or (owner == self._node.name and key not in self._node.relay.seats)

    async def _let_go(self, key: SessionKey, point: tuple[int, int]) -> None:
        """Unless it has begun again; the next round knows."""
        await ask(self._node.store, Forget(key, *point))

    async def _end(self, key: SessionKey, point: tuple[int, int]) -> None:
        try:
            await close(self._node, key, only=point, outcomes=False, cause="expired")
        except CallError as error:
            if error.code not in (Code.CONFLICT, Code.BAD_REQUEST, Code.OWNER_UNREACHABLE):  # in use, gone, or held
                raise
