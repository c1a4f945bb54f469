"""What a process must do between fork and the function: limits, descriptors, environment (DESIGN §8, §10).

Used by zygote.py for both runtimes. Decides nothing; the values come from the manifest.
"""

import contextlib
import ctypes
import os
import random
import resource
import signal
import sys
from typing import NamedTuple, NoReturn

OPEN_FILES = 1024
"""Descriptors of a container: more than any example needs, far below what starves the machine."""

OOM_SCORE = 500
"""A container is to die before the daemon when memory runs out; the range ends at 1000."""

CGROUP_SUFFIX = ".container"
"""Of the cgroup of each, which is named after it: the daemon removes those, and no other."""

CPU_PERIOD = 100_000
"""Microseconds in which a container may compute for `cpu` of them, the kernel's own default: a call that takes less than
that share is not slowed at all. Of a hundredth of a core this is the shortest time the kernel takes."""

EXEC_FD = 3
"""Where a program of the exec runtime finds its socket; EDGED_FD says so too."""

_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38


class Limits(NamedTuple):
    """What one container may use."""

    memory: int
    """Bytes of private writable memory (RLIMIT_DATA: shared pages of the zygote's code do not count)."""
    tasks: int
    """Processes and threads of this user that there may be when one more is made; 0: any."""


def become_subreaper() -> None:
    """Orphans below this process become its children instead of init's, so that it can reap them."""
    _prctl(_PR_SET_CHILD_SUBREAPER)


def _prctl(option: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option})")


def limit_process(limits: Limits) -> None:
    """Memory, core files, privileges, the kernel's choice of victim; inherited by forks.

    No word to the scheduler: as batch work, which waits out the time slice of whoever computes, a container's call
    took 4 ms instead of 0.1 on a busy machine.
    """
    _prctl(_PR_SET_NO_NEW_PRIVS)
    resource.setrlimit(resource.RLIMIT_DATA, (limits.memory, limits.memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if limits.tasks:
        resource.setrlimit(resource.RLIMIT_NPROC, (limits.tasks, limits.tasks))
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write(str(OOM_SCORE))


def enter_cgroup(parent: str, name: str, cpu: float) -> None:
    """Make one for this process, which has one thread yet, and be held to `cpu` cores there. Raises OSError."""
    own = os.path.join(parent, name + CGROUP_SUFFIX)
    os.mkdir(own)
    for file, value in (
        ("cgroup.type", "threaded"),
        ("cpu.max", f"{round(cpu * CPU_PERIOD)} {CPU_PERIOD}"),
        ("cgroup.threads", "0"),
    ):
        with open(os.path.join(own, file), "wb", buffering=0) as opened:
            opened.write(value.encode())


def environment(function: str, path: str) -> dict[str, str]:
    """All a container is told: nothing of the daemon's own environment passes."""
    return {"PATH": path, "HOME": "/nonexistent", "LANG": "C.UTF-8", "EDGED_FUNCTION": function}


def detach(log_fd: int) -> None:
    """Leave the zygote's session and signal set-up; stdout and stderr go to the container's log."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.dup2(log_fd, 1)
    os.dup2(log_fd, 2)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    most = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def close_all_but(kept: int) -> None:
    """Only 0, 1, 2 and `kept` stay open: no other container's socket, no file of the zygote."""
    os.closerange(3, kept)
    os.closerange(kept + 1, _highest_fd() + 1)


def _highest_fd() -> int:
    return max(int(name) for name in os.listdir("/proc/self/fd"))


def reseed() -> None:
    """No two containers forked from one process may draw the same numbers."""
    random.seed()
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed()


def execute(program: str, sock: int, variables: dict[str, str]) -> NoReturn:
    """Become `program`, with the socket as descriptor 3. Raises OSError."""
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # by Python; exec would pass that on
        signal.signal(ignored, signal.SIG_DFL)
    os.dup2(sock, EXEC_FD)
    os.set_inheritable(EXEC_FD, True)
    os.execve(program, [program], {**variables, "EDGED_FD": str(EXEC_FD)})
