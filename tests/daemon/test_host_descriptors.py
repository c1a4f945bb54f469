"""The descriptors of a daemon: none leak with its containers, and without any a start fails in words."""

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.hosts import HOSTILE, Rig, status_of, told, until

from edged.daemon.host import StartFailed


def descriptors() -> set[int]:
    """What this process has open."""
    return {int(path.name) for path in Path("/proc/self/fd").iterdir()}


@contextlib.contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """This process may open so many more, and no others."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(descriptors())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1 + count, limits[1]))
    taken: list[int] = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        for fd in taken[-count:] if count else ():
            os.close(fd)
        del taken[len(taken) - count :]
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for fd in taken:
            os.close(fd)


@pytest.mark.parametrize("left", [0, 2, 4])
async def test_without_descriptors_no_container_starts_and_nothing_else_happens(rig: Rig, left: int) -> None:
    """None for its socket, for its log, for its process: the start fails in words, nobody is left, and the next one works."""
    zygote = await rig.zygote()
    before = descriptors()
    with descriptors_left(left), pytest.raises(StartFailed, match="no descriptors"):
        await rig.host.start(HOSTILE, "c1")
    assert descriptors() == before
    await until(lambda: Path(f"/proc/{zygote}/task/{zygote}/children").read_text() == "")
    _, peer = await rig.start(name="c2")
    assert await told(peer, "call", "still") == "still"
    assert await rig.zygote() == zygote


async def test_a_zygote_without_descriptors_is_a_failed_start(rig: Rig) -> None:
    """The first start of a version says why it cannot be; a later one works."""
    with descriptors_left(1), pytest.raises(StartFailed, match="Too many open files"):
        await rig.host.warm(HOSTILE)
    _, peer = await rig.start()
    assert await told(peer, "call", "now") == "now"


async def test_no_descriptor_leaks(rig: Rig) -> None:
    """After fifty containers were started and killed the daemon has as many descriptors as before."""

    async def cycle(number: int) -> None:
        container = await rig.host.start(HOSTILE, f"c{number}")
        container.kill()
        container.sock.close()
        await status_of(container)

    await cycle(0)
    before = descriptors()
    for number in range(50):
        await cycle(number)
    assert descriptors() == before
