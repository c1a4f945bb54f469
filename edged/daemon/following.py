"""Local sessions follow their clients: looks where calls enter and moves sessions there (DESIGN §5).

Decides which of the moves that `core.following` asks for can be had now; the path is that of any migration. Only for
functions whose manifest says `[modes] follow = true`: an operator who puts a session somewhere would not expect it
elsewhere a moment later. Refuses to know how sessions move.
"""

import logging
from collections.abc import Callable

import trio

from edged.core.following import Following
from edged.core.records import SessionKey
from edged_protocol.errors import CallError

from .moves import Moves
from .peers import Peers
from .relay import Relay

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0


class Follower:
    """`run` for ever."""

    def __init__(self, relay: Relay, moves: Moves, peers: Peers, note: Callable[..., None]) -> None:
        self._relay = relay
        self._moves = moves
        self._peers = peers
        self._note = note
        self._following = Following()

    async def run(self) -> None:
        """Look, and let one after the other go."""
        while True:
            await trio.sleep(LOOK_SECONDS)
            entered, self._relay.entered = self._relay.entered, {}
            for key, node in self._following.look(entered, trio.current_time()):
                if self._may_move(key, node):
                    await self._move(key, node)

    def _may_move(self, key: SessionKey, node: str) -> bool:
        """Dwell time is kept; a node without room, or in doubt, is asked again at the next look."""
        seat = self._relay.seats.get(key)
        if seat is None or not seat.local or self._relay.draining:
            return False
        dwelt = seat.rests.left(key, seat.rules.min_dwell, trio.current_time()) <= 0
        return dwelt and node in self._peers.with_room_for(key.function)

    async def _move(self, key: SessionKey, node: str) -> None:
        self._following.forget(key)
        try:
            await self._moves.move(key, "migrate", node, dwells=True)
        except CallError as error:
            log.warning("%s/%s does not follow its client to %s: %s", *key, node, error)
        else:
            self._note("session.followed", function=key.function, session=key.session, to=node)
