"""Two nodes of one name, as from an image written to two cards: the second ends before it costs anybody anything."""

import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.counters import Device, a_counter, localized
from support.nodes import Nodes, deploy, edgectl, events, served_by, until
from support.redis_server import RedisServer

LEASE, LONG = "3s", "60s"
WAITS = "Nothing is taken over until the lease has run out"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    redis = RedisServer(tmp_path / "redis").start()
    yield redis
    redis.kill()


def counting(nodes: Nodes, root: Path, lease: str, store: str = "") -> Device:
    """n1, which runs nothing, and n2, which owns a session that saves each call; a device at n2."""
    nodes.start("n1", lease=lease, containers=0, store=store)
    nodes.start("n2", lease=lease, store=store)
    deploy(nodes.addresses["n1"], a_counter(root, "synced", 'local = "sync"'))
    served_by(nodes.addresses["n1"], "synced", 1)
    localized(nodes, "synced", "n2")
    device = Device(nodes.addresses["n2"], "synced")
    assert [device.incr() for _ in range(5)] == [1, 2, 3, 4, 5]
    return device


def copied(root: Path) -> None:
    """n2's disk, as it is while it runs."""
    shutil.copytree(root / "n2", root / "copy", ignore=shutil.ignore_patterns("*.sock"))


def nothing(root: Path) -> None:
    """Another machine with the same configuration, and a data directory of its own."""


def goes_on(device: Device, epoch: int) -> None:
    """As if nothing had been."""
    assert [device.incr() for _ in range(5)] == [6, 7, 8, 9, 10]
    assert (device.meta["node"], device.meta["mode"], device.epochs[-1]) == ("n2", "local", epoch)
    assert not device.codes


@pytest.mark.parametrize("disk", [nothing, copied])
def test_the_second_finds_the_first_over_the_mesh(nodes: Nodes, tmp_path: Path, disk: Callable[[Path], None]) -> None:
    """With a seed and a disk of its own, or a copy of the first one's: one line says who lives where, and nobody has noticed."""
    device = counting(nodes, tmp_path, LONG)
    epoch = device.epochs[-1]
    disk(tmp_path)
    assert nodes.start("copy", lease=LONG, seeds=[nodes.addresses["n1"]], called="n2", refused=True) == ""
    assert nodes.ended("copy") == 1
    line, *more = nodes.said("copy").strip().splitlines()
    assert not more
    assert f"another node is called n2: it answers at {nodes.addresses['n2']}; this one ends: give it a [node] name" in line
    goes_on(device, epoch)
    assert not [event for event in events(nodes.addresses["n1"]) if event[1] in ("peer.lost", "node.suspect", "node.down")]
    assert "another node calls itself" not in nodes.said("n1") + nodes.said("n2")
    device.close()


@pytest.mark.parametrize("disk", [nothing, copied])
def test_the_second_finds_the_first_by_its_lease(
    nodes: Nodes, tmp_path: Path, server: RedisServer, disk: Callable[[Path], None]
) -> None:
    """Without any network between the two but the store's: it waits, sees the lease renewed, and ends."""
    device = counting(nodes, tmp_path, LEASE, server.url)
    epoch = device.epochs[-1]
    disk(tmp_path)
    (tmp_path / "copy" / "peers").unlink(missing_ok=True)
    assert nodes.start("copy", lease=LEASE, store=server.url, seeds=[], called="n2", refused=True) == ""
    assert nodes.ended("copy") == 1
    assert "another node is called n2: its lease in the store is renewed; this one ends" in nodes.said("copy")
    assert WAITS in nodes.said("copy")
    assert "Traceback" not in nodes.said("copy")
    goes_on(device, epoch)
    device.close()


