"""A running host with real containers, for tests; run by path it is a daemon that can be killed."""

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trio

from edged.core.manifest import parse_manifest
from edged.daemon.cgroups import Cgroups
from edged.daemon.host import Container, Host, Spec
from edged.sdk.launch import become_subreaper
from support.containers import PATIENCE, Peer, value_of

FUNCTIONS = Path(__file__).parent / "functions"
STATELESS = {"meta": None, "session": None, "call_id": None}
_PR_SET_CHILD_SUBREAPER = 36


def spec_of(path: Path) -> Spec:
    """The function in a directory, as if it had been deployed."""
    return Spec(parse_manifest((path / "function.toml").read_text()), f"hash-of-{path.name}", str(path))


HOSTILE = spec_of(FUNCTIONS / "hostile")


class Rig:
    """A running host, what was logged, and containers talked to from a thread."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, bytes]] = []
        self.host = Host(lambda *line: self.lines.append(line), Cgroups())
        self._peers: list[Peer] = []

    async def start(self, spec: Spec = HOSTILE, name: str = "c1") -> tuple[Container, Peer]:
        """A container that has said HELLO."""
        container = await self.host.start(spec, name)
        peer = await trio.to_thread.run_sync(Peer, container.sock)
        self._peers.append(peer)
        return container, peer

    async def zygote(self, spec: Spec = HOSTILE) -> int:
        """The pid of a running zygote."""
        await self.host.warm(spec)
        pid = self.host._zygotes[spec.hash].pid
        assert pid is not None
        return pid

    def printed(self, container: str) -> list[bytes]:
        """The lines of one container."""
        return [line for _, name, line in self.lines if name == container]

    def close(self) -> None:
        for peer in self._peers:
            peer.sock.close()


@contextmanager
def adopting() -> Iterator[None]:
    """Orphans below this process come to it, as they come to a daemon; afterwards to init again: here they would
    stay as zombies, of whatever a later test kills."""
    become_subreaper()
    try:
        yield
    finally:
        assert ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) == 0


async def in_thread(call: Callable[..., Any], *args: Any, **fields: Any) -> Any:
    """A blocking exchange with a container."""
    return await trio.to_thread.run_sync(lambda: call(*args, **fields), abandon_on_cancel=True)


async def told(peer: Peer, method: str, *args: Any) -> Any:
    """The value of a stateless call."""
    return value_of(await in_thread(peer.call, method, *args, **STATELESS))


async def status_of(container: Container) -> int | None:
    """How it ended, once it has."""
    with trio.fail_after(PATIENCE):
        return await container.wait()


def children() -> list[int]:
    """Children of this process, the dead ones that nobody reaped included."""
    found = []
    for path in Path("/proc/self/task").glob("*/children"):
        found += [int(pid) for pid in path.read_text().split()]
    return found


async def until(condition: Callable[[], bool]) -> None:
    """Wait for another process to get somewhere; a test that waits in vain fails."""
    with trio.fail_after(PATIENCE):
        while not condition():  # noqa: ASYNC110 - there is no event for what another process does
            await trio.sleep(0.005)


def gone(pid: int) -> bool:
    """Whether a process has ended and was reaped."""
    return not Path(f"/proc/{pid}").exists()


async def main() -> None:
    """Start a container that loops for ever, print its pid, its zygote's and those of what it left behind, wait to be killed; or
    import another function."""
    rig = Rig()
    async with trio.open_nursery() as nursery:
        await nursery.start(rig.host.run)
        if sys.argv[1:]:
            await rig.host.warm(spec_of(Path(sys.argv[1])))
        container, peer = await rig.start()
        eloped = await told(peer, "elope")
        peer.send(peer.invoke("spin", meta=None, session=None, call_id=None))
        print(container.pid, await rig.zygote(), *eloped)
        sys.stdout.flush()
        await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(main)
