"""The demo's processes: a "cloud" that serves the state store, and edge nodes that reach it through the proxy.

Decides names, configuration files and the order of ending: the edge nodes first, since they save their
sessions through the line, then the cloud. Refuses to know what the mesh is used for.
"""

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import trio

START_SECONDS = 30.0
"""For one node to serve; a Pi needs about three."""

STOP_SECONDS = 12.0
"""After SIGTERM; a node takes up to ten to finish. Then SIGKILL."""

LOG_TAIL = 25
"""Lines of a node's log that are shown when it fails."""

CONFIG = """[node]
name = "{name}"
data_dir = "{data}"

[listen]
address = "{address}"
advertise = "{advertise}"
admin = "{data}/admin.sock"

[mesh]
name = "demo"
discovery = ["static"]
seeds = {seeds}

[store]
url = "{store}"

[capacity]
containers = {containers}
"""

SLOTS = 24
"""Containers of an edge node; the fleet needs its two pools and two sessions of their own."""

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


class NodeFailed(Exception):
    """A node did not start, or ended by itself; says why, with the end of its log."""


class Node(NamedTuple):
    """A running node."""

    name: str
    address: str
    admin: str
    process: subprocess.Popen[bytes]
    pidfd: int
    log: Path


def _end_with_parent() -> None:
    """In the child: not even SIGKILL of the demo leaves it behind (Linux)."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def free_port() -> int:
    """A loopback port nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class Nodes:
    """`start_cloud`, `start_edge`; `stop` ends all of them, whatever happened."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.running: list[Node] = []

    async def start_cloud(self, port: int, advertise: str) -> Node:
        """The node with the store and no containers. Raises NodeFailed."""
        settings = {"store": "sqlite:", "containers": 0, "seeds": "[]"}
        return await self._start("cloud", f"127.0.0.1:{port}", advertise, settings)

    async def start_edge(self, name: str, cloud: str) -> Node:
        """A node whose store is the cloud's, at address `cloud`. Raises NodeFailed."""
        seeds = [cloud, *(node.address for node in self.running if node.name != "cloud")]
        settings = {"store": "mesh:cloud", "containers": SLOTS, "seeds": json.dumps(seeds)}
        return await self._start(name, "127.0.0.1:0", "", settings)

    async def _start(
        self, name: str, address: str, advertise: str, settings: dict[str, object]
    ) -> Node:
        data = self._root / name
        data.mkdir()
        config = data / "edged.toml"
        places = {"name": name, "data": data, "address": address, "advertise": advertise}
        config.write_text(CONFIG.format(**places, **settings))
        ready, node = self._spawn(name, config)
        self.running.append(node)
        said = b""
        with trio.move_on_after(START_SECONDS):
            async with trio.lowlevel.FdStream(ready) as stream:
                async for data_said in stream:
                    said += data_said
        lines = said.decode().splitlines()
        if len(lines) < 2:
            raise NodeFailed(f"{name} did not start\n{tail(node)}")
        self.running[-1] = node = node._replace(address=lines[0], admin=lines[1])
        return node

    def _spawn(self, name: str, config: Path) -> tuple[int, Node]:
        """The process, and the pipe on which it says that it serves.

        From this thread, not trio's: the kernel ends the child when the *thread* that made it ends.
        """
        log = self._root / f"{name}.log"
        read_end, write_end = os.pipe()
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "edged.cli", "run", "--config", str(config)],
                env={**os.environ, "EDGED_READY_FD": str(write_end)},
                pass_fds=[write_end],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
        os.close(write_end)
        return read_end, Node(name, "", "", process, os.pidfd_open(process.pid), log)

    async def watch(self) -> None:
        """Return never; raises NodeFailed when a node ends by itself."""
        async with trio.open_nursery() as nursery:
            for node in self.running:
                nursery.start_soon(self._watch_one, node)

    async def _watch_one(self, node: Node) -> None:
        await trio.lowlevel.wait_readable(node.pidfd)
        raise NodeFailed(f"{node.name} ended by itself ({node.process.poll()})\n{tail(node)}")

    async def stop(self) -> None:
        """End the edge nodes, then the cloud, all within twice STOP_SECONDS."""
        edges = [node for node in self.running if node.name != "cloud"]
        for group in (edges, [node for node in self.running if node.name == "cloud"]):
            for node in group:
                node.process.terminate()
            with trio.move_on_after(STOP_SECONDS):
                for node in group:
                    await trio.lowlevel.wait_readable(node.pidfd)
        self._end()

    def hurry(self) -> None:
        """End at once whatever is left; containers end with their node."""
        for node in self.running:
            node.process.kill()

    def _end(self) -> None:
        self.hurry()
        for node in self.running:
            node.process.wait()
            os.close(node.pidfd)
        self.running.clear()


def tail(node: Node) -> str:
    """The end of a node's log."""
    lines = node.log.read_text(errors="replace").splitlines()[-LOG_TAIL:]
    return "\n".join([f"  the end of {node.name}'s log:", *(f"  | {line}" for line in lines)])
