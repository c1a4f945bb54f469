"""A running host with real containers, for tests; run by path it is a daemon that can be killed."""

import sys
from pathlib import Path

import trio

from edged.core.manifest import parse_manifest
from edged.daemon.cgroups import Cgroups
from edged.daemon.host import Container, Host, Spec
from support.containers import Peer

FUNCTIONS = Path(__file__).parent / "functions"


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


async def main() -> None:
    """Start a container that loops for ever, print its pid and its zygote's, wait to be killed; or import another function."""
    rig = Rig()
    async with trio.open_nursery() as nursery:
        await nursery.start(rig.host.run)
        if sys.argv[1:]:
            await rig.host.warm(spec_of(Path(sys.argv[1])))
        container, peer = await rig.start()
        peer.send(peer.invoke("spin", meta=None, session=None, call_id=None))
        sys.stdout.write(f"{container.pid} {await rig.zygote()}\n")
        sys.stdout.flush()
        await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(main)
