"""Deployments of one node whose peers and containers are stand-ins."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import trio
import trio.testing

from edged.core.balancing import Balancer
from edged.core.routing import Router
from edged.daemon.bundles import Bundles
from edged.daemon.deployments import Deployments
from edged.daemon.host import Spec, StartFailed
from edged.daemon.peers import Peers
from edged.daemon.slots import Slots
from edged.daemon.workers import Workers
from edged_protocol import messages as m
from edged_protocol.bundle import pack_directory
from edged_protocol.codec import pack
from edged_protocol.errors import Code, call_error


class FakePeers:
    """Peers that have bundles, until they are lost."""

    def __init__(self) -> None:
        self.bundles: dict[str, bytes] = {}
        self.others: list[str] = []
        self.dead: set[str] = set()
        self.pieces: list[tuple[str, int]] = []
        self.held: dict[str, trio.Event] = {}
        self.lost = False
        self.asked = 0
        self.told = 0
        self.versions: dict[str, dict[str, int]] = {}

    def followed(self, name: str) -> dict[str, int] | None:
        return self.versions.get(name)

    async def ask(self, peer: str, verb: str, params: m.Map) -> m.Reply:
        self.asked += 1
        if peer in self.dead:
            await trio.testing.wait_all_tasks_blocked()  # what others do meanwhile is done
            raise call_error(Code.NODE_LOST, f"node {peer} was lost")
        if params["hash"] in self.held:
            await self.held[params["hash"]].wait()
        if self.lost:
            raise call_error(Code.NODE_LOST, f"node {peer} was lost")
        self.pieces.append((peer, params["offset"]))
        await trio.lowlevel.checkpoint()
        data = self.bundles[params["hash"]]
        return m.Reply(1, {"total": len(data)}, data[params["offset"] :][:100])

    def names(self) -> list[str]:
        return ["n2", *self.others]

    async def sync_all(self, wanted: Any) -> None:
        self.told += 1

    def sync_soon(self) -> None:
        self.told += 1


class FakeWorkers:
    """Containers of functions that can, or cannot, be imported."""

    slots = Slots(1, 0, tuple, lambda worker: None)
    resting = False

    @property
    def offered(self) -> list[str]:
        return sorted(self.functions)

    def __init__(self) -> None:
        self.functions: dict[str, Spec] = {}
        self.served = SimpleNamespace(functions=self.functions)
        self.broken = False
        self.tried = 0
        self.running: set[str] = set()
        self.retired: set[str] = set()
        self.slow: trio.Event | None = None

    async def warm(self, *specs: Spec) -> dict[str, bool | None]:
        self.tried += len(specs)
        if self.slow is not None:
            await self.slow.wait()
        if self.broken and specs:
            raise StartFailed("it cannot be imported")
        return dict.fromkeys(spec.hash for spec in specs)

    def serve(self, spec: Spec, canary: Spec | None, share: int, imported: dict[str, bool | None]) -> list[str]:
        self.canary = canary.manifest.version if canary else None, share
        old, self.functions[spec.manifest.name] = self.functions.get(spec.manifest.name), spec
        return [old.hash] if old else []

    def remove(self, name: str) -> list[str]:
        return [spec.hash for spec in [self.functions.pop(name, None)] if spec]

    async def retire(self, hashes: Iterable[str]) -> None:
        self.retired |= set(hashes) - self.hashes()

    def hashes(self) -> set[str]:
        return self.running | {spec.hash for spec in self.functions.values()}


class Rig:
    """Deployments of node n1, whose only peer is n2."""

    def __init__(self, root: Path, labels: tuple[str, ...] = ()) -> None:
        self.root = root
        self.peers, self.workers = FakePeers(), FakeWorkers()
        self.bundles = Bundles(root / "data")
        self.deployments = Deployments(
            "n1",
            labels,
            self.bundles,
            cast(Workers, self.workers),
            Router("n1"),
            cast(Peers, self.peers),
            Balancer("n1", Random(1), lambda _: None),
        )

    def make(self, version: str, more: str = "") -> str:
        """A function's bundle as n2 has it; its hash."""
        directory = self.root / f"source-{version}"
        directory.mkdir()
        (directory / "f.py").write_text("x = 1\n" * 100)
        text = f'[function]\nname = "f"\nentry = "f:fn"\nversion = "{version}"\n{more}'
        (directory / "function.toml").write_text(text)
        data = pack_directory(directory)
        hash_ = hashlib.sha256(data).hexdigest()
        self.peers.bundles[hash_] = data
        return hash_

    def tell(self, version: int, hash_: str) -> None:
        self.deployments.told("n2", pack([["f", version, "n2", hash_]]))

    async def settled(self) -> None:
        """Until nothing goes on any more."""
        nursery = self.deployments._nursery
        assert nursery is not None
        with trio.fail_after(60):
            while nursery.child_tasks:  # noqa: ASYNC110 - ends after a few looks
                await trio.sleep(0.001)

    @property
    def version(self) -> str | None:
        """Of f, as it runs here."""
        spec = self.workers.served.functions.get("f")
        return None if spec is None else spec.manifest.version


async def deployed(rig: Rig, version: str) -> str:
    """Uploaded and deployed by an operator; its hash."""
    hash_ = rig.make(version)
    rig.bundles.upload(hash_, 0, len(rig.peers.bundles[hash_]), rig.peers.bundles[hash_])
    await rig.deployments.upload_deployed(hash_)
    return hash_


async def tried(rig: Rig, times: int) -> None:
    """Until so many imports were tried."""
    with trio.fail_after(60):
        while rig.workers.tried < times:  # noqa: ASYNC110 - ends after a few looks
            await trio.sleep(0.001)
