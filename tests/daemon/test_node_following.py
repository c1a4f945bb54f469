"""What a node runs follows what it is told: by operators, by peers, and after something went wrong."""

import errno
import os
from pathlib import Path

import pytest
import trio
import trio.testing
from support.following import Rig, tried

from edged.daemon import bundles, deployments
from edged.daemon.host import StartFailed
from edged_protocol.codec import pack
from edged_protocol.errors import CallError, Code


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
    with trio.fail_after(60):
        while rig.version is None:  # noqa: ASYNC110 - what is waited for tells nobody
            await trio.sleep(0.001)
    rig.peers.held[old].set()
    await rig.settled()
    assert rig.version == "2"
    assert rig.deployments.catalogue.deployed()["f"].hash == new


@pytest.mark.parametrize("removed", [False, True])
async def test_an_older_version_whose_import_ends_last_is_not_served(rig: Rig, removed: bool) -> None:
    """What was deployed, or removed, while it was imported stays, here and in the accounts of what was followed."""
    rig.workers.slow = imported = trio.Event()
    rig.tell(1, rig.make("1"))
    await tried(rig, 1)
    rig.workers.slow = None
    rig.tell(2, "" if removed else rig.make("2"))
    with trio.fail_after(60):
        while rig.deployments.followed != {"f": 2}:  # noqa: ASYNC110 - ends after a few looks
            await trio.sleep(0.001)
    imported.set()
    await rig.settled()
    assert (rig.version, rig.deployments.followed) == (None if removed else "2", {"f": 2})


async def test_an_operator_has_the_last_word_over_what_came_during_the_import(rig: Rig) -> None:
    """Its version counts from what is known when the import is through; a canary of what is gone by then is refused."""
    stable, rival, canary = rig.make("1"), rig.make("2"), rig.make("3")
    for hash_ in (stable, canary):
        rig.bundles.upload(hash_, 0, len(rig.peers.bundles[hash_]), rig.peers.bundles[hash_])
    rig.workers.slow = imported = trio.Event()
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.deployments.upload_deployed, stable)
            await tried(rig, 1)
            rig.workers.slow = None
            rig.tell(5, rival)
            await rig.settled()
            assert rig.version == "2"
            imported.set()
    pointer = rig.deployments.catalogue.get("f")
    assert (rig.version, pointer and pointer.version, rig.deployments.followed) == ("1", 6, {"f": 6})
    rig.workers.slow = imported = trio.Event()
    with trio.fail_after(60), pytest.RaisesGroup(pytest.RaisesExc(CallError, check=lambda error: error.code == Code.CONFLICT)):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.deployments.upload_deployed, canary, 10)
            await tried(rig, 4)
            rig.workers.slow = None
            rig.tell(7, rival)
            await rig.settled()
            imported.set()
    assert (rig.version, rig.workers.canary) == ("2", (None, 0))
    assert canary in rig.workers.retired


async def test_a_version_deployed_again_while_it_is_fetched_is_served(rig: Rig) -> None:
    """The newer pointer names what the older one is fetching: the older one is served no more, and the newer one waits for it."""
    hash_ = rig.make("1")
    rig.peers.held[hash_] = trio.Event()
    rig.tell(1, hash_)
    await trio.testing.wait_all_tasks_blocked()
    rig.tell(2, hash_)
    await trio.testing.wait_all_tasks_blocked()
    rig.peers.held[hash_].set()
    await rig.settled()
    assert (rig.version, rig.deployments.followed) == ("1", {"f": 2})


