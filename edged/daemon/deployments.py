"""Which functions this node runs: the catalogue made true here (DESIGN §6, §8).

Decides what to fetch, install, serve and retire when an operator or a peer says what is deployed. Refuses to
know how bundles are kept, how containers start and how a newer pointer is told from an older (`Catalogue`).
"""

import logging
from collections.abc import Callable, Iterable
from typing import NamedTuple

import trio

from edged.core.balancing import Balancer
from edged.core.catalogue import (
    SHARES,
    Catalogue,
    Pointer,
    deployed,
    promoted,
    rolled_back,
    with_canary,
)
from edged.core.manifest import Manifest
from edged.core.placement import missing, too_large
from edged.core.records import MAX_INTEGER
from edged.core.routing import Router
from edged_protocol.codec import unpack
from edged_protocol.errors import CallError, Code, RemoteProtocolError, call_error
from edged_protocol.ids import valid_name

from .bundles import HASH, Bundles, Damaged
from .fetching import Fetch
from .host import Spec, StartFailed
from .peers import Peers
from .workers import Imported, Workers

log = logging.getLogger(__name__)

FIRST_AGAIN = 1.0
MOST_AGAIN = 60.0
"""Seconds before a version that could not be installed or imported is tried again, doubled with each try: a disk that
was full and a machine without memory get over it, a missing library takes a person."""

FOLLOW_SECONDS = 10.0
"""For which a move waits until its node serves what was deployed: a few imports on a small machine that is busy."""


class _Ready(NamedTuple):
    """What a pointer leads to: the function as it is `known`, what of it may run here, and what importing that has told."""

    known: Spec | None
    stable: Spec | None
    canary: Spec | None
    imported: Imported


