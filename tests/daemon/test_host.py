"""A container as a real process: started, talked to, killed in every way."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import trio
from support.containers import Peer, value_of
from support.hosts import HOSTILE, STATELESS, Rig, gone, in_thread, spec_of, status_of, told, until

from edged.daemon.host import Container
from edged_protocol import messages as m

EXAMPLES = Path(__file__).parents[2] / "configs" / "functions"


async def test_a_container_answers_and_dies_on_request(rig: Rig) -> None:
    """A started container says who it is, answers calls, and ends by signal 9 when killed."""
    container, peer = await rig.start(name="c7")
    assert peer.hello["name"] == "c7"
    assert await told(peer, "call", 5) == 5
    container.kill()
    assert await status_of(container) == -signal.SIGKILL
    assert container.dead.is_set()
    container.kill()
    assert gone(container.pid)


async def test_a_container_is_woken_at_once(rig: Rig) -> None:
    """Containers are no batch work for the scheduler: a call does not wait out the time slice of whoever computes."""
    container, _ = await rig.start()
    assert os.sched_getscheduler(container.pid) == os.SCHED_OTHER


async def test_a_container_ends_by_itself_when_nobody_listens(rig: Rig) -> None:
    """The end of the stream is an order to go: status 0."""
    container, peer = await rig.start()
    peer.sock.close()
    assert await status_of(container) == 0


async def test_a_container_sees_nothing_of_the_daemon(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """No descriptor, no variable and no terminal of the daemon reaches a function; its limits hold."""
    monkeypatch.setenv("SECRET", "x")
    leak = os.open("/dev/zero", os.O_RDONLY)
    os.set_inheritable(leak, True)
    try:
        _, peer = await rig.start()
    finally:
        os.close(leak)
    seen = await told(peer, "surroundings")
    assert set(seen["env"]) == {"PATH", "HOME", "LANG", "EDGED_FUNCTION"}
    assert seen["env"]["EDGED_FUNCTION"] == "hostile"
    targets = sorted(target.split(":")[0] for target in seen["fds"].values())
    assert targets == ["/dev/null", "pipe", "pipe", "socket"]
    assert seen["cwd"] == HOSTILE.path
    assert seen["session_leader"] is True
    assert seen["limits"] == [96 << 20, 0, 1024]
    assert seen["child"] == 0
    assert seen["modules"] == []


async def test_containers_draw_different_numbers(rig: Rig) -> None:
    """Forks of one process do not share the sequence of their random numbers."""
    drawn = set()
    for n in range(3):
        _, peer = await rig.start(name=f"c{n}")
        drawn.add((await told(peer, "surroundings"))["random"])
    assert len(drawn) == 3


async def test_what_a_function_prints_is_logged_by_lines(rig: Rig) -> None:
    """stdout at once, stderr too, endless lines in pieces, bytes that are no text as they are."""
    container, peer = await rig.start()
    await told(peer, "say", "hello")
    await until(lambda: rig.printed("c1") == [b"hello"])
    await told(peer, "say", "trouble", True)
    await told(peer, "chatter", 20_000)
    container.kill()
    await container.wait()
    printed = rig.printed("c1")
    assert printed[:2] == [b"hello", b"trouble"]
    assert max(map(len, printed)) == 8192
    assert b"".join(printed[2:]) == b"x" * 20_000 + b"\xff\x00" + b"no end"
    assert {function for function, _, _ in rig.lines} == {"hostile"}


@pytest.mark.parametrize(
    ("method", "argument", "status"),
    [("leave", 7, 7), ("crash", None, -signal.SIGSEGV), ("signal_self", int(signal.SIGTERM), -signal.SIGTERM)],
)
async def test_a_container_that_dies_harms_nobody(rig: Rig, method: str, argument: Any, status: int) -> None:
    """Its own call ends with the stream, its status is known, its neighbour and its successor serve."""
    container, peer = await rig.start()
    _, neighbour = await rig.start(name="c2")
    with pytest.raises((EOFError, ConnectionResetError)):
        await told(peer, method, *([] if argument is None else [argument]))
    assert await status_of(container) == status
    assert await told(neighbour, "call", "still") == "still"
    _, successor = await rig.start(name="c3")
    assert await told(successor, "call", "new") == "new"


@pytest.mark.parametrize("method", ["spin", "deaf", "hang_up"])
async def test_a_container_that_hangs_is_killed(rig: Rig, method: str) -> None:
    """A loop, a sleep and a closed socket all end at kill, whatever signals the function ignores."""
    container, peer = await rig.start()
    await in_thread(peer.send, peer.invoke(method, **STATELESS))
    if method == "hang_up":
        with pytest.raises(EOFError):
            await in_thread(peer.receive)
    assert not container.dead.is_set()
    container.kill()
    assert await status_of(container) == -signal.SIGKILL


async def test_what_a_container_bred_goes_with_it(rig: Rig) -> None:
    """Children and orphans of a container end with it, and no zombie stays."""
    container, peer = await rig.start()
    pids = await told(peer, "breed", 8)
    assert not any(gone(pid) for pid in pids)
    container.kill()
    await container.wait()
    await until(lambda: all(gone(pid) for pid in pids))


async def test_memory_is_limited(rig: Rig) -> None:
    """A function that wants more than its limit gets an error, below it memory."""
    _, peer = await rig.start()
    assert await told(peer, "hog", 20 << 20) == 20 << 20
    answer = await in_thread(peer.call, "hog", 200 << 20, **STATELESS)
    assert isinstance(answer, m.Error) and answer.code == 301 and "MemoryError" in answer.message
    answer = await in_thread(peer.call, "huge", 40 << 20, **STATELESS)
    assert isinstance(answer, m.Error) and answer.code == 301
    assert await told(peer, "call", "alive") == "alive"


async def test_garbage_on_the_socket_reaches_nobody_else(rig: Rig) -> None:
    """What a function writes past its worker is read on its own socket only."""
    _, peer = await rig.start()
    _, neighbour = await rig.start(name="c2")
    await in_thread(peer.send, peer.invoke("garbage", b"\xff" * 64, **STATELESS))
    with pytest.raises(Exception, match="frame_too_large"):
        await in_thread(peer.receive)
    assert await told(neighbour, "call", 1) == 1


async def test_a_container_costs_little(rig: Rig) -> None:
    """Idle, it has at most 6 MB of its own. How long it takes to its first answer is measured by `make bench`."""
    spec = spec_of(EXAMPLES / "echo")
    container = await rig.host.start(spec, "c1")
    with await trio.to_thread.run_sync(first_answer, container) as sock:
        private = private_kilobytes(container.pid)
        sock.close()
    assert private <= 6 * 1024


def private_kilobytes(pid: int) -> int:
    """Memory no other process shares (USS)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def first_answer(container: Container) -> Any:
    """Greet a container and call it once."""
    peer = Peer(container.sock)
    assert value_of(peer.call("", 1, **STATELESS)) == 1
    return peer.sock
