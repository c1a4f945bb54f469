"""A node's claim to its name, before it listens, is heard of, or touches a session (DESIGN §5.3).

Decides whom to ask, and for how long: the nodes that the configuration or the last life names are asked whether they know another
one of that name, which is then dialled, for only who answers lives; the store is asked for the name's lease, over one of them where
another node serves it. A node starts without its store; then the claim is made as soon as there is one (`finish`), and until then
nothing of a former life is taken (`Leases.claimed`). Refuses to know when a name is free: `core.claim` does.
"""

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

import trio

from edged.config import Config
from edged.core.claim import Claim, Verdict
from edged.core.records import Op, Outcome, Renew, StoreFailed
from edged.core.store_url import MeshUrl, SqliteUrl, parse_store_url
from edged_protocol.announcement import Announced

from . import lives
from .discovery import Discovery, on_a_lan
from .hub import boottime
from .neighbour import BROKEN, Neighbour, meet
from .notify import notify
from .remembered import Remembered, is_row
from .stores import Store, ask

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""For the nodes that are asked, and for a store that says nothing: a site whose other machines are off must not wait for them."""

HEAR_SECONDS = 1.5
"""For announcements on the LAN, where no node is known yet: asked, others answer in half a second."""

MORE_SECONDS = 0.1
"""After the first node has greeted, for others."""

MOST = 16
"""Nodes asked: each knows all that it is connected to."""

EXTEND_SECONDS = 30
"""Told to systemd at each turn while the start waits: a lease may be longer than its patience with a start."""

Ask = Callable[[Op], Awaitable[Outcome]]


class NameTaken(Exception):
    """Another node lives under this name; the message is for the operator."""


class Claiming:
    """`begin` first of all, then `finish`; each raises NameTaken. Needs the data directory's lock."""

    def __init__(self, config: Config, data_dir: Path, boot: str, past: frozenset[str]) -> None:
        self._config = config
        self._name = config.node.name
        self._data_dir = data_dir
        self._boot = boot
        self._core = Claim(self._name, boot, config.mesh.lease, past)
        self._at_home = bool(past)
        """Whether this directory has had the name on this machine before: an image has not."""
        self._host = config.listen.address.rpartition(":")[0].strip("[]")
        self._neighbours: list[Neighbour] = []
        self._heard_of = ""
        self._waited = self._written = False
        store = parse_store_url(config.store.url)
        # In a store of its own nobody else can have a lease under its name: it holds the file's lock.
        self._own_store = isinstance(store, SqliteUrl)
        self.far = isinstance(store, MeshUrl)
        """Whether the store is reached only by who is part of the mesh."""

    @property
    def settled(self) -> bool:
        """Whether the name is this life's, as far as anybody will ever say."""
        return self._own_store or self._core.verdict is Verdict.MINE

    async def begin(self, store: Store) -> None:
        """Ask the mesh and the store, which has just been opened. Over when the name is claimed, or the store says nothing."""
        try:
            await self._look_around()
            if not self._neighbours and not self._at_home and "mdns" in self._config.mesh.discovery and on_a_lan(self._host):
                await self._listen()
            await self._follow_up()
            if self._own_store:
                await self._write_down()
            else:
                alone = self.far and not self._neighbours
                await self._claim(self._ask_neighbours if self.far else partial(ask, store), 0.0 if alone else LOOK_SECONDS)
        finally:
            for neighbour in self._neighbours:
                neighbour.close()

    async def finish(self, store: Store) -> None:
        """The claim, if there was no store to make it; for as long as that takes."""
        if not self.settled:
            await self._claim(partial(ask, store), None)

    # The mesh

    async def _look_around(self) -> None:
        rows = await Remembered(self._data_dir).load()
        addresses = dict.fromkeys([*self._config.mesh.seeds, *(address for _, address in rows)])
        with trio.move_on_after(LOOK_SECONDS) as scope:
            async with trio.open_nursery() as nursery:
                for address in list(addresses)[:MOST]:
                    nursery.start_soon(self._meet, address, scope)

    async def _listen(self) -> None:
        """Whom the LAN tells of, without a word of its own."""
        to, rows = trio.open_memory_channel[list[Announced]](1)

        def heard(found: list[Announced]) -> None:
            with suppress(trio.WouldBlock):
                to.send_nowait([row for row in found if row.mesh == self._config.mesh.name])

        seen: set[str] = set()
        with trio.move_on_after(HEAR_SECONDS) as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(Discovery(self._config.mesh.name, self._name, (self._host, 0), heard, announces=False).run)
                async for found in rows:
                    fresh = [row.address for row in found if row.address not in seen][: MOST - len(seen)]
                    seen.update(fresh)
                    for address in fresh:
                        nursery.start_soon(self._meet, address, scope)

    async def _follow_up(self) -> None:
        """Whoever is said to have the name is dialled: only who answers lives."""
        for address in {row[1] for one in self._neighbours for row in _brokers(one) if row[0] == self._name}:
            self._heard_of = f", last heard of at {address}"
            with trio.move_on_after(LOOK_SECONDS) as scope:
                await self._meet(address, scope)

    async def _meet(self, address: str, scope: trio.CancelScope) -> None:
        try:
            neighbour = await meet(address, self._hello())
        except (*BROKEN, ValueError) as error:
            log.debug("%s: %s", address, error)
            return
        self._neighbours.append(neighbour)
        if neighbour.info.get("mesh") == self._config.mesh.name and neighbour.info.get("node") == self._name:
            raise self._refusal(f": it answers at {address}")
        scope.deadline = min(scope.deadline, trio.current_time() + MORE_SECONDS)

    def _hello(self) -> dict[str, object]:
        mesh = self._config.mesh.name
        return {"role": "node", "name": self._name, "mesh": mesh, "boot": self._boot, "quiet": True}

    async def _ask_neighbours(self, op: Op) -> Outcome:
        outcome: Outcome = StoreFailed(False, "no node of the mesh answers")
        for neighbour in self._neighbours:
            outcome = await neighbour.ask(op)
            if not isinstance(outcome, StoreFailed):
                break
        return outcome

    # The store

    async def _claim(self, ask_store: Ask, patience: float | None) -> None:
        """Until there is a verdict, or a store that says nothing for so long."""
        heard = trio.current_time()
        while True:
            failed = await self._turn(ask_store, inf if patience is None else patience)
            if self._core.verdict is not Verdict.OPEN:
                break
            now = trio.current_time()
            heard = heard if failed else now
            if patience is not None and now - heard >= patience:
                log.info("the store says nothing yet: the name %s is claimed when it does", self._name)
                return
            if (left := self._core.left(boottime())) > 0:
                self._tell(left)
            await trio.sleep(self._core.pause)
        if self._core.verdict is Verdict.TAKEN:
            raise self._refusal(f"{self._heard_of}: its lease in the store is renewed")
        if self._waited:
            log.warning("nobody has renewed the lease of %s: the name is this node's", self._name)

    async def _turn(self, ask_store: Ask, seconds: float) -> bool:
        """Whether the store failed to answer."""
        op = self._core.turn()
        if isinstance(op, Renew):
            await self._write_down()
        outcome: Outcome = StoreFailed(None, "no answer")
        with trio.move_on_after(seconds):
            outcome = await ask_store(op)
        self._core.answered(outcome, boottime())
        return isinstance(outcome, StoreFailed)

    async def _write_down(self) -> None:
        """Before the claim is made: should this life end in it, the next one knows both that may have the lease."""
        if self._written:
            return
        self._written = True
        try:
            await trio.to_thread.run_sync(lives.keep, self._data_dir, [*self._core.inherits, self._boot])
        except OSError as error:
            log.warning("the next start will wait for this life's lease: %s", error)

    def _tell(self, left: float) -> None:
        if not self._waited:
            self._waited = True
            log.warning(
                "%s has a lease that no former life of this data directory has left, as far as can be told: either another "
                "node of that name lives, or this one has lost or moved its directory. Nothing is taken over until the lease "
                "has run out, in %.0f s; if it is renewed, this node ends",
                self._name,
                left,
            )
        notify(f"STATUS=waiting {left:.0f} s for the lease of another {self._name}\nEXTEND_TIMEOUT_USEC={EXTEND_SECONDS * 1_000_000}")

    def _refusal(self, how: str) -> NameTaken:
        return NameTaken(f"another node is called {self._name}{how}; this one ends: give it a [node] name of its own")


def _brokers(neighbour: Neighbour) -> list[tuple[str, str]]:
    """The nodes that it is connected to, with their addresses."""
    rows: Any = neighbour.info.get("brokers")
    return [(row[0], row[1]) for row in rows if is_row(row)] if isinstance(rows, list) else []
