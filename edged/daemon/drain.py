"""Draining a node that stays up: `edgectl drain`, `edgectl undrain` (DESIGN §6 "Drain").

Decides what a drained node still does: it is a broker, and forwards; it runs nothing for others and keeps no
session. A restart ends it: what made an operator drain the node is then over, or systemd keeps it stopped.
"""

import logging
from collections.abc import Callable

import trio

from edged.core.records import SessionKey

from .emptying import Emptying

log = logging.getLogger(__name__)


class Drain:
    """`begin` and `end`, any number of times; `run` owns the task that lets the sessions leave."""

    def __init__(
        self, emptying: Emptying, rest: Callable[[bool], None], note: Callable[..., None]
    ) -> None:
        self._emptying = emptying
        self._rest = rest
        self._note = note
        self._scope: trio.CancelScope | None = None
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until it is cancelled."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            await trio.sleep_forever()

    def left(self) -> set[SessionKey]:
        """The sessions that are here."""
        return self._emptying.left()

    def reason(self, key: SessionKey) -> str:
        """Why a session has not left yet."""
        return self._emptying.reasons.get(key, "")

    def begin(self) -> bool:
        """Offer nothing any more; whether that is new."""
        if self._scope is not None or self._nursery is None:
            return False
        self._scope = trio.CancelScope()
        self._rest(True)
        self._note("node.draining", sessions=len(self.left()))
        self._nursery.start_soon(self._empty, self._scope)
        return True

    def end(self) -> bool:
        """Serve again; whether that is new."""
        if self._scope is None:
            return False
        self._scope.cancel()
        self._scope = None
        self._rest(False)
        self._note("node.undrained")
        return True

    async def _empty(self, scope: trio.CancelScope) -> None:
        with scope:
            try:
                await self._emptying.run(lambda: False)
                self._rest(True)  # tells the others how far it is
                self._note("node.drained")
            except Exception:
                log.exception("the drain failed")
