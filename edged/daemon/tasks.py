"""How many processes and threads containers may have (DESIGN §10).

Decides what of this process's own allowance is kept back from them: a function that forks without end must not leave a node
unable to start a thread, which would end it. The kernel counts all of one user's, so it is a bound for the containers
together; it holds nobody who is root. Refuses to know how a container is held to it (edged/sdk/launch.py).
"""

import resource
from pathlib import Path

from .cgroups import NoCgroups, own_cgroup

KEPT_BACK = 4
"""One part in so many is the daemon's alone."""


def tasks_allowed(proc: Path = Path("/proc/self")) -> int:
    """For all containers together; 0 where nothing bounds this process either."""
    hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    bounds = [*_of_cgroups(proc), *([hard] if hard != resource.RLIM_INFINITY else [])]
    return min(bounds) - min(bounds) // KEPT_BACK if bounds else 0


def _of_cgroups(proc: Path) -> list[int]:
    """What the cgroup of this process and those above it say."""
    try:
        own = own_cgroup(proc)
    except (NoCgroups, OSError):
        return []
    said = []
    for path in (own, *own.parents):
        try:
            text = (path / "pids.max").read_text().strip()
        except OSError:
            break
        said += [int(text)] if text.isdigit() else []
    return said
