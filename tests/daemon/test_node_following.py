"""What a node runs follows what it is told: by operators, by peers, and after something went wrong."""

import hashlib
import time
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio

from edged.core.balancing import Balancer
from edged.core.catalogue import Catalogue, Pointer
from edged.core.routing import Router
from edged.daemon import bundles as bundles_module
from edged.daemon import deployments, fetching
from edged.daemon.bundles import MAX_UPLOADS, Bundles, write_whole
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

    slots = Slots(1, tuple, lambda worker: None)
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
        self.slow: trio.Event | None = None

    async def deploy(self, spec: Spec, canary: Spec | None = None, share: int = 0) -> None:
        self.tried += 1
        if self.slow is not None:
            await self.slow.wait()
        if self.broken:
            raise StartFailed("it cannot be imported")
        self.canary = canary.manifest.version if canary else None, share
        self.functions[spec.manifest.name] = spec

    async def remove(self, name: str) -> None:
        self.functions.pop(name, None)

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
        with trio.fail_after(10):
            while nursery.child_tasks:  # noqa: ASYNC110 - ends after a few looks
                await trio.sleep(0.001)

    @property
    def version(self) -> str | None:
        """Of f, as it runs here."""
        spec = self.workers.served.functions.get("f")
        return None if spec is None else spec.manifest.version


@pytest.fixture
async def rig(nursery: trio.Nursery, tmp_path: Path) -> Rig:
    rig = Rig(tmp_path)
    await nursery.start(rig.deployments.run)
    return rig


async def test_what_a_peer_has_deployed_runs_here(rig: Rig) -> None:
    """A pointer leads to the bundle, fetched in pieces, to the function, and to telling others."""
    rig.tell(1, rig.make("1"))
    await rig.settled()
    assert rig.version == "1"
    assert rig.peers.asked > 2
    assert rig.peers.told == 1


async def test_a_pointer_that_is_no_news_costs_nothing(rig: Rig) -> None:
    """Peers repeat themselves every second: nothing is fetched or served again, nor is anything older."""
    hash_ = rig.make("1")
    rig.tell(2, hash_)
    await rig.settled()
    asked = rig.peers.asked
    rig.tell(2, hash_)
    rig.tell(1, rig.make("0"))
    await rig.settled()
    assert (rig.version, rig.peers.asked) == ("1", asked)


async def test_a_fetch_that_failed_is_made_up_for(rig: Rig) -> None:
    """A peer lost in the middle: the next that tells of the function is asked, for it is no news by then."""
    hash_ = rig.make("1")
    rig.peers.lost = True
    rig.tell(1, hash_)
    await rig.settled()
    assert rig.version is None
    rig.peers.lost = False
    rig.tell(1, hash_)
    await rig.settled()
    assert rig.version == "1"


async def test_the_newer_of_two_counts_however_long_it_takes(rig: Rig) -> None:
    """An older version whose fetch ends last is not served in place of the newer one."""
    old, new = rig.make("1"), rig.make("2")
    rig.peers.held[old] = trio.Event()
    rig.tell(1, old)
    rig.tell(2, new)
    with trio.fail_after(10):
        while rig.version is None:  # noqa: ASYNC110 - what is waited for tells nobody
            await trio.sleep(0.001)
    rig.peers.held[old].set()
    await rig.settled()
    assert rig.version == "2"
    assert rig.deployments.catalogue.deployed()["f"].hash == new


async def test_a_removal_is_followed_and_so_is_a_deployment_after_it(rig: Rig) -> None:
    """An empty hash ends the function here; a higher version brings it back."""
    hash_ = rig.make("1")
    for version, said, runs in ((1, hash_, "1"), (2, "", None), (3, hash_, "1")):
        rig.tell(version, said)
        await rig.settled()
        assert rig.version == runs


