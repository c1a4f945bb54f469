"""Sessions that have to leave this node: where each goes, and again until it has gone (DESIGN §6 "Drain").

Decides for each session: to another node that runs its function and has room, which keeps it local-state; else to
the store. Refuses to know why it has to leave, and for how long to try.
"""

from collections.abc import Callable

import trio

from edged.core.records import SessionKey
from edged.core.sessions import Seat
from edged.core.transition import SERVING_REMOTE
from edged_protocol.errors import CallError, Code

from .moves import Moves
from .peers import Peers
from .relay import Relay

LOOK_SECONDS = 0.01
"""Between two looks at what is left; each is a walk over the sessions."""

AGAIN_SECONDS = 0.05
"""Before a session that is moving, or whose store is away, is tried again; doubled with each try."""

MOST_SECONDS = 2.0

AT_ONCE = 32
"""Sessions leaving at the same time: each may hold a state of many MiB."""


class Emptying:
    """`run` until `left` is empty, which a later session may undo."""

    def __init__(self, relay: Relay, moves: Moves, peers: Peers) -> None:
        self._relay = relay
        self._moves = moves
        self._peers = peers
        self._slots = trio.CapacityLimiter(AT_ONCE)
        self._leaving: set[SessionKey] = set()
        self.reasons: dict[SessionKey, str] = {}

    def left(self) -> set[SessionKey]:
        """The sessions whose state is here, or on its way."""
        return {key for key, seat in self._relay.seats.items() if self._is_left(key, seat)}

    def _is_left(self, key: SessionKey, seat: Seat) -> bool:
        return seat.state not in SERVING_REMOTE

    async def run(self, goes_on: Callable[[], bool]) -> None:
        """Let all leave while `goes_on` or any is left."""
        async with trio.open_nursery() as nursery:
            while goes_on() or self.left():
                for key in self.left() - self._leaving:
                    self._leaving.add(key)
                    nursery.start_soon(self._leave, key)
                await trio.sleep(LOOK_SECONDS)

    async def _leave(self, key: SessionKey) -> None:
        again = AGAIN_SECONDS
        try:
            async with self._slots:
                while (seat := self._relay.seats.get(key)) and self._is_left(key, seat):
                    await self._try(key, seat)
                    await trio.sleep(again)
                    again = min(again * 2, MOST_SECONDS)
        finally:
            self._leaving.discard(key)

    async def _try(self, key: SessionKey, seat: Seat) -> None:
        for node in self._peers.with_room_for(key.function)[:1]:
            if await self._moved(key, seat, "migrate", node):
                return
        await self._moved(key, seat, "externalize", "")

    async def _moved(self, key: SessionKey, seat: Seat, move: str, to: str) -> bool:
        try:
            await self._moves.move(key, move, to)
        except CallError as error:
            self.reasons[key] = error.message
            if move == "externalize" and error.code == Code.BAD_REQUEST and seat.local:
                self._stays(key, seat)
            return False
        return True

    def _stays(self, key: SessionKey, seat: Seat) -> None:
        """Its function has no remote-state, and no other node takes it."""
