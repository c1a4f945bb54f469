"""Containers of the exec runtime: programs that know only the wire."""

import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from support.containers import value_of
from support.hosts import FUNCTIONS, Rig, in_thread, spec_of, status_of

from edged.daemon.host import Spec, StartFailed
from edged_protocol.codec import pack, unpack


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
    assert await status_of(container) == -signal.SIGKILL
    assert rig.printed("c1") == [b"exec-c is up"]


async def test_a_script_is_a_container(rig: Rig) -> None:
    """A Python program without our SDK serves remote calls, and ends with the stream."""
    container, peer = await rig.start(spec_of(FUNCTIONS / "exec-python"))
    answer = await in_thread(peer.call, "incr", 2, blob=pack(40))
    assert value_of(answer) == 42 and unpack(answer.blob) == 42
    peer.sock.close()
    assert await status_of(container) == 0


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
