"""Containers as real processes: started, talked to, killed in every way, and nothing of them left."""

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from support.containers import Peer, value_of
from support.hosts import FUNCTIONS, HOSTILE, Rig, spec_of

from edged.daemon import host as host_module
from edged.daemon.host import Container, Spec, StartFailed
from edged.sdk.launch import become_subreaper
from edged_protocol import messages as m
from edged_protocol.codec import pack, unpack

EXAMPLES = Path(__file__).parents[2] / "configs" / "functions"
STATELESS = {"meta": None, "session": None, "call_id": None}


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    """A host that runs as long as the test; afterwards no child is left."""
    rig = Rig()
    async with trio.open_nursery() as nursery:
        await nursery.start(rig.host.run)
        yield rig
        nursery.cancel_scope.cancel()
    rig.close()
    assert children() == []


async def in_thread(call: Callable[..., Any], *args: Any, **fields: Any) -> Any:
    """A blocking exchange with a container."""
    return await trio.to_thread.run_sync(lambda: call(*args, **fields), abandon_on_cancel=True)


async def told(peer: Peer, method: str, *args: Any) -> Any:
    """The value of a stateless call."""
    return value_of(await in_thread(peer.call, method, *args, **STATELESS))


def children() -> list[int]:
    """Children of this process, the dead ones that nobody reaped included."""
    found = []
    for path in Path("/proc/self/task").glob("*/children"):
        found += [int(pid) for pid in path.read_text().split()]
    return found