async def test_a_peers_nonsense_costs_itself_only(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    """What is no pointer is not passed on, a bundle that is not what its hash says is not installed."""
    right = ["f", 1, "n2", "0" * 64]
    wrong = [(0, "F"), (0, 7), (1, "1"), (1, -1), (1, 2**63), (2, ""), (3, "../../etc"), (3, None)]
    rows = [[value if n == at else item for n, item in enumerate(right)] for at, value in wrong]
    whole = [*right, "1" * 64, 10, ""]
    odd = [[*whole[:at], value, *whole[at + 1 :]] for at, value in ((4, "7"), (5, 0), (5, 100), (6, "x"))]
    rig.deployments.told("n2", pack(["x", [], right[:3], None, *rows, *odd]))
    assert rig.deployments.catalogue.all() == []
    rig.peers.bundles["0" * 64] = b"something else"
    rig.tell(1, "0" * 64)
    await rig.settled()
    assert rig.version is None
    assert "do not have its hash" in caplog.text
    rig.tell(2, rig.make("2"))
    await rig.settled()
    assert rig.version == "2"


async def test_a_version_that_cannot_start_is_not_deployed(rig: Rig) -> None:
    """The operator is told, and the pointer stays where it was: nobody follows a broken deployment."""
    hash_ = rig.make("1")
    rig.bundles.upload(hash_, 0, len(rig.peers.bundles[hash_]), rig.peers.bundles[hash_])
    rig.workers.broken = True
    with pytest.raises(StartFailed):
        await rig.deployments.deploy(await rig.bundles.install(hash_))
    assert rig.deployments.catalogue.all() == []
    assert rig.peers.told == 0


async def tried(rig: Rig, times: int) -> None:
    """Until so many imports were tried."""
    with trio.fail_after(10):
        while rig.workers.tried < times:  # noqa: ASYNC110 - ends after a few looks
            await trio.sleep(0.001)


async def test_a_version_that_could_not_be_imported_is_tried_again(
    nursery: trio.Nursery, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told by a peer, or found at the start: what failed is served once the machine has got over it."""
    monkeypatch.setattr(deployments, "FIRST_AGAIN", 0.01)
    rig.workers.broken = True
    rig.tell(1, rig.make("1"))
    await tried(rig, 2)
    assert rig.deployments.followed == {}
    rig.workers.broken = False
    await rig.settled()
    assert (rig.version, rig.deployments.followed) == ("1", {"f": 1})
    again = Rig(rig.root)
    again.workers.broken = True
    await nursery.start(again.deployments.run)
    await tried(again, 2)
    again.workers.broken = False
    await again.settled()
    assert (again.version, again.deployments.followed) == ("1", {"f": 1})


async def test_what_nobody_means_any_more_is_not_tried_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A newer pointer ends the tries of the one before it."""
    monkeypatch.setattr(deployments, "FIRST_AGAIN", 0.01)
    rig.workers.broken = True
    rig.tell(1, rig.make("1"))
    await tried(rig, 1)
    rig.tell(2, "")
    await rig.settled()
    assert (rig.version, rig.deployments.followed) == (None, {"f": 2})


async def test_a_node_is_waited_for_until_it_serves_what_is_deployed(rig: Rig) -> None:
    """Itself and a peer; nobody is waited for who has no connection, nor for what nobody has deployed."""
    hash_ = rig.make("1")
    rig.peers.held[hash_] = trio.Event()
    rig.peers.versions = {"n2": {"f": 0}}
    rig.tell(1, hash_)
    served = []

    async def wait(node: str) -> None:
        await rig.deployments.followed_by(node, "f")
        served.append(node)

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, "n1")
            nursery.start_soon(wait, "n2")
            await rig.deployments.followed_by("n3", "f")
            await rig.deployments.followed_by("n1", "g")
            assert served == []
            rig.peers.held[hash_].set()
            await rig.settled()
            rig.peers.versions["n2"]["f"] = 1
    assert rig.version == "1" and sorted(served) == ["n1", "n2"]


async def deployed(rig: Rig, version: str) -> str:
    """Uploaded and deployed by an operator; its hash."""
    hash_ = rig.make(version)
    rig.bundles.upload(hash_, 0, len(rig.peers.bundles[hash_]), rig.peers.bundles[hash_])
    await rig.deployments.upload_deployed(hash_)
    return hash_


def on_disk(rig: Rig) -> set[str]:
    """The bundles, unpacked, packed or half-way."""
    return {path.name for path in (rig.root / "data" / "functions").iterdir()} - {"catalogue"}


async def test_bundles_that_nobody_needs_leave_the_disk(nursery: trio.Nursery, rig: Rig) -> None:
    """Kept are the version that is deployed, the one to roll back to and those whose containers run; not what failed,
    and not what a former life left half-way."""
    first = await deployed(rig, "1")
    rig.workers.running = {first}
    hashes = [first, *[await deployed(rig, str(n)) for n in (2, 3, 4)]]
    kept = {name for hash_ in (first, *hashes[2:]) for name in (hash_, f"{hash_}.bundle")}
    assert on_disk(rig) == kept
    rig.workers.broken = True
    with pytest.raises(StartFailed):
        await deployed(rig, "5")
    assert on_disk(rig) == kept
    for name in ("new", "parts"):
        (rig.root / "data" / "functions" / f"{'a' * 64}.{name}").mkdir()
    again = Rig(rig.root)
    await nursery.start(again.deployments.run)
    assert again.version == "4"
    assert on_disk(again) == {name for name in kept if not name.startswith(first)}


async def test_what_is_being_deployed_is_not_taken_away_by_another_deploy(nursery: trio.Nursery, rig: Rig) -> None:
    """No pointer names it before its import is through, which may take long."""
    rig.workers.slow = trio.Event()
    nursery.start_soon(deployed, rig, "1")
    await tried(rig, 1)
    slow, rig.workers.slow = rig.workers.slow, None
    [first] = rig.peers.bundles
    await deployed(rig, "2")
    assert first in on_disk(rig)
    slow.set()


async def test_a_restart_serves_what_was_deployed(nursery: trio.Nursery, rig: Rig) -> None:
    """The catalogue and the bundles are on disk before anybody is told of them."""
    rig.tell(1, rig.make("1"))
    await rig.settled()
    again = Rig(rig.root)
    await nursery.start(again.deployments.run)
    assert again.version == "1"


@pytest.mark.parametrize(("labels", "runs"), [((), None), (("gpu", "zone=a"), "1")])
async def test_a_function_runs_where_its_labels_are(
    nursery: trio.Nursery, tmp_path: Path, labels: tuple[str, ...], runs: str | None
) -> None:
    """A node without what `require` names knows the function and does not run it."""
    rig = Rig(tmp_path, labels)
    await nursery.start(rig.deployments.run)
    hash_ = rig.make("1", '[placement]\nrequire = ["gpu"]\n')
    rig.tell(1, hash_)
    await rig.settled()
    assert rig.version == runs
    assert rig.deployments.catalogue.deployed()["f"].hash == hash_


async def test_the_catalogue_is_written_by_one_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several changes at once do not spoil each other's file, and what is on disk is the newest."""
    bundles, catalogue, running, most = Bundles(tmp_path), Catalogue(), 0, 0

    def slowly(path: Path, data: bytes) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        time.sleep(0.01)  # long enough for another thread to come in between
        write_whole(path, data)
        running -= 1

    await bundles.load()
    monkeypatch.setattr(bundles_module, "write_whole", slowly)
    async with trio.open_nursery() as nursery:
        for n in range(4):
            catalogue.merge(Pointer("f", n, "n1", f"{n:064x}"))
            nursery.start_soon(bundles.save, catalogue)
    assert most == 1
    assert (await bundles.load()).all() == catalogue.all()


async def test_a_canary_is_served_beside_the_version_it_may_replace(rig: Rig) -> None:
    """Both bundles of a pointer are fetched and served; without the canary the other serves alone."""
    old, new = rig.make("1"), rig.make("2")
    rig.deployments.told("n2", pack([["f", 2, "n2", old, new, 10, ""]]))
    await rig.settled()
    assert (rig.version, rig.workers.canary) == ("1", ("2", 10))
    rig.deployments.told("n2", pack([["f", 3, "n2", old, "", 0, ""]]))
    await rig.settled()
    assert (rig.version, rig.workers.canary) == ("1", (None, 0))


async def test_a_bundle_comes_from_several_and_goes_on_where_it_was(
    nursery: trio.Nursery, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each part is asked of one peer; those that came before the node ended are not asked for again."""
    monkeypatch.setattr(fetching, "CHUNK", 100)
    hash_ = rig.make("1")
    rig.peers.others = ["n3", "n4"]
    kept, keep = 0, rig.bundles.keep_part

    async def keep_some(hash_: str, offset: int, data: bytes) -> None:
        nonlocal kept
        kept += 1
        if kept > 3:
            rig.peers.lost = True
        else:
            await keep(hash_, offset, data)

    monkeypatch.setattr(rig.bundles, "keep_part", keep_some)
    rig.tell(1, hash_)
    await rig.settled()
    assert rig.version is None
    assert {peer for peer, _ in rig.peers.pieces[1:]} >= {"n2", "n3"}
    again = Rig(rig.root)
    again.peers.bundles = rig.peers.bundles
    await nursery.start(again.deployments.run)
    again.tell(1, hash_)
    await again.settled()
    assert again.version == "1"
    parts = -(-len(rig.peers.bundles[hash_]) // 100)
    assert len(again.peers.pieces) == 1 + parts - 3  # one to learn the size


async def test_a_bundle_nobody_told_of_is_had_from_another(rig: Rig) -> None:
    """The peer that told of it is lost: those that are connected are asked."""
    rig.peers.dead, rig.peers.others = {"n2"}, ["n3"]
    rig.tell(1, rig.make("1"))
    await rig.settled()
    assert rig.version == "1"


def test_uploads_that_nobody_finishes_block_nobody(tmp_path: Path) -> None:
    """However many uploads were left half-way, a new one is taken; the oldest of them begins anew."""
    bundles = Bundles(tmp_path)
    names = [f"{n:064x}" for n in range(MAX_UPLOADS + 1)]
    assert [bundles.upload(name, 0, 4, b"ab") for name in names] == [2] * len(names)
    assert bundles.upload(names[-1], 2, 4, b"cd") == 4
    assert bundles.upload(names[0], 2, 4, b"cd") == 0
