"""Local sessions of this node that nobody calls: they go back to the store, or end (DESIGN §5.7).

Decides by `[modes] idle` and `[state] ttl`, and by when the session last got a call. What is pinned, or was put here by an
operator lately, keeps its container. Refuses to know records: of those `expiring` is told by the store.
"""

import logging
from collections.abc import Callable, Iterator
from typing import NamedTuple

import trio

from edged.core.manifest import Manifest
from edged.core.records import SessionKey
from edged.core.sessions import Seat
from edged_protocol.errors import CallError

from .moves import Moves
from .relay import Relay
from .workers import Workers

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""Between two looks; each is a walk over the sessions that are here."""

AGAIN_SECONDS = 30.0
"""Before a session that could not leave is tried again: its store is away, or its hook fails."""

AT_ONCE = 8
"""Sessions leaving at a time: each may hold a state of many MiB, and nobody waits for them."""


class Idle(NamedTuple):
    """A session that nobody has called for long, and what becomes of it."""

    key: SessionKey
    move: str


class Idling:
    """`run` for ever."""

    def __init__(self, relay: Relay, workers: Workers, moves: Moves, held: Callable[[SessionKey, float], object]) -> None:
        self._relay = relay
        self._workers = workers
        self._moves = moves
        self._held = held
        self._again: dict[SessionKey, float] = {}

    async def run(self) -> None:
        """Look, and let them go."""
        while True:
            await trio.sleep(LOOK_SECONDS)
            now = trio.current_time()
            self._again = {key: at for key, at in self._again.items() if at > now}
            idle = [one for one in self._idle(now) if one.key not in self._again]
            async with trio.open_nursery() as nursery:
                for one in idle[:AT_ONCE]:
                    nursery.start_soon(self._let_go, one)

    def _idle(self, now: float) -> Iterator[Idle]:
        for key, seat in self._relay.seats.items():
            version = self._workers.served.version_for(*key)
            if version is None or not seat.local or seat.own:
                continue
            move = self._due(version.spec.manifest, key, seat, now)
            if move:
                yield Idle(key, move)

    def _due(self, manifest: Manifest, key: SessionKey, seat: Seat, now: float) -> str:
        quiet, modes, ttl = now - seat.called, manifest.modes, manifest.state.ttl
        if ttl and quiet >= ttl and seat.alarms.due is None:
            return "end"
        stays = modes.policy == "pinned-local" or "remote" not in modes.allow or self._held(key, now) is not None
        return "externalize" if modes.idle and quiet >= modes.idle and not stays else ""

    async def _let_go(self, idle: Idle) -> None:
        try:
            await self._moves.move(idle.key, idle.move, "")
        except CallError as error:
            self._again[idle.key] = trio.current_time() + AGAIN_SECONDS
            log.warning("%s/%s is idle, and stays: %s", *idle.key, error)