def parent_of(pid: int) -> int:
    """The process that forked it."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


async def until(condition: Callable[[], bool]) -> None:
    """Wait for another process to get somewhere; a test that waits in vain fails."""
    with trio.fail_after(10):
        while not condition():  # noqa: ASYNC110 - there is no event for what another process does
            await trio.sleep(0.005)


def gone(pid: int) -> bool:
    """Whether a process has ended and was reaped."""
    return not Path(f"/proc/{pid}").exists()


def ended(pid: int) -> bool:
    """Whether a process has ended; one that fell to init is reaped when init gets round to it."""
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z" and parent == "1"


async def test_a_container_answers_and_dies_on_request(rig: Rig) -> None:
    """A started container says who it is, answers calls, and ends by signal 9 when killed."""
    container, peer = await rig.start(name="c7")
    assert peer.hello["name"] == "c7"
    assert await told(peer, "call", 5) == 5
    container.kill()
    with trio.fail_after(5):
        assert await container.wait() == -signal.SIGKILL
    assert container.dead.is_set()
    container.kill()
    assert gone(container.pid)


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


async def test_a_container_is_woken_at_once(rig: Rig) -> None:
    """Containers are no batch work for the scheduler: a call does not wait out the time slice of whoever computes."""
    container, _ = await rig.start()
    assert os.sched_getscheduler(container.pid) == os.SCHED_OTHER


async def test_a_container_ends_by_itself_when_nobody_listens(rig: Rig) -> None:
    """The end of the stream is an order to go: status 0."""
    container, peer = await rig.start()
    peer.sock.close()
    with trio.fail_after(5):
        assert await container.wait() == 0


async def test_containers_share_one_import(rig: Rig) -> None:
    """All containers of a version come from one zygote."""
    pids = set()
    for n in range(3):
        container, _ = await rig.start(name=f"c{n}")
        pids.add(parent_of(container.pid))
    assert pids == {await rig.zygote()}


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
    with trio.fail_after(5):
        assert await container.wait() == status
    assert await told(neighbour, "call", "still") == "still"
    begun = trio.current_time()
    _, successor = await rig.start(name="c3")
    assert await told(successor, "call", "new") == "new"
    assert trio.current_time() - begun < 1


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
    with trio.fail_after(5):
        assert await container.wait() == -signal.SIGKILL


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


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("broken", "LookupError: no such model file"),
        ("silent-import", "killed by signal 11"),
        ("greedy-import", "MemoryError"),
        ("shadow", "signal is a module of Python's own"),
    ],
)
async def test_a_failed_import_is_told(rig: Rig, name: str, reason: str) -> None:
    """warm and start both say why there can be no container, with the tail of the traceback."""
    spec = spec_of(FUNCTIONS / name)
    with trio.fail_after(10):
        with pytest.raises(StartFailed, match=reason):
            await rig.host.warm(spec)
        with pytest.raises(StartFailed, match=reason):
            await rig.host.start(spec, "c1")
    if name == "broken":
        assert b"about to fail" in rig.printed("zygote")


async def test_failures_in_a_row_are_tried_ever_less_often(rig: Rig) -> None:
    """The second try is at once; then a start in the pause fails at once and says when the next one is."""
    spec = spec_of(FUNCTIONS / "broken")
    for _ in range(2):
        with pytest.raises(StartFailed, match="no such model file$"):
            await rig.host.start(spec, "c1")
    begun = trio.current_time()
    with pytest.raises(StartFailed, match=r"no such model file \(next try in 0\.\d s\)$"):
        await rig.host.start(spec, "c1")
    assert trio.current_time() - begun < 0.1


async def test_a_killed_zygote_comes_back_and_its_containers_live_on(rig: Rig) -> None:
    """Containers serve without their zygote, are reaped without it, and the next start finds a new one."""
    container, peer = await rig.start()
    bred = await told(peer, "breed", 2)
    pid = await rig.zygote()
    os.kill(pid, signal.SIGKILL)
    await until(lambda: HOSTILE.hash not in rig.host._zygotes)
    assert await told(peer, "call", "orphan") == "orphan"
    other, _ = await rig.start(name="c2")
    assert await rig.zygote() != pid
    os.kill(container.pid, signal.SIGTERM)
    with trio.fail_after(5):
        assert await container.wait() == -signal.SIGTERM
    await until(lambda: all(ended(child) for child in (pid, container.pid, *bred)))
    assert not other.dead.is_set()


async def test_a_zygote_killed_under_many_starts(rig: Rig) -> None:
    """Each start gives a container or a reason, none hangs, and nothing of them is left."""
    outcomes: list[Any] = []

    async def one(number: int) -> None:
        try:
            outcomes.append(await rig.host.start(HOSTILE, f"c{number}"))
        except StartFailed as failed:
            outcomes.append(str(failed))

    pid = await rig.zygote()
    with trio.fail_after(15):
        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(one, number)
            await until(lambda: len(outcomes) >= 5)
            os.kill(pid, signal.SIGKILL)
    containers = [outcome for outcome in outcomes if isinstance(outcome, Container)]
    reasons = {outcome for outcome in outcomes if isinstance(outcome, str)}
    assert len(outcomes) == 50 and len(containers) >= 5 and reasons <= {"the zygote was killed by signal 9"}
    _, peer = await rig.start(name="after")
    assert await told(peer, "call", 1) == 1
    alive = await rig.zygote()
    for container in containers:
        container.sock.close()
        with trio.fail_after(5):
            await container.wait()
    peer.sock.close()
    await until(lambda: children() == [alive])


async def test_a_stopped_zygote_fails_the_start_and_is_replaced(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A zygote that does not answer by the deadline is ended; the next start does not wait for it."""
    monkeypatch.setattr(host_module, "START_SECONDS", 0.5)
    pid = await rig.zygote()
    os.kill(pid, signal.SIGSTOP)
    with trio.fail_after(5), pytest.raises(StartFailed, match="did not answer in 0.5 s"):
        await rig.host.start(HOSTILE, "c1")
    await until(lambda: gone(pid))
    monkeypatch.undo()
    _, peer = await rig.start()
    assert await told(peer, "call", 1) == 1


