"""How many connections a node may hold (DESIGN §10).

Decides what of the process's file descriptors goes to connections, so that one too many is told so. To accept
until none is left was the alternative: then no container starts and no store file opens either.
"""

import resource

MAX_CONNECTIONS = 4096
"""Accepted at once; each costs a task and a descriptor."""

RESERVED = 512
"""For bundles, the store, other nodes and a hundred containers; of few descriptors, half."""

EACH_CONTAINER = 4
"""Its socket, its log, its process, and its share of a zygote's."""

BESIDE_CONTAINERS = 112
"""Of RESERVED, so much is not for containers."""

FEWEST = 256


def connections_allowed(containers: int) -> int:
    """Raise this process's limit as far as it may be; what of it is left for connections beside so many containers.

    Raises OSError when that is too little to work with.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    if hard < FEWEST:
        raise OSError(f"a node needs {FEWEST} file descriptors and may have {hard} (see ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    reserved = max(RESERVED, BESIDE_CONTAINERS + EACH_CONTAINER * containers)
    return min(MAX_CONNECTIONS, hard - min(reserved, hard // 2))