@pytest.mark.parametrize("kind", ["mesh", "redis"])
def test_the_second_starts_without_the_store_and_ends_with_it(
    nodes: Nodes, tmp_path: Path, server: RedisServer, kind: str
) -> None:
    """Nodes start while their store is away. Once it is back, the second one ends, and has taken nothing of the first one's,
    though its connection to the store's node takes the place of the other's for a moment."""
    store, seeds = server.url if kind == "redis" else "", list[str]()
    device = counting(nodes, tmp_path, LEASE, store)
    if kind == "redis":
        server.kill()
    else:
        nodes.signal("n1", signal.SIGSTOP)
        seeds = [nodes.addresses["n1"]]
    assert nodes.start("copy", lease=LEASE, store=store, seeds=seeds, called="n2")
    if kind == "redis":
        server.start()
    else:
        nodes.signal("n1", signal.SIGCONT)
    assert nodes.ended("copy") == 1
    assert "another node is called n2: its lease in the store is renewed; this one ends" in nodes.said("copy")
    assert "Traceback" not in nodes.said("copy")
    assert [device.incr() for _ in range(5)] == [6, 7, 8, 9, 10]
    assert device.meta["node"] == "n2"
    device.close()


@pytest.mark.parametrize("kind", ["mesh", "redis"])
def test_a_killed_node_comes_back_at_once(nodes: Nodes, tmp_path: Path, server: RedisServer, kind: str) -> None:
    """kill -9 and a start of the same directory: its own past is not waited for, and its session is there."""
    store = server.url if kind == "redis" else ""
    device = counting(nodes, tmp_path, LONG, store)
    for value in (6, 7):
        nodes.signal("n2", signal.SIGKILL)
        nodes.ended("n2")
        device.close()
        device = Device(nodes.start("n2", lease=LONG, store=store, seeds=[nodes.addresses["n1"]]), "synced")
        assert WAITS not in nodes.said("n2")
        served_by(nodes.addresses["n2"], "synced", 1)
        assert device.incr() == value
        until(lambda: edgectl(nodes.addresses["n2"], "session", "get", "synced/s")["mode"] == "local")
    device.close()


@pytest.mark.parametrize("kind", ["mesh", "redis"])
def test_a_wiped_directory_waits_for_the_lease(nodes: Nodes, tmp_path: Path, server: RedisServer, kind: str) -> None:
    """What it was is forgotten: it says that it waits, then has the name and all that was stored under it."""
    store = server.url if kind == "redis" else ""
    device = counting(nodes, tmp_path, LEASE, store)
    nodes.signal("n2", signal.SIGKILL)
    nodes.ended("n2")
    shutil.rmtree(tmp_path / "n2")
    device.close()
    device = Device(nodes.start("n2", lease=LEASE, store=store, seeds=[nodes.addresses["n1"]]), "synced")
    assert WAITS in nodes.said("n2")
    assert "nobody has renewed the lease of n2: the name is this node's" in nodes.said("n2")
    served_by(nodes.addresses["n2"], "synced", 1)
    assert device.incr() == 6
    device.close()


def test_a_start_that_waits_can_be_stopped(nodes: Nodes, tmp_path: Path) -> None:
    """SIGTERM in the wait: it ends, without an error, and has not served."""
    counting(nodes, tmp_path, LONG).close()
    nodes.signal("n2", signal.SIGKILL)
    nodes.ended("n2")
    shutil.rmtree(tmp_path / "n2")
    start = threading.Thread(target=nodes.start, args=["n2"], kwargs={"lease": LONG, "refused": True})
    start.start()
    until(lambda: WAITS in nodes.said("n2"))
    nodes.signal("n2", signal.SIGTERM)
    assert nodes.ended("n2") == 0
    start.join()
    assert nodes.addresses["n2"] == ""


@pytest.mark.parametrize("kind", ["mesh", "redis"])
def test_of_two_that_start_at_once_one_serves(nodes: Nodes, tmp_path: Path, server: RedisServer, kind: str) -> None:
    """Whichever: the other one ends with the line, and never says that it is ready."""
    store = server.url if kind == "redis" else ""
    seeds = [nodes.start("n1", store=store)]

    def begin(name: str) -> str:
        return nodes.start(name, lease=LEASE, store=store, seeds=seeds, called="n2", refused=True)

    with ThreadPoolExecutor(2) as both:
        addresses = dict(zip("ab", both.map(begin, "ab"), strict=True))
    (loser,) = [name for name, address in addresses.items() if not address]
    assert nodes.ended(loser) == 1
    assert "another node is called n2" in nodes.said(loser)
    assert "serves" not in nodes.said(loser)
    assert not nodes.ends_within(next(name for name in addresses if name != loser), 0)
