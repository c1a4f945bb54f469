"""Local sessions whose version is no longer the one that is deployed move over when they are idle (DESIGN §6).

Decides when: once a second, where no call came since the last look. Out to the store and back into a container of the
new version is two moves that exist already; an idle session notices nothing. Refuses to know how sessions move.
"""

import logging

import trio

from edged.core.records import SessionKey
from edged.core.sessions import Seat
from edged_protocol.errors import CallError

from .deployed import Worker
from .moves import Moves
from .relay import Relay
from .workers import Workers

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
AGAIN_SECONDS = 30.0
"""After a move that failed: the store is away, or the new version cannot load the state."""


class Renewal:
    """`run` for ever."""

    def __init__(self, relay: Relay, workers: Workers, moves: Moves) -> None:
        self._relay = relay
        self._workers = workers
        self._moves = moves
        self._versions: dict[SessionKey, int] = {}
        self._failed: dict[SessionKey, float] = {}

    async def run(self) -> None:
        """Look, and let go of one after the other."""
        while True:
            await trio.sleep(LOOK_SECONDS)
            for key in self._idle():
                await self._renew(key)

    def _idle(self) -> list[SessionKey]:
        """Those of an old version that nobody has called since the last look."""
        now = trio.current_time()
        self._failed = {key: until for key, until in self._failed.items() if until > now}
        old = {key: seat.version for key, seat in self._relay.seats.items() if self._is_old(key, seat)}
        before, self._versions = self._versions, old
        idle = [key for key, version in old.items() if before.get(key) == version]
        return [key for key in idle if key not in self._failed and not self._relay.seats[key].own]

    def _is_old(self, key: SessionKey, seat: Seat) -> bool:
        worker, version = seat.container, self._workers.served.version_for(*key)
        mine = isinstance(worker, Worker) and seat.local
        return mine and version is not None and worker.function is not version

    async def _renew(self, key: SessionKey) -> None:
        if self._relay.draining or self._workers.resting:
            return
        unfit = self._unfit(key)
        if unfit:
            self._put_off(key, unfit)
            return
        try:
            await self._moves.move(key, "externalize", "")
            await self._moves.move(key, "localize", "")
        except CallError as error:
            self._put_off(key, str(error))

    def _unfit(self, key: SessionKey) -> str:
        """Why the version that is deployed would not take the session's state: better served by the old one than by none."""
        seat, version = self._relay.seats.get(key), self._workers.served.version_for(*key)
        worker = None if seat is None else seat.container
        if version is None or not isinstance(worker, Worker):
            return ""  # it has left while others were moved
        takes = version.takes if version.takes.upgrades is not None else version.takes._replace(upgrades=False)
        return takes.refusal(worker.function.takes.schema)

    def _put_off(self, key: SessionKey, reason: str) -> None:
        self._failed[key] = trio.current_time() + AGAIN_SECONDS
        log.warning("%s/%s does not move to the new version: %s", *key, reason)
