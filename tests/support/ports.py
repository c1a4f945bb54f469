"""Ports for servers that cannot say which they got, or are to get it again in their next life."""

import socket
from contextlib import suppress
from pathlib import Path
from random import SystemRandom

RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
COUNT = 10_000


def free_port() -> int:
    """Nobody has it, and no connection gets it by chance while the server is down: it is below those the kernel gives away."""
    end = int(RANGE.read_text().split()[0])
    while True:
        port = SystemRandom().randrange(max(1024, end - COUNT), end)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
