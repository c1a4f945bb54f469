"""Clients that misbehave or die: each loses its own connection, and a witness notices nothing."""

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
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import msgpack
import pytest
from support.wire_client import WireClient

from edged_protocol import messages as m
from edged_protocol.blocking import connect
from edged_protocol.codec import encode, encode_invoke, pack
from edged_protocol.errors import CallError

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


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    node = Node(tmp_path_factory.mktemp("hostile"))
    yield node
    node.stop()


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
    """Everything until the node closes."""
    data = b""
    with suppress(ConnectionError):
        while piece := sock.recv(65536):
            data += piece
    return data


def received(sock: socket.socket) -> list[Any]:
    """The next message."""
    (length,) = struct.unpack(">I", sock.recv(4, socket.MSG_WAITALL))
    message: list[Any] = msgpack.unpackb(sock.recv(length, socket.MSG_WAITALL))
    return message


def frame(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def test_a_client_that_never_reads_is_cut(node: Node) -> None:
    """Its large answers are held up to a bound, then its connection ends; memory stays flat."""
    body = pack(["x" * 500_000])
    call = encode_invoke(1, "echo", None, "", None, 20_000, body)
    with witness(node), closing(dialled(node)) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        before = node.rss
        with pytest.raises(ConnectionError):
            for _ in range(2_000):  # a gigabyte
                sock.sendall(call)
        assert node.rss - before < FLAT


@pytest.mark.parametrize("greeted", [False, True])
def test_an_announced_frame_of_four_gigabytes(node: Node, greeted: bool) -> None:
    """Its length alone ends the connection, with GOAWAY, before any of it is kept."""
    before = node.rss
    with witness(node), closing(dialled(node, greeted=greeted)) as sock:
        sock.sendall(b"\xff\xff\xff\xff")
        answer = read_to_end(sock)
    assert msgpack.unpackb(answer[4:])[:2] == [3, "frame_too_large"]
    assert node.rss - before < FLAT


NESTED = b"\x91" * 100_000 + b"\xc0"


@pytest.mark.parametrize("greeted", [False, True])
@pytest.mark.parametrize(
    "data",
    [
        NESTED,
        b"\xdd\x00\x0f\x42\x40" + b"\x90" * 1_000_000,
        b"\xdf\x00\x01\x86\xa0" + b"".join(pack(n) + b"\xc0" for n in range(100_000)),
        b"\x92\x10" + NESTED,
    ],
    ids=["nested", "million-arrays", "large-map", "nested-field"],
)
def test_frames_that_blow_up_when_decoded(node: Node, data: bytes, greeted: bool) -> None:
    """A frame made to cost its reader stack or memory ends its own connection."""
    before = node.rss
    with witness(node), closing(dialled(node, greeted=greeted)) as sock:
        with suppress(ConnectionError):
            sock.sendall(frame(data))
        answer = read_to_end(sock)
    if answer:  # a reset may have overtaken it
        assert msgpack.unpackb(answer[4:])[0] == 3
    assert node.rss - before < FLAT


def test_a_nested_body_is_the_functions_own_affair(node: Node) -> None:
    """Bodies are opaque: the container refuses what it cannot decode, its connection goes on."""
    with witness(node), closing(dialled(node)) as sock:
        sock.sendall(encode_invoke(1, "echo", None, "", None, 5_000, NESTED))
        assert received(sock)[:3] == [18, 1, 201]
        sock.sendall(encode_invoke(2, "echo", None, "", None, 5_000, pack(["fine"])))
        assert received(sock)[:2] == [17, 2]


def test_one_byte_a_second(node: Node) -> None:
    """A greeting that dribbles in is cut before it is whole; a call that dribbles in holds nobody up."""
    with witness(node), closing(dialled(node, greeted=False)) as slow, closing(dialled(node)) as late:
        slow.settimeout(1)
        with suppress(ConnectionError):
            for n in range(len(HELLO) - 1):
                slow.sendall(HELLO[n : n + 1])
                late.sendall(frame(b"\x00" * 99)[n : n + 1])
                with suppress(TimeoutError):
                    slow.recv(1, socket.MSG_PEEK)
                    break
            else:
                pytest.fail("nobody minds how long it takes")
        answer = read_to_end(slow)
    assert not answer or msgpack.unpackb(answer[4:])[0] == 3


@pytest.mark.parametrize(
    ("sent", "reply"),
    [
        (HELLO, [3]),
        (encode(m.Cancel(77)), []),
        (encode(m.GoAway("bye")), []),
        (frame(msgpack.packb([99, 5])), [18]),
        (frame(msgpack.packb([99, -5])), []),
        (encode_invoke(5, "e" * 10_000, None, "", None, 1000, b""), [3]),
        (encode_invoke(5, "nosuch", None, "", None, 1 << 62, b""), [18]),
        (encode_invoke(5, "echo", None, "", None, 1000, b"\xc0", {"hops": 100, "attempt": -1}), [17]),
        (encode_invoke(5, "echo", "\x00\n", "", None, 1000, b""), [18]),
        (encode(m.Request(5, "node.status", {})), [18]),
        (encode(m.Ping(1)) * 5000, [5]),
    ],
    ids=[
        "second-hello", "cancel", "goaway", "unknown-type", "unknown-negative", "long-name",
        "long-timeout", "absurd-meta", "control-characters", "operator-verb", "pings",
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_answered_or_ends_its_connection(
    node: Node, sent: bytes, reply: list[int]
) -> None:
    """Each oddity has its answer, then a PING is answered too; or GOAWAY ends the connection."""
    with witness(node), closing(dialled(node)) as sock:
        sock.sendall(sent)
        if reply == [3]:
            assert msgpack.unpackb(read_to_end(sock)[4:])[0] == 3
            return
        sock.sendall(encode(m.Ping(b"last")))
        seen = [received(sock)]
        while [5, b"last"] not in seen or not set(reply) <= {one[0] for one in seen}:
            seen.append(received(sock))
    assert {one[0] for one in seen} == {5, *reply}


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


@pytest.mark.parametrize("wrong", [{"boot": None}, {"boot": ""}, {"name": "No Name"}, {"name": ""}])
def test_a_node_that_does_not_say_who_it_is(node: Node, wrong: dict[str, Any]) -> None:
    """Without a boot, or under what is no name, it is not let in: others would be told of it."""
    info = {"proto": 1, "role": "node", "mesh": "edged", "name": "n9", "boot": "b"} | wrong
    with witness(node), closing(dialled(node, greeted=False)) as sock:
        sock.sendall(encode(m.Hello(info)))
        assert received(sock)[:2] == [3, "bad_handshake"]