async def test_a_disk_that_is_full_while_a_bundle_comes_is_waited_for(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is one line in the log, and tried again although the pointer is no news by then."""
    monkeypatch.setattr(deployments, "FIRST_AGAIN", 0.01)
    full, whole = True, bundles.write_whole

    def write(path: Path, data: bytes) -> None:
        if full and path.parent.suffix == ".parts":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        whole(path, data)

    monkeypatch.setattr(bundles, "write_whole", write)
    rig.peers.others = ["n3"]
    rig.tell(1, rig.make("1"))
    with trio.fail_after(60):
        while "No space left" not in caplog.text:  # noqa: ASYNC110 - ends after a few looks
            await trio.sleep(0.001)
    full = False
    await rig.settled()
    assert rig.version == "1"
    assert all(record.exc_info is None for record in caplog.records)


@pytest.mark.parametrize("odd", ["damaged", "no thread"])
async def test_what_nobody_foresaw_is_tried_again(rig: Rig, monkeypatch: pytest.MonkeyPatch, odd: str) -> None:
    """A peer's disk gave other bytes, this machine had no thread to give: the pointer is no news by then, the fault may be over."""
    monkeypatch.setattr(deployments, "FIRST_AGAIN", 0.01)
    hash_ = rig.make("1")
    right, whole, failed = rig.peers.bundles[hash_], bundles.write_whole, trio.Event()

    def write(path: Path, data: bytes) -> None:
        if odd == "no thread" and not failed.is_set():
            trio.from_thread.run_sync(failed.set)
            raise RuntimeError("can't start new thread")
        whole(path, data)

    monkeypatch.setattr(bundles, "write_whole", write)
    if odd == "damaged":
        rig.peers.bundles[hash_] = right[:-1] + bytes([right[-1] ^ 1])
    rig.tell(1, hash_)
    with trio.fail_after(60):
        while not rig.peers.told:  # noqa: ASYNC110 - ends after a few looks
            await trio.sleep(0.001)
    assert rig.version is None
    rig.peers.bundles[hash_] = right
    await rig.settled()
    assert rig.version == "1"


async def test_a_removal_is_followed_and_so_is_a_deployment_after_it(rig: Rig) -> None:
    """An empty hash ends the function here; a higher version brings it back."""
    hash_ = rig.make("1")
    for version, said, runs in ((1, hash_, "1"), (2, "", None), (3, hash_, "1")):
        rig.tell(version, said)
        await rig.settled()
        assert rig.version == runs


async def test_a_peers_nonsense_costs_itself_only(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What is no pointer is not passed on, a bundle that is not what its hash says is not installed."""
    right = ["f", 1, "n2", "0" * 64]
    wrong = [(0, "F"), (0, 7), (1, "1"), (1, -1), (1, 2**63), (2, ""), (3, "../../etc"), (3, None)]
    rows = [[value if n == at else item for n, item in enumerate(right)] for at, value in wrong]
    whole = [*right, "1" * 64, 10, ""]
    odd = [[*whole[:at], value, *whole[at + 1 :]] for at, value in ((4, "7"), (5, 0), (5, 100), (6, "x"))]
    rig.deployments.told("n2", pack(["x", [], right[:3], None, *rows, *odd]))
    assert rig.deployments.catalogue.all() == []
    monkeypatch.setattr(deployments, "FIRST_AGAIN", 0.01)
    rig.peers.bundles["0" * 64] = b"something else"
    rig.tell(1, "0" * 64)
    with trio.fail_after(60):
        while "do not have its hash" not in caplog.text:  # noqa: ASYNC110 - ends after a few looks
            await trio.sleep(0.001)
    assert rig.version is None
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

    with trio.fail_after(60):
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


async def test_a_version_that_this_node_never_had_is_fetched_when_an_operator_goes_back_to_it(rig: Rig) -> None:
    """It came when the next one was deployed already; with nobody to give it the rollback is refused, and nothing has changed."""
    old, new = rig.make("1"), rig.make("2")
    rig.deployments.told("n2", pack([["f", 2, "n2", new, "", 0, old]]))
    await rig.settled()
    pointer = rig.deployments.catalogue.get("f")
    assert pointer is not None
    rig.peers.lost = True
    with pytest.raises(CallError, match="n2 was lost") as refused:
        await rig.deployments.roll_back(pointer)
    assert (refused.value.code, rig.version, rig.deployments.catalogue.get("f")) == (Code.NO_CAPACITY, "2", pointer)
    rig.peers.lost = False
    await rig.deployments.roll_back(pointer)
    assert (rig.version, rig.deployments.followed) == ("1", {"f": 3})


async def test_a_canary_is_served_beside_the_version_it_may_replace(rig: Rig) -> None:
    """Both bundles of a pointer are fetched and served; without the canary the other serves alone."""
    old, new = rig.make("1"), rig.make("2")
    rig.deployments.told("n2", pack([["f", 2, "n2", old, new, 10, ""]]))
    await rig.settled()
    assert (rig.version, rig.workers.canary) == ("1", ("2", 10))
    rig.deployments.told("n2", pack([["f", 3, "n2", old, "", 0, ""]]))
    await rig.settled()
    assert (rig.version, rig.workers.canary) == ("1", (None, 0))


async def test_a_catalogue_that_cannot_be_written_is_as_before(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was deployed serves on, or nothing; nobody was told, and the next deploy is one version higher all the same."""

    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    specs = []
    for version in ("1", "2"):
        hash_ = rig.make(version)
        data = rig.peers.bundles[hash_]
        rig.bundles.upload(hash_, 0, len(data), data)
        specs.append(await rig.bundles.install(hash_))
    with monkeypatch.context() as patch:
        patch.setattr(bundles, "write_whole", full)
        with pytest.raises(OSError, match="No space"):
            await rig.deployments.deploy(specs[0])
    assert (rig.version, rig.deployments.catalogue.get("f"), rig.peers.told) == (None, None, 0)
    await rig.deployments.deploy(specs[0])
    told = rig.peers.told
    with monkeypatch.context() as patch:
        patch.setattr(bundles, "write_whole", full)
        with pytest.raises(OSError, match="No space"):
            await rig.deployments.deploy(specs[1])
    pointer = rig.deployments.catalogue.get("f")
    assert pointer is not None
    assert (rig.version, pointer.hash, rig.peers.told) == ("1", specs[0].hash, told)
    await rig.deployments.deploy(specs[1])
    assert rig.version == "2"
