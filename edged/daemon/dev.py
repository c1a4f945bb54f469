"""`edged dev`: a mesh of real processes on loopback, with nothing to configure (DESIGN §9)."""

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from .signals import ends_by

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)

START_SECONDS = 20.0
"""For one node to serve; a Pi needs about three."""

STOP_SECONDS = 15.0
"""After SIGTERM, somewhat more than a node allows itself; then SIGKILL."""

CONFIG = """[node]
name = "{name}"
data_dir = "{data}"

[listen]
address = "127.0.0.1:{port}"
admin = "{data}/admin.sock"
http = "127.0.0.1:0"

[mesh]
name = "dev"
discovery = ["static"]
seeds = {seeds}

[store]
url = "{store}"

[capacity]
containers = {containers}
"""


def run_mesh(count: int, data_dir: Path | None, containers: int) -> int:
    """Start the nodes, print where they are, wait for a signal, stop them."""
    for number in ends_by():
        signal.signal(number, _interrupt)  # a script that starts it behind itself has SIGINT ignored
    with tempfile.TemporaryDirectory(prefix="edged-dev-") as fresh:
        root = data_dir or Path(fresh)
        nodes: list[tuple[subprocess.Popen[bytes], dict[str, Any]]] = []
        try:
            for index in range(count):
                seeds = [row["address"] for _, row in nodes]
                nodes.append(_start(index, root, seeds, containers))
            print(json.dumps({"nodes": [row for _, row in nodes]}), flush=True)
            return _wait([process for process, _ in nodes])
        except KeyboardInterrupt:
            return 0
        except RuntimeError as error:
            print(f"edged dev: {error}", file=sys.stderr)
            return 1
        finally:
            _stop([process for process, _ in nodes])


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _start(
    index: int, root: Path, seeds: list[str], containers: int
) -> tuple[subprocess.Popen[bytes], dict[str, Any]]:
    name = f"dev-{index + 1}"
    data = (root / name).absolute()
    data.mkdir(parents=True, exist_ok=True)
    config = data / "edged.toml"
    config.write_text(
        CONFIG.format(
            name=name,
            data=data,
            port=_free_port(),
            seeds=json.dumps(seeds),
            store="sqlite:" if index == 0 else "mesh:dev-1",
            containers=containers,
        )
    )
    read_end, write_end = os.pipe()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "edged.cli", "run", "--config", str(config)],
            env={**os.environ, "EDGED_READY_FD": str(write_end)},
            pass_fds=[write_end],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_end_with_parent,  # noqa: PLW1509 - this process has one thread
        )
    finally:
        os.close(write_end)
    with os.fdopen(read_end) as ready:
        said = ready.read().split("\n")
    if len(said) < 4:
        raise RuntimeError(f"{name} did not start (exit {process.wait(START_SECONDS)})")
    row = {"name": name, "address": said[0], "admin": said[1], "http": said[2], "pid": process.pid}
    return process, row


def _end_with_parent() -> None:
    """In the node's process before it begins: SIGTERM when this one is killed, so that no mesh stays that nobody knows of."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _wait(processes: list[subprocess.Popen[bytes]]) -> int:
    """Until a signal; a node that ends by itself is reported, the others serve on."""
    left = {process.pid: process for process in processes}
    while left:
        pid, status = os.waitpid(-1, 0)
        process = left.pop(pid, None)
        if process is not None:
            process.returncode = os.waitstatus_to_exitcode(status)
            print(f"edged dev: node with pid {pid} ended ({process.returncode})", file=sys.stderr)
    return 1


def _stop(processes: list[subprocess.Popen[bytes]]) -> None:
    """The first serves the store, in which the others save their sessions: it goes last."""
    for number in ends_by():
        signal.signal(number, signal.SIG_IGN)  # impatience must not leave nodes behind
    _end(processes[1:])
    _end(processes[:1])


def _end(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        if process.poll() is None:
            process.terminate()
    for process in processes:
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