class Deployments:
    """`run` serves what the disk's catalogue says; then `deploy`, `remove` and what peers `told`."""

    def __init__(
        self,
        node: str,
        labels: Iterable[str],
        bundles: Bundles,
        workers: Workers,
        router: Router,
        peers: Peers,
        balancer: Balancer,
    ) -> None:
        self._node = node
        self._labels = frozenset(labels)
        self._bundles = bundles
        self._workers = workers
        self._router = router
        self._peers = peers
        self._balancer = balancer
        self._manifests: dict[str, Manifest] = {}
        self._nursery: trio.Nursery | None = None
        self._fetching: dict[str, trio.Event] = {}
        self._installing = 0
        self._unfetched: set[str] = set()
        self.catalogue = Catalogue()
        self.followed: dict[str, int] = {}
        """The version of each pointer that was made true here, though it may have no place here."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Own the tasks that follow peers. Started when all that can be served is."""
        self.catalogue = await self._bundles.load()
        again = [pointer for pointer in self.catalogue.deployed().values() if await self._failed_to_serve(pointer)]
        self._announce()
        await self._tidy()
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for pointer in again:
                nursery.start_soon(self._follow, pointer, self._node, FIRST_AGAIN)
            task_status.started()
            await trio.sleep_forever()

    async def _failed_to_serve(self, pointer: Pointer) -> bool:
        """At the start; whether another try may mend it."""
        try:
            if await self._complete(pointer):
                await self._serve(pointer)
        except (ValueError, OSError, StartFailed) as error:
            log.error("%s cannot be served: %s", pointer.name, error)
            return not isinstance(error, ValueError)
        return False

    async def _serve(self, pointer: Pointer) -> None:
        """What of a pointer is installed and may run here, unless something newer was said before all of it was imported.
        Raises StartFailed: then nothing has changed."""
        ready = await self._prepared(pointer)
        gone = self._switch(pointer, ready) if self.catalogue.get(pointer.name) == pointer else []
        await self._workers.retire([*gone, *ready.imported])

    async def _prepared(self, pointer: Pointer) -> "_Ready":
        """All that takes its time. Raises StartFailed."""
        known = await self._bundles.spec(pointer.hash) if pointer.hash else None
        stable, canary = await self._placed(pointer.hash), await self._placed(pointer.canary)
        imported = await self._workers.warm(*filter(None, (stable, canary if stable else None)))
        return _Ready(known, stable, canary, imported)

    def _switch(self, pointer: Pointer, ready: "_Ready") -> list[str]:
        """Make a pointer true, in one step: an older one whose import ends later must not replace it. What is for `retire`."""
        name = pointer.name
        self.followed[name] = pointer.version
        # How a function's calls are spread is for every broker to know, whether it runs it or not.
        if ready.known is None:
            self._balancer.forget_function(name)
            self._manifests.pop(name, None)
        else:
            self._balancer.policy(name, ready.known.manifest.balance.policy)
            self._manifests[name] = ready.known.manifest
        if ready.stable is None:
            return self._workers.remove(name)
        return self._workers.serve(ready.stable, ready.canary, pointer.share, ready.imported)

    def required(self, name: str) -> tuple[tuple[str, ...], int]:
        """The labels a node must have to run a function, and the bytes for one container."""
        manifest = self._manifests.get(name)
        return ((), 0) if manifest is None else (manifest.placement.require, manifest.limits.memory)

    async def _complete(self, pointer: Pointer) -> bool:
        """Whether all bundles are here; those that are not, the next peer that tells of them has to give."""
        missing = {hash_ for hash_ in pointer.hashes() if not await self._bundles.has(hash_)}
        self._unfetched |= missing
        return not missing

    async def _placed(self, hash_: str) -> Spec | None:
        spec = await self._bundles.spec(hash_) if hash_ else None
        slots = self._workers.slots
        if spec is None or not slots.total or too_large(spec.manifest.limits.memory, slots.memory):
            return None
        return None if missing(spec.manifest.placement.require, self._labels) else spec

    def _announce(self) -> None:
        self._router.serves(self._workers.offered, self.catalogue.deployed())

    def rest(self, resting: bool) -> None:
        """Offer no function any more, or all of them again."""
        self._workers.resting = resting
        self._announce()
        self._peers.sync_soon()

    async def _tidy(self) -> None:
        """What no pointer names and no container runs leaves the disk: it would fill with every deploy. What is being
        deployed or fetched is named by nobody yet: then the next time will do."""
        try:
            await self._bundles.tidy(lambda: () if self._installing or self._fetching else self._needed())
        except OSError as error:
            log.warning("old bundles stay: %s", error)

    def _needed(self) -> set[str]:
        named = {hash_ for pointer in self.catalogue.all() for hash_ in (*pointer.hashes(), pointer.before)}
        return named | self._workers.hashes()

    # Operators

    async def upload_deployed(self, hash_: str, share: int = 0) -> Spec:
        """An operator deploys what was uploaded, or is installed, for all or as a canary; what it is. Raises StartFailed,
        ValueError, OSError: then nothing has changed."""
        self._installing += 1
        try:
            spec = await self._bundles.install(hash_)
            await self.deploy(spec, share)
        finally:
            self._installing -= 1
            await self._tidy()
        return spec

    async def deploy(self, spec: Spec, share: int = 0) -> None:
        """`spec` for all or as a canary. Raises as above."""
        name = spec.manifest.name
        if share:
            await self._point(name, lambda now: with_canary(now, self._node, spec.hash, share))
        else:
            await self._point(name, lambda now: deployed(now, name, self._node, spec.hash))

    async def promote(self, old: Pointer) -> None:
        """All get the canary. Raises ValueError, StartFailed."""
        await self._point(old.name, lambda now: promoted(now or old, self._node))

    async def roll_back(self, old: Pointer) -> None:
        """Without the canary, or to the version before. Raises ValueError, StartFailed, CallError."""
        await self._point(old.name, lambda now: rolled_back(now or old, self._node))

    async def remove(self, name: str) -> None:
        """An operator removed `name`."""
        await self._point(name, lambda now: deployed(now, name, self._node, ""))

    async def _point(self, name: str, made: Callable[[Pointer | None], Pointer]) -> None:
        """Told to others only when it is on this disk; else all is as before. What others said during the import counts: the
        pointer is `made` again of that. Raises CallError when it would lead elsewhere then."""
        meant = made(self.catalogue.get(name))
        await self._have(meant)
        ready = await self._prepared(meant)
        gone: list[str] = []
        try:
            pointer = made(self.catalogue.get(name))
            if pointer.hashes() != meant.hashes():
                raise call_error(Code.CONFLICT, f"{name} has become another version meanwhile")
            await self._bundles.save(self.catalogue, pointer)
            if not self.catalogue.merge(pointer):
                raise call_error(Code.CONFLICT, f"{name} was deployed by another node meanwhile")
            gone = self._switch(pointer, ready)
        finally:
            await self._workers.retire([*gone, *ready.imported])
        await self._tell_all()

    async def _have(self, pointer: Pointer) -> None:
        """All that a pointer names: a node that came later never had the version before. Raises CallError."""
        try:
            for hash_ in pointer.hashes():
                await self._fetch(hash_)
        except CallError as error:  # of the asking; what the operator wanted is certainly not done
            why = f"a version of {pointer.name} is not here and cannot be had: {error.message}"
            raise call_error(Code.NO_CAPACITY, why) from error

    async def _tell_all(self) -> None:
        self._announce()
        await self._peers.sync_all(self.catalogue.all())

    # Peers

    def told(self, peer: str, pointers: bytes) -> None:
        """A peer said what it knows to be deployed: follow what is news, or could not be fetched.

        Raises CallError for what is no list.
        """
        for pointer in filter(None, map(_pointer, _rows(pointers))):
            missing = self._unfetched.intersection(pointer.hashes())
            if self.catalogue.merge(pointer) or (missing and self.catalogue.get(pointer.name) == pointer):
                self._unfetched -= missing
                if self._nursery is not None:
                    self._nursery.start_soon(self._follow, pointer, peer)
        self._announce()

    async def _follow(self, pointer: Pointer, peer: str, pause: float = 0.0) -> None:
        """Make a pointer of another node true here; what a later try may mend is tried again while the pointer holds."""
        while True:
            await trio.sleep(pause)
            if self.catalogue.get(pointer.name) != pointer or not await self._again(pointer, peer):
                return
            pause = min(max(FIRST_AGAIN, 2 * pause), MOST_AGAIN)

    async def _again(self, pointer: Pointer, peer: str) -> bool:
        """One try; whether another one may mend what went wrong."""
        mendable = True
        try:
            await self._bundles.save(self.catalogue)
            await self._obey(pointer, peer)
            await self._tidy()
            mendable = False
        except (CallError, ValueError, OSError, StartFailed) as error:
            log.error("cannot follow %s to %s: %s", pointer.name, pointer.hash[:12], error)
            mendable = isinstance(error, OSError | StartFailed | Damaged)
        except Exception:
            log.exception("what %s says of %s cannot be followed", peer, pointer.name)
        self._announce()
        self._peers.sync_soon()
        return mendable

    async def followed_by(self, node: str, name: str) -> None:
        """Wait, within reason, until `node` serves what is deployed as `name`: it may have been deployed just now."""
        pointer = self.catalogue.get(name)
        with trio.move_on_after(FOLLOW_SECONDS):
            while pointer is not None and not self._serves(node, pointer):  # noqa: ASYNC110 - seldom waits
                await trio.sleep(0.01)

    def _serves(self, node: str, pointer: Pointer) -> bool:
        """Whether a node has made a pointer true; one that is not connected is not waited for."""
        followed = self.followed if node == self._node else self._peers.followed(node)
        return followed is None or followed.get(pointer.name, 0) >= pointer.version

    async def _obey(self, pointer: Pointer, peer: str) -> None:
        for hash_ in pointer.hashes():
            await self._fetch(hash_, peer)
        await self._serve(pointer)

    async def _fetch(self, hash_: str, likeliest: str = "") -> None:
        """Have the bundle. Raises CallError when nobody can give it now: the next to tell of it may; and as `Fetch.run`."""
        while (other := self._fetching.get(hash_)) is not None:  # for an older pointer, which may not be served any more
            await other.wait()
        over = self._fetching[hash_] = trio.Event()
        try:
            if await self._bundles.spec(hash_) is None:
                givers = sorted(self._peers.names(), key=lambda name: name != likeliest)
                await Fetch(hash_, self._bundles, self._peers.ask).run(givers)
        except CallError:
            self._unfetched.add(hash_)
            raise
        finally:
            del self._fetching[hash_]
            over.set()


SHORT = [str, int, str, str]
LONG = [*SHORT, str, int, str]


def _rows(data: bytes) -> list[object]:
    try:
        rows = unpack(data)
    except (RemoteProtocolError, ValueError, TypeError):
        rows = None
    if not isinstance(rows, list):
        raise call_error(Code.BAD_REQUEST, "node.sync: the blob is no list of pointers")
    return rows


def _pointer(row: object) -> Pointer | None:
    """A row of `node.sync`, if it makes sense: what is taken in here is told to all others."""
    if not isinstance(row, list) or [type(item) for item in row] not in (SHORT, LONG):
        return None
    pointer = Pointer(*row)
    named = valid_name(pointer.name) and valid_name(pointer.by)
    hashes = (pointer.hash, pointer.canary, pointer.before)
    hashed = all(not hash_ or HASH.fullmatch(hash_) for hash_ in hashes)
    shared = pointer.share in SHARES if pointer.canary else pointer.share == 0
    counted = 0 <= pointer.version <= MAX_INTEGER
    return pointer if named and hashed and shared and counted else None
