"""Bundles on a node's disk: fetched from several, kept while anybody needs them, whole again after damage."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from support.following import Rig, deployed, tried

from edged.core.catalogue import Catalogue, Pointer
from edged.daemon import bundles as bundles_module
from edged.daemon import fetching
from edged.daemon.bundles import MAX_UPLOADS, Bundles, write_whole
from edged.daemon.host import StartFailed
from edged_protocol.codec import pack


@pytest.fixture
async def rig(nursery: trio.Nursery, tmp_path: Path) -> Rig:
    rig = Rig(tmp_path)
    await nursery.start(rig.deployments.run)
    return rig


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


async def test_what_a_lost_peer_had_taken_is_had_from_the_others(rig: Rig) -> None:
    """A bundle of one part: whoever is lost while it gives that leaves it to who has nothing to do any more."""
    rig.peers.dead, rig.peers.others = {"n2"}, ["n3"]
    for version in range(1, 9):  # who takes the part is chance
        rig.tell(version, rig.make(str(version)))
        await rig.settled()
        assert rig.version == str(version)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a file": lambda dest: (dest / "f.py").write_text("y = 1"),
    "a file is gone": lambda dest: (dest / "f.py").unlink(),
    "all but the packed one": shutil.rmtree,
    "the packed one": lambda dest: dest.with_suffix(".bundle").write_bytes(b""),
    "the packed one is gone": lambda dest: dest.with_suffix(".bundle").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE)
async def test_a_damaged_bundle_is_mended(nursery: trio.Nursery, rig: Rig, damage: str) -> None:
    """After a power loss or on a bad disk: from the packed one, from a peer, or by the next deploy."""
    hash_ = await deployed(rig, "1")
    data, dest = rig.peers.bundles[hash_], rig.root / "data" / "functions" / hash_
    good = (dest / "f.py").read_text()
    DAMAGE[damage](dest)
    again = Rig(rig.root)
    again.peers.bundles = rig.peers.bundles
    await nursery.start(again.deployments.run)
    assert again.version == (None if damage.startswith("the packed one") else "1")
    again.deployments.told("n2", pack([list(pointer) for pointer in again.deployments.catalogue.all()]))
    await again.settled()
    assert again.version == "1"
    assert (dest / "f.py").read_text() == good and dest.with_suffix(".bundle").read_bytes() == data
    DAMAGE[damage](dest)
    rig.bundles.upload(hash_, 0, len(data), data)
    await rig.deployments.upload_deployed(hash_)
    assert (dest / "f.py").read_text() == good and dest.with_suffix(".bundle").read_bytes() == data


def test_uploads_that_nobody_finishes_block_nobody(tmp_path: Path) -> None:
    """However many uploads were left half-way, a new one is taken; the oldest of them begins anew."""
    bundles = Bundles(tmp_path)
    names = [f"{n:064x}" for n in range(MAX_UPLOADS + 1)]
    assert [bundles.upload(name, 0, 4, b"ab") for name in names] == [2] * len(names)
    assert bundles.upload(names[-1], 2, 4, b"cd") == 4
    assert bundles.upload(names[0], 2, 4, b"cd") == 0
