"""Clients that come in numbers, vanish or are killed, and containers with them: the others are served on."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest
from support.attacked import (
    EDGED,
    FUNCTIONS,
    HELLO,
    Node,
    dialled,
    limited,
    received,
    wait_for,
    witness,
)
from support.wire_client import WireClient

from edged_protocol.blocking import connect
from edged_protocol.errors import CallError

CALLER = """
import sys
from edged_protocol.blocking import connect
with connect([sys.argv[1]], name="victim") as mesh:
    sys.stdout.write("go\\n"); sys.stdout.flush()
    while True:
        for pending in [mesh.session("counter", f"v{n}").start("incr", 1) for n in range(20)]:
            pending.result()
"""


def test_clients_and_containers_killed_at_any_time(node: Node) -> None:
    """Twenty clients and twenty containers die by SIGKILL in mid-call; acknowledged calls count once.

    Each round has a session of its own: where more calls went before than a session remembers, a call
    that may have run is answered 404, which is not what is tested here.
    """
    dice = random.Random(7)
    with witness(node), connect([node.address], name="counts") as mesh:
        for turn in range(20):
            with victim(node) as process:
                session = mesh.session("counter", f"exact-{turn}")
                pending = [session.start("incr", 1, timeout=20) for _ in range(20)]
                time.sleep(dice.random() * 0.05)
                process.kill()
                if alive := node.containers():
                    with suppress(ProcessLookupError):
                        os.kill(dice.choice(alive), signal.SIGKILL)
                assert {one.result() for one in pending} == set(range(1, 21))
                assert session.call("get") == 20


@contextmanager
def victim(node: Node) -> Iterator[subprocess.Popen[bytes]]:
    """A client process in the middle of its calls."""
    process = subprocess.Popen([sys.executable, "-c", CALLER, node.address], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"go\n"
        yield process
        process.stdout.close()
    finally:
        process.kill()
        process.wait()


def test_a_thousand_idle_connections_cost_little(node: Node) -> None:
    """At most 50 KB each; closed, they leave nothing behind."""
    with witness(node):
        descriptors, before = node.descriptors, node.rss
        socks = [dialled(node) for _ in range(1000)]
        grown = node.rss - before
        for sock in socks:
            sock.close()
        wait_for(lambda: node.descriptors <= descriptors + 5, "all of them are closed")
    assert grown < 1000 * 50_000


def test_callers_that_hang_up_at_once(node: Node) -> None:
    """Two thousand connections without a word leave no descriptor behind."""
    host, port = node.address.rsplit(":", 1)
    with witness(node):
        before = node.descriptors
        for _ in range(2000):
            socket.create_connection((host, int(port)), timeout=60).close()
        wait_for(lambda: node.descriptors <= before + 5, "all of them are closed")


def test_more_clients_than_descriptors(tmp_path: Path) -> None:
    """One too many is told so; those who are in are served, operators get in, containers start."""
    node = Node(tmp_path, descriptors=256)
    try:
        with witness(node) as served, ExitStack() as stack:
            wait_for(served, "the witness is in")
            words = []
            for _ in range(250):
                sock = stack.enter_context(closing(dialled(node, greeted=False)))
                sock.sendall(HELLO)
                words.append(received(sock)[:2])
            admitted = [word for word in words if word[0] == 2]
            assert 100 <= len(admitted) <= 128
            assert words.count([3, "full"]) == len(words) - len(admitted)
            with closing(WireClient(node.address, "operator")) as operator:
                assert operator.request("node.status", {})["connections"] > len(admitted)
                operator.deploy(FUNCTIONS / "adas")
            stack.close()
            wait_for(lambda: node.descriptors < 100, "those who went are gone")
            with closing(dialled(node)):
                pass
    finally:
        node.stop()


def test_too_few_descriptors_to_work_with(tmp_path: Path) -> None:
    """The node says so and does not start."""
    config = tmp_path / "edged.toml"
    config.write_text(f'[node]\nname = "n"\ndata_dir = "{tmp_path}"\n[listen]\naddress = "127.0.0.1:0"\n')
    command = [*limited(255), *EDGED, "run", "--config", str(config)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "needs 256 file descriptors and may have 255" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_container_that_ends_at_once(node: Node, tmp_path: Path) -> None:
    """Its function's calls are told at once that they did not run, and where to look."""
    (tmp_path / "function.toml").write_text('[function]\nname = "gone"\nentry = "gone.sh"\nruntime = "exec"\n')
    program = tmp_path / "gone.sh"
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    with witness(node), closing(WireClient(node.address, "operator")) as operator:
        operator.deploy(tmp_path)
        for session in (None, "s"):
            with pytest.raises(CallError, match="edgectl logs gone") as caught:
                operator.once("gone", session, "m", timeout_ms=20_000)
            assert caught.value.code == 104
