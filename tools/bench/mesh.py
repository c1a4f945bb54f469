"""Two nodes of edged for a measurement: `far` has the containers and the store, `near` has neither.

A call that enters at `far` takes the path client, daemon, container; one that enters at `near` takes client,
daemon, daemon, container: the lengths of the raw chains with one and with two relays.
"""

import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from generator import Line, Target
from processes import HERE, START_SECONDS, Children

from edged_protocol.bundle import bundle_hash, pack_directory
from edged_protocol.errors import CallError

FUNCTIONS = HERE.parents[1] / "configs" / "functions"
SLOTS = 96
"""One container for each of 64 local sessions, and the pools."""

PIECE = 256 * 1024
"""Bytes of a bundle in one frame."""

CONFIG = """[node]
name = "{name}"
data_dir = "{data}"

[listen]
address = "{address}"
admin = "{data}/admin.sock"

[mesh]
name = "bench"
discovery = ["static"]
seeds = {seeds}

[store]
url = "{store}"

[capacity]
containers = {containers}
"""

STARTER = {
    "function.toml": '[function]\nname = "starter"\nentry = "starter:fn"\n\n[pool]\nmin = 0\nmax = 1\n',
    "starter.py": '''"""Says which process it is, and ends that process when asked to."""

import os

from edged.sdk import Function, Session

fn = Function("starter", state=dict)


@fn.handler
def pid(s: Session) -> int:
    """This container's process."""
    return os.getpid()


@fn.handler
def quit(s: Session) -> None:
    """End the container, so that the next call needs a new one."""
    os._exit(0)
''',
}


class Node(NamedTuple):
    """A running node."""

    name: str
    address: str
    process: subprocess.Popen[bytes]


def start_pair(children: Children, root: Path) -> tuple[Node, Node]:
    """`far` and `near`, with echo, counter and starter deployed. Raises RuntimeError."""
    far = start_node(children, root, "far", "sqlite:", SLOTS, [])
    near = start_node(children, root, "near", "mesh:far", 0, [far.address])
    starter = root / "starter"
    starter.mkdir()
    for name, text in STARTER.items():
        (starter / name).write_text(text)
    with Line(far.address, "operator") as operator:
        for directory in (FUNCTIONS / "echo", FUNCTIONS / "counter", starter):
            deploy(operator, directory)
    until_answered(far, Target("echo", args=(1,)))
    until_answered(near, Target("echo", args=(1,)))
    return far, near


def start_node(
    children: Children, root: Path, name: str, store: str, containers: int, seeds: list[str]
) -> Node:
    """One node, up to its first greeting."""
    data = root / name
    data.mkdir()
    config, address = data / "edged.toml", free_address()
    config.write_text(
        CONFIG.format(
            name=name,
            data=data,
            address=address,
            seeds=json.dumps(seeds),
            store=store,
            containers=containers,
        )
    )
    command = [sys.executable, "-m", "edged.cli", "run", "--config", str(config)]
    process = children.start(command, log=root / f"{name}.log", pipes=False)
    stop = time.monotonic() + START_SECONDS
    while True:
        try:
            Line(address).close()
            return Node(name, address, process)
        except OSError:
            if process.poll() is not None or time.monotonic() > stop:
                log = (root / f"{name}.log").read_text(errors="replace")[-1500:]
                raise RuntimeError(f"node {name} did not start:\n{log}") from None
            time.sleep(0.02)


def free_address() -> str:
    """A loopback address nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return "{}:{}".format(*probe.getsockname())


def deploy(operator: Line, directory: Path) -> None:
    """Upload and deploy a function. Raises CallError."""
    data = pack_directory(directory)
    hash_ = bundle_hash(data)
    for offset in range(0, len(data), PIECE):
        params = {"hash": hash_, "offset": offset, "total": len(data)}
        operator.request("function.upload", params, data[offset : offset + PIECE])
    operator.request("function.deploy", {"hash": hash_})


def a_counter(root: Path, name: str, sharing: int) -> Path:
    """The counter under another name; so many of its local sessions share a container."""
    directory = root / name
    directory.mkdir()
    (directory / "counter.py").write_bytes((FUNCTIONS / "counter" / "counter.py").read_bytes())
    manifest = f'[function]\nname = "{name}"\nentry = "counter:fn"\n[modes]\nsessions_per_container = {sharing}\n'
    (directory / "function.toml").write_text(manifest)
    return directory


def until_answered(node: Node, target: Target) -> None:
    """Call until the mesh has settled. Raises CallError."""
    stop = time.monotonic() + START_SECONDS
    with Line(node.address) as line:
        while True:
            try:
                line.call(target)
                return
            except CallError:
                if time.monotonic() > stop:
                    raise
                time.sleep(0.05)


def localize(node: Node, targets: list[Target]) -> None:
    """Make these sessions local-state on `node`. Raises CallError."""
    with Line(node.address, "operator") as operator:
        for target in targets:
            key: dict[str, Any] = {"function": target.function, "session": target.session}
            operator.request("session.localize", key)
