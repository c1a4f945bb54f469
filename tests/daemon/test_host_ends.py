"""What is left of a host that ended or was killed: nothing."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import trio
from support.containers import PATIENCE
from support.hosts import HOSTILE, Rig, adopting, children, gone, until


async def test_nothing_is_left_when_the_host_ends() -> None:
    """Cancelling the host ends zygotes, containers and those that lost their zygote."""
    rig, before = Rig(), children()
    with adopting():
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
        assert children() == before


@contextlib.contextmanager
def killed_daemon(*words: str) -> Iterator[tuple[subprocess.Popen[str], set[int]]]:
    """A program that runs a host, killed; and a set of what it leaves behind, which ends by itself."""
    command = [sys.executable, "-m", "support.hosts", *words]
    left: set[int] = set()
    with adopting():
        with subprocess.Popen(command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True) as daemon:
            yield daemon, left
            daemon.kill()
        assert left
        waited(lambda: all(map(reaped, left)))


def reaped(pid: int) -> bool:
    """Whether it is gone, after its end was taken note of if it is ours."""
    with contextlib.suppress(ChildProcessError):  # the zygote is ours once its parent is gone, and a container after it
        os.waitpid(pid, os.WNOHANG)
    return gone(pid)


def waited(holds: Callable[[], bool]) -> None:
    """Wait for another process to get somewhere."""
    patience = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < patience
        time.sleep(0.005)


def test_containers_do_not_survive_a_killed_daemon() -> None:
    """SIGKILL of the daemon ends its zygote and its containers, one in an endless loop too, and what left their groups."""
    with killed_daemon() as (daemon, left):
        assert daemon.stdout is not None
        left.update(int(word) for word in daemon.stdout.readline().split())
        assert len(left) == 4


def test_an_import_that_hangs_does_not_survive_a_killed_daemon(tmp_path: Path) -> None:
    """Nobody reads the zygote's socket then: it looks by itself whether the daemon lives."""
    said = tmp_path / "pid"
    program = "import os, pathlib, time\npathlib.Path(PID).write_text(f'{os.getpid()}.')\nwhile True: time.sleep(100)\n"
    (tmp_path / "hang.py").write_text(program.replace("PID", repr(str(said))))
    (tmp_path / "function.toml").write_text('[function]\nname = "hang"\nentry = "hang:fn"\n')
    with killed_daemon(str(tmp_path)) as (_, left):
        waited(lambda: said.exists() and said.read_text().endswith("."))
        left.add(int(said.read_text()[:-1]))
