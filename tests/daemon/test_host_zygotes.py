"""Zygotes: what an import may do, one that dies, hangs, or is no longer wanted."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import trio
from support.containers import PATIENCE
from support.hosts import FUNCTIONS, HOSTILE, Rig, children, gone, spec_of, status_of, told, until

from edged.daemon import host as host_module
from edged.daemon.host import Container, StartFailed


def parent_of(pid: int) -> int:
    """The process that forked it."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def ended(pid: int) -> bool:
    """Whether a process has ended; one that fell to init is reaped when init gets round to it."""
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z" and parent == "1"


async def test_containers_share_one_import(rig: Rig) -> None:
    """All containers of a version come from one zygote."""
    pids = set()
    for n in range(3):
        container, _ = await rig.start(name=f"c{n}")
        pids.add(parent_of(container.pid))
    assert pids == {await rig.zygote()}


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
    with trio.fail_after(PATIENCE):
        with pytest.raises(StartFailed, match=reason):
            await rig.host.warm(spec)
        with pytest.raises(StartFailed, match=reason):
            await rig.host.start(spec, "c1")
    if name == "broken":
        assert b"about to fail" in rig.printed("zygote")


async def test_failures_in_a_row_are_tried_ever_less_often(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second try is at once; a start in the pause after that imports nothing and says when the next try is."""
    assert host_module.BACKOFF_SECONDS[0] == 0.0 < host_module.BACKOFF_SECONDS[1]
    monkeypatch.setattr(host_module, "BACKOFF_SECONDS", (0.0, 3600.0))
    spec = spec_of(FUNCTIONS / "broken")
    for _ in range(2):
        with pytest.raises(StartFailed, match="no such model file$"):
            await rig.host.start(spec, "c1")
    with pytest.raises(StartFailed, match=r"no such model file \(next try in 3[56]\d\d\.\d s\)$"):
        await rig.host.start(spec, "c1")
    assert rig.printed("zygote").count(b"about to fail") == 2


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
    assert await status_of(container) == -signal.SIGTERM
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

    others, pid = children(), await rig.zygote()
    with trio.fail_after(PATIENCE):
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
        await status_of(container)
    peer.sock.close()
    await until(lambda: sorted(children()) == sorted([*others, alive]))


async def test_a_stopped_zygote_fails_the_start_and_is_replaced(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A zygote that does not answer by the deadline is ended; the next start does not wait for it."""
    monkeypatch.setattr(host_module, "START_SECONDS", 0.5)
    pid = await rig.zygote()
    os.kill(pid, signal.SIGSTOP)
    with trio.fail_after(PATIENCE), pytest.raises(StartFailed, match="did not answer in 0.5 s"):
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
    with trio.fail_after(PATIENCE):
        container, peer = await rig.start()
    peer.sock.close()
    await status_of(container)
    await until(lambda: Path(f"/proc/{pid}/task/{pid}/children").read_text() == "")
    assert await rig.zygote() == pid


async def test_a_retired_version_ends_with_its_last_container(rig: Rig) -> None:
    """Containers run on after retire; their zygote goes when they have gone."""
    container, peer = await rig.start()
    pid = await rig.zygote()
    await rig.host.retire(HOSTILE.hash)
    assert await told(peer, "call", 1) == 1
    container.kill()
    assert await status_of(container) == -signal.SIGKILL
    await until(lambda: gone(pid))
