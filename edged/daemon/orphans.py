"""Children this process got by a zygote's death: find them, end them, reap them (DESIGN §8).

Decides which adopted process is a container or was left behind by one. A child of the daemon in a session
of its own, whose environment a zygote made, is; nobody else may be touched.
"""

import contextlib
import os
import signal


def reap(pidfd: int) -> int | None:
    """Exit status of a child that has ended; None when it is not our child or lives."""
    try:
        ended = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        return None
    if ended is None:
        return None
    return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status


def reap_group(pid: int, pidfd: int) -> int | None:
    """Reap a container that ended, after ending what is left of its process group."""
    try:
        ended = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    if ended is not None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)  # not reaped yet, so the number is still the container's
    return reap(pidfd)


def find_orphans(known: set[int], token: str) -> list[int]:
    """pidfds of adopted children that belong to nobody any more; the living ones are killed.

    One that is just ending has no environment any more and is no zombie yet: it is nobody's to kill, and will be to reap.
    """
    found = []
    for pid in _adopted() - known:
        variables = _environment(pid)
        ours = _is_ours(variables, token)
        if variables and not ours:
            continue
        with contextlib.suppress(ProcessLookupError):
            pidfd = os.pidfd_open(pid)
            found.append(pidfd)
            if ours:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    return found


def _adopted() -> set[int]:
    """Children of this process in sessions other than its own."""
    ours, session = os.getpid(), os.getsid(0)
    children = set()
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
            # pid (command, which may hold anything) state parent group session ...
            _, parent, _, sid = file.read().rpartition(b")")[2].split()[:4]
            if int(parent) == ours and int(sid) != session:
                children.add(int(name))
    return children


def _environment(pid: int) -> list[bytes]:
    """The variables a process began with; none of one that is ending or has ended."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read().split(b"\0")[:-1]
    except OSError:
        return []


def _is_ours(variables: list[bytes], token: str) -> bool:
    """Whether they are those of the zygote's forks, or of a program or child of a container."""
    mine = b"EDGED_ZYGOTE=" + token.encode()
    return mine in variables or any(item.startswith(b"EDGED_FUNCTION=") for item in variables)