async def test_a_slow_import_fails_a_start_but_goes_on(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start does not wait beyond its deadline; the import is finished for a later one."""
    fifo = tmp_path / "go"
    os.mkfifo(fifo)
    (tmp_path / "function.toml").write_text('[function]\nname = "slow"\nentry = "slow:fn"\n')
    code = f"from edged.sdk import Function\nopen({str(fifo)!r}).read()\nfn = Function('slow')\n"
    (tmp_path / "slow.py").write_text(code + "@fn.handler\ndef call(s): return 1\n")
    monkeypatch.setattr(host_module, "START_SECONDS", 0.3)
    with pytest.raises(StartFailed, match="still importing"):
        await rig.host.start(spec_of(tmp_path), "c1")
    monkeypatch.undo()
    await trio.to_thread.run_sync(fifo.write_text, "go")
    _, peer = await rig.start(spec_of(tmp_path))
    assert await told(peer, "call") == 1


async def test_a_start_nobody_waits_for_leaves_nothing(rig: Rig) -> None:
    """A cancelled start ends its container."""
    pid = await rig.zygote()
    for number in range(20):
        with trio.move_on_after(0.0003 * number):
            in_time = await rig.host.start(HOSTILE, "c1")
            in_time.sock.close()
    with trio.fail_after(5):
        container, peer = await rig.start()
    peer.sock.close()
    await container.wait()
    await until(lambda: Path(f"/proc/{pid}/task/{pid}/children").read_text() == "")
    assert await rig.zygote() == pid


async def test_a_retired_version_ends_with_its_last_container(rig: Rig) -> None:
    """Containers run on after retire; their zygote goes when they have gone."""
    container, peer = await rig.start()
    pid = await rig.zygote()
    await rig.host.retire(HOSTILE.hash)
    assert await told(peer, "call", 1) == 1
    container.kill()
    with trio.fail_after(5):
        assert await container.wait() == -signal.SIGKILL
    await until(lambda: gone(pid))


async def test_nothing_is_left_when_the_host_ends() -> None:
    """Cancelling the host ends zygotes, containers and those that lost their zygote."""
    rig = Rig()
    async with trio.open_nursery() as nursery:
        await nursery.start(rig.host.run)
        first, _ = await rig.start()
        os.kill(await rig.zygote(), signal.SIGKILL)
        await until(lambda: HOSTILE.hash not in rig.host._zygotes)
        second, _ = await rig.start(name="c2")
        nursery.cancel_scope.cancel()
    rig.close()
    assert first.dead.is_set() and second.dead.is_set()
    assert gone(first.pid) and gone(second.pid)
    assert children() == []


@contextlib.contextmanager
def killed_daemon(*words: str) -> Iterator[subprocess.Popen[str]]:
    """A program that runs a host; killed in the end. What it leaves behind is ours."""
    become_subreaper()
    command = [sys.executable, "-m", "support.hosts", *words]
    with subprocess.Popen(command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True) as daemon:
        yield daemon
        daemon.kill()


def end_by_themselves(pids: set[int]) -> None:
    """Wait until they have."""
    patience = time.monotonic() + 10
    while not all(map(gone, pids)):
        assert time.monotonic() < patience
        with contextlib.suppress(ChildProcessError):  # the zygote is ours once its parent is gone
            os.waitpid(-1, os.WNOHANG)


def test_containers_do_not_survive_a_killed_daemon() -> None:
    """SIGKILL of the daemon ends its zygote and its containers, one in an endless loop too."""
    with killed_daemon() as daemon:
        assert daemon.stdout is not None
        pids = {int(word) for word in daemon.stdout.readline().split()}
        assert len(pids) == 2
    end_by_themselves(pids)


def test_an_import_that_hangs_does_not_survive_a_killed_daemon(tmp_path: Path) -> None:
    """Nobody reads the zygote's socket then: it looks by itself whether the daemon lives."""
    said = tmp_path / "pid"
    program = "import os, pathlib, time\npathlib.Path(PID).write_text(f'{os.getpid()}.')\nwhile True: time.sleep(100)\n"
    (tmp_path / "hang.py").write_text(program.replace("PID", repr(str(said))))
    (tmp_path / "function.toml").write_text('[function]\nname = "hang"\nentry = "hang:fn"\n')
    with killed_daemon(str(tmp_path)):
        patience = time.monotonic() + 60
        while not (said.exists() and said.read_text().endswith(".")):
            assert time.monotonic() < patience
    end_by_themselves({int(said.read_text()[:-1])})


async def test_no_descriptor_leaks(rig: Rig) -> None:
    """After fifty containers were started and killed the daemon has as many descriptors as before."""

    async def cycle(number: int) -> None:
        container = await rig.host.start(HOSTILE, f"c{number}")
        container.kill()
        container.sock.close()
        await container.wait()

    await cycle(0)
    before = os.listdir("/proc/self/fd")
    for number in range(50):
        await cycle(number)
    assert os.listdir("/proc/self/fd") == before


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


@pytest.fixture(scope="module")
def exec_c(tmp_path_factory: pytest.TempPathFactory) -> Spec:
    """The counter in C, compiled."""
    path = tmp_path_factory.mktemp("bundles") / "exec-c"
    shutil.copytree(FUNCTIONS / "exec-c", path)
    subprocess.run(
        ["gcc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-O1", "-o", path / "counter", path / "counter.c"],
        check=True,
    )
    return spec_of(path)


async def test_a_c_program_is_a_container(rig: Rig, exec_c: Spec) -> None:
    """A program that knows only the wire serves both modes, prints to the log and dies like any other."""
    container, peer = await rig.start(exec_c)
    assert peer.hello["methods"] == {"incr": {"shared": False}, "get": {"shared": True}}
    answer = await in_thread(peer.call, "incr", 5, blob=pack(300))
    assert value_of(answer) == 305 and unpack(answer.blob) == 305
    answer = await in_thread(peer.call, "get", blob=pack(7))
    assert value_of(answer) == 7 and answer.blob is None
    await in_thread(peer.ask, "worker.load", pack(1000), session="k", epoch=1, version=1)
    assert [value_of(await in_thread(peer.local, "")) for _ in range(3)] == [1001, 1002, 1003]
    reply = await in_thread(peer.ask, "worker.snapshot", session="k")
    assert unpack(reply.blob) == 1003
    assert (await in_thread(peer.call, "nope")).code == 206
    container.kill()
    assert await container.wait() == -signal.SIGKILL
    assert rig.printed("c1") == [b"exec-c is up"]


async def test_a_script_is_a_container(rig: Rig) -> None:
    """A Python program without our SDK serves remote calls, and ends with the stream."""
    container, peer = await rig.start(spec_of(FUNCTIONS / "exec-python"))
    answer = await in_thread(peer.call, "incr", 2, blob=pack(40))
    assert value_of(answer) == 42 and unpack(answer.blob) == 42
    peer.sock.close()
    with trio.fail_after(5):
        assert await container.wait() == 0


async def test_a_program_that_cannot_be_started_is_told(rig: Rig, exec_c: Spec, tmp_path: Path) -> None:
    """A missing or unexecutable program is a failed start, with the reason."""
    shutil.copytree(exec_c.path, tmp_path / "b")
    spec, program = spec_of(tmp_path / "b"), tmp_path / "b" / "counter"
    program.chmod(0o644)
    with pytest.raises(StartFailed, match="counter: Permission denied"):
        await rig.host.warm(spec)
    program.chmod(0o755)
    await rig.start(spec)
    program.unlink()
    with pytest.raises(StartFailed, match="counter: No such file"):
        await rig.host.start(spec, "c2")
    await rig.host.retire(spec.hash)
    with pytest.raises(StartFailed, match="counter: No such file"):
        await rig.host.warm(spec)


async def test_an_exec_container_has_limits_and_no_secrets(rig: Rig, exec_c: Spec) -> None:
    """A program gets its socket, its log and nothing else of the daemon."""
    container, _ = await rig.start(exec_c)
    proc = Path(f"/proc/{container.pid}")
    variables = dict(item.split("=", 1) for item in proc.joinpath("environ").read_text().split("\0") if item)
    assert set(variables) == {"PATH", "HOME", "LANG", "EDGED_FUNCTION", "EDGED_FD", "EDGED_MAX_STATE"}
    assert sorted(path.name for path in proc.joinpath("fd").iterdir()) == ["0", "1", "2", "3"]
    limits = proc.joinpath("limits").read_text()
    data = next(line for line in limits.splitlines() if line.startswith("Max data size"))
    assert data.split()[3] == str(exec_c.manifest.limits.memory)


