"""The cgroups of containers, which hold each to its function's `[limits] cpu` (DESIGN §8).

Decides whether this daemon may make any, and what is left of them. Refuses to know what a container is: it makes its
own and enters it as its first step (edged/sdk/launch.py).

They are threaded ones, below the cgroup that the daemon itself is in. A process of one thread enters such a one in
0.2 ms; for one of the usual kind the kernel waits until no process of the machine forks or ends, 5 to 20 ms, and the
whole start of a container takes two. The price: the kernel limits the memory of usual ones only.
Source: Linux, cgroup-v2.rst "Threads"; systemd, CGROUP_DELEGATION "Delegation".
"""

import contextlib
import fcntl
import logging
import os
import signal
from pathlib import Path

import trio

from edged.sdk.launch import CGROUP_SUFFIX

log = logging.getLogger(__name__)

LEAVING_SECONDS = 2.0
"""What is in a container's cgroup after its end is killed, and is gone then unless the kernel holds it."""

LOOK_AGAIN = 0.01
"""Seconds between two looks whether it is."""


class NoCgroups(Exception):
    """None can be made: the text says why."""


class Cgroups:
    """`open` before containers start; then `remove` what each leaves."""

    def __init__(self) -> None:
        self.path = ""
        """Where containers make theirs; "": they cannot."""
        self.trouble = "the node has not started"
        """Why `[limits] cpu` has no effect here; "": it has."""
        self._lock = -1

    async def open(self) -> None:
        """Find where they may be made, and remove what a former life left there."""
        try:
            path, self._lock = await trio.to_thread.run_sync(_prepared)
        except (NoCgroups, OSError) as error:
            self.trouble = str(error)
            return
        self.path, self.trouble = str(path), ""
        for left in await trio.to_thread.run_sync(_left, path):
            await self.remove(left)

    def close(self) -> None:
        """Another daemon may have it."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    async def remove(self, container: str) -> None:
        """Of a container that has ended; what it left in there is killed."""
        if not self.path:
            return
        directory = Path(self.path, container + CGROUP_SUFFIX)
        with trio.CancelScope(shield=True), trio.move_on_after(LEAVING_SECONDS):
            while not await trio.to_thread.run_sync(_removed, directory):  # noqa: ASYNC110 - seldom waits
                await trio.sleep(LOOK_AGAIN)
            return
        log.warning("%s cannot be removed", directory)


def _prepared(proc: Path = Path("/proc/self")) -> tuple[Path, int]:
    """The daemon's own cgroup, able to have others below it, and the lock on it. Raises NoCgroups, OSError."""
    path = own_cgroup(proc)
    if _attribute(path, "user.delegate") != b"1":
        raise NoCgroups(f"the cgroup {path} is not marked as delegated (systemd: Delegate=cpu, version 251 or newer)")
    if "cpu" not in (path / "cgroup.controllers").read_text().split():
        raise NoCgroups(f"the cgroup {path} has no cpu controller (systemd: Delegate=cpu)")
    lock = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if "cpu" not in (path / "cgroup.subtree_control").read_text().split():
            (path / "cgroup.subtree_control").write_text("+cpu")
    except OSError as error:
        os.close(lock)
        taken = isinstance(error, BlockingIOError)
        raise NoCgroups(f"the cgroup {path} " + ("is another daemon's" if taken else f"takes none below it: {error}")) from error
    return path, lock


def own_cgroup(proc: Path) -> Path:
    """Where the cgroup of this process is mounted. Raises NoCgroups."""
    named = [line[3:] for line in (proc / "cgroup").read_text().splitlines() if line.startswith("0::")]
    for line in (proc / "mountinfo").read_text().splitlines() if named else ():
        fields = line.split()
        if fields[fields.index("-") + 1] == "cgroup2":
            below = os.path.relpath(named[0], fields[3])
            if not below.startswith(".."):
                return Path(fields[4], below)
    raise NoCgroups("no cgroup v2 is mounted here that this process is in")


def _attribute(path: Path, name: str) -> bytes:
    try:
        return os.getxattr(path, name)
    except OSError:
        return b""


def _left(path: Path) -> list[str]:
    return [entry.stem for entry in path.iterdir() if entry.suffix == CGROUP_SUFFIX]


def _removed(directory: Path) -> bool:
    """Whether it is gone; what is in there is killed."""
    try:
        directory.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        for number in _inside(directory):
            _kill(int(number), directory.name)
        return False
    return True


def _inside(directory: Path) -> list[str]:
    try:
        return (directory / "cgroup.threads").read_text().split()
    except OSError:
        return []


def _kill(number: int, name: str) -> None:
    """The process of that number, if it is one that is in the cgroup `name`: another may have got the number."""
    with contextlib.suppress(OSError):  # it has ended, or it is a thread of a process that is listed too
        pidfd = os.pidfd_open(number)
        try:
            if f"/{name}\n" in Path(f"/proc/{number}/cgroup").read_text():
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        finally:
            os.close(pidfd)
