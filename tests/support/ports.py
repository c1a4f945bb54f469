"""Ports for servers that cannot say which they got, or are to get it again in their next life."""

import socket
from contextlib import suppress
from pathlib import Path
from random import SystemRandom

RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
COUNT = 10_000
_given: set[int] = set()


def free_port() -> int:
    """Nobody has it or was given it here, and no connection gets it by chance while the server is down: it is below those the
    kernel gives away. Free for datagrams as well, which nodes send from the same port."""
    end = int(RANGE.read_text().split()[0])
    while True:
        port = SystemRandom().randrange(max(1024, end - COUNT), end)
        if port not in _given and _bound(port):
            _given.add(port)
            return port


def _bound(port: int) -> bool:
    """Whether it can be had, for connections and for datagrams."""
    with suppress(OSError), socket.create_server(("127.0.0.1", port)), socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(("127.0.0.1", port))
        return True
    return False
