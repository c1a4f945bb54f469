"""Which functions this node runs: the catalogue made true here (DESIGN §6, §8).

Decides what to fetch, install, serve and retire when an operator or a peer says what is deployed. Refuses to
know how bundles are kept, how containers start and how a newer pointer is told from an older (`Catalogue`).
"""

import logging
from collections.abc import Iterable

import trio

from edged.core.catalogue import Catalogue, Pointer
from edged.core.records import MAX_INTEGER
from edged.core.routing import Router
from edged_protocol import messages as m
from edged_protocol.errors import CallError
from edged_protocol.ids import valid_name

from .bundles import HASH, Bundles
from .host import Spec, StartFailed
from .peers import Peers
from .workers import Workers

log = logging.getLogger(__name__)


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
    ) -> None:
        self._node = node
        self._labels = frozenset(labels)
        self._bundles = bundles
        self._workers = workers
        self._router = router
        self._peers = peers
        self._nursery: trio.Nursery | None = None
        self._fetching: set[str] = set()
        self._unfetched: set[str] = set()
        self.catalogue = Catalogue()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Own the tasks that follow peers. Started when all that can be served is."""
        self.catalogue = await self._bundles.load()
        for hash_ in self.catalogue.deployed().values():
            try:
                await self._serve(hash_)
            except (ValueError, OSError, StartFailed) as error:
                log.error("function %s cannot be served: %s", hash_[:12], error)
        self._announce()
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            await trio.sleep_forever()

    async def _serve(self, hash_: str) -> None:
        spec = await self._bundles.spec(hash_)
        if spec is not None:
            await self._serve_spec(spec)

    async def _serve_spec(self, spec: Spec) -> None:
        required = spec.manifest.placement.require
        if self._workers.total and self._labels.issuperset(required):
            await self._workers.deploy(spec)

    def _announce(self) -> None:
        self._router.serves(self._workers.offered, self.catalogue.deployed())

    def rest(self, resting: bool) -> None:
        """Offer no function any more, or all of them again."""
        self._workers.resting = resting
        self._announce()
        self._peers.sync_soon()

    # Operators

    async def deploy(self, spec: Spec) -> None:
        """An operator deployed `spec` here. Raises StartFailed: then nothing has changed."""
        await self._serve_spec(spec)
        self.catalogue.point(spec.manifest.name, spec.hash, self._node)
        await self._bundles.save(self.catalogue)
        await self._tell_all()

    async def remove(self, name: str) -> None:
        """An operator removed `name`."""
        self.catalogue.point(name, "", self._node)
        await self._bundles.save(self.catalogue)
        await self._workers.remove(name)
        await self._tell_all()

    async def _tell_all(self) -> None:
        self._announce()
        await self._peers.sync_all(self.catalogue.deployed())

    # Peers

    def told(self, peer: str, pointers: Iterable[object]) -> None:
        """A peer said what it knows to be deployed: follow what is news, or could not be fetched."""
        for pointer in filter(None, map(_pointer, pointers)):
            if self.catalogue.merge(pointer) or pointer.hash in self._unfetched:
                self._unfetched.discard(pointer.hash)
                if self._nursery is not None:
                    self._nursery.start_soon(self._follow, pointer, peer)
        self._announce()

    async def _follow(self, pointer: Pointer, peer: str) -> None:
        """Make a pointer of another node true here."""
        try:
            await self._bundles.save(self.catalogue)
            await self._obey(pointer, peer)
        except (CallError, ValueError, OSError, StartFailed) as error:
            log.error("cannot follow %s to %s: %s", pointer.name, pointer.hash[:12], error)
        except Exception:
            log.exception("what %s says of %s cannot be followed", peer, pointer.name)
        self._announce()
        self._peers.sync_soon()

    async def _obey(self, pointer: Pointer, peer: str) -> None:
        if pointer.hash:
            await self._fetch(pointer.hash, peer)
        if self.catalogue.deployed().get(pointer.name, "") != pointer.hash:
            return  # something newer was said while this was fetched or saved
        if pointer.hash:
            await self._serve(pointer.hash)
        else:
            await self._workers.remove(pointer.name)

    async def _fetch(self, hash_: str, peer: str) -> None:
        """Have the bundle. Raises CallError when the peer cannot give it: the next to tell of it may."""
        if await self._bundles.spec(hash_) is not None or hash_ in self._fetching:
            return
        self._fetching.add(hash_)
        try:
            await self._fetch_pieces(hash_, peer)
        except CallError:
            self._unfetched.add(hash_)
            raise
        finally:
            self._fetching.discard(hash_)

    async def _fetch_pieces(self, hash_: str, peer: str) -> None:
        offset, total = 0, 1
        while offset < total:
            params: m.Map = {"hash": hash_, "offset": offset}
            reply = await self._peers.ask(peer, "function.fetch", params)
            total = int(reply.result["total"])
            offset = self._bundles.upload(hash_, offset, total, reply.blob or b"")
        await self._bundles.install(hash_)


def _pointer(row: object) -> Pointer | None:
    """A row of `node.sync`, if it makes sense: what is taken in here is told to all others."""
    if not isinstance(row, list) or [type(item) for item in row] != [str, int, str, str]:
        return None
    pointer = Pointer(*row)
    named = valid_name(pointer.name) and valid_name(pointer.by)
    hashed = not pointer.hash or HASH.fullmatch(pointer.hash)
    return pointer if named and hashed and 0 <= pointer.version <= MAX_INTEGER else None
