"""One real node that a test attacks, bytes to do it with, and a witness that must notice nothing."""

import os
import random
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import msgpack

from edged_protocol import messages as m
from edged_protocol.codec import encode
from support.wire_client import WireClient

FUNCTIONS = Path(__file__).parents[2] / "configs" / "functions"
EDGED = [sys.executable, "-m", "edged.cli"]
MIB = 1 << 20
FLAT = 48 * MIB
"""What a daemon may grow while it is attacked: a few connections' bounds, far below what is sent at it."""

HELLO = encode(m.Hello({"proto": 1, "role": "device", "name": "bad"}))


class Node:
    """One real node with counter and echo."""

    def __init__(self, directory: Path, descriptors: int | None = None) -> None:
        config = directory / "edged.toml"
        config.write_text(
            f'[node]\nname = "alone"\ndata_dir = "{directory}/data"\n'
            f'[listen]\naddress = "127.0.0.1:0"\nadmin = "{directory}/admin.sock"\n'
        )
        read, write = os.pipe()
        self.process = subprocess.Popen(
            [*limited(descriptors), *EDGED, "run", "--config", str(config)],
            env={**os.environ, "EDGED_READY_FD": str(write)},
            pass_fds=[write],
            start_new_session=True,
        )
        os.close(write)
        with os.fdopen(read) as ready:
            self.address = ready.readline().strip()
        with closing(WireClient(self.address, "operator")) as operator:
            for name in ("counter", "echo"):
                operator.deploy(FUNCTIONS / name)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def rss(self) -> int:
        """Resident bytes of the daemon itself."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize()

    @property
    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def containers(self) -> list[int]:
        """The processes below the daemon's zygotes."""
        return [pid for zygote in children(self.pid) for pid in children(zygote)]

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) == 0


def limited(descriptors: int | None) -> list[str]:
    """The command in front that lets a process have only so many."""
    return [] if descriptors is None else ["prlimit", f"--nofile={descriptors}"]


def children(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(FileNotFoundError, ProcessLookupError):
        for task in os.listdir(f"/proc/{pid}/task"):
            text = Path(f"/proc/{pid}/task/{task}/children").read_text()
            found += [int(word) for word in text.split()]
    return found


@contextmanager
def witness(node: Node) -> Iterator[Callable[[], int]]:
    """A good client on one connection that is never lost; yields its count of calls so far."""
    ended = threading.Event()
    failures: list[BaseException] = []
    session = f"witness-{random.randrange(1 << 60):x}"
    counted = 0

    def work() -> None:
        nonlocal counted
        try:
            with closing(WireClient(node.address)) as client:
                while not ended.is_set():
                    # A hundred calls each: less than a session remembers, so a repeat is never 404.
                    key = f"{session}-{counted // 100}"
                    assert client.call("counter", key, "incr", 1) == counted % 100 + 1
                    counted += 1
        except BaseException as error:  # noqa: BLE001 - told by the test below
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield lambda: counted
        before = counted
        wait_for(lambda: counted > before + 5 or failures, "the witness is served on")
    finally:
        ended.set()
        thread.join(60)
    assert not failures, failures


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"never happened: {what}"
        time.sleep(0.01)


def dialled(node: Node, *, greeted: bool = True) -> socket.socket:
    host, port = node.address.rsplit(":", 1)
    sock = socket.create_connection((host, int(port)), timeout=60)
    if greeted:
        sock.sendall(HELLO)
        assert received(sock)[0] == 2
    return sock


def read_to_end(sock: socket.socket) -> bytes:
    """Everything until the node closes, but for PINGs of one that was without a processor for a second."""
    data = b""
    with suppress(ConnectionError):
        while piece := sock.recv(65536):
            data += piece
    while data[4:6] == b"\x92\x04":
        data = data[4 + int.from_bytes(data[:4]) :]
    return data


def received(sock: socket.socket) -> list[Any]:
    """The next message; a PING, as above, is answered."""
    while True:
        (length,) = struct.unpack(">I", sock.recv(4, socket.MSG_WAITALL))
        message: list[Any] = msgpack.unpackb(sock.recv(length, socket.MSG_WAITALL))
        if message[0] != 4:
            return message
        sock.sendall(encode(m.Pong(message[1])))


def frame(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data
