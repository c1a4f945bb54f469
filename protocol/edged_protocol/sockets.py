"""How both fronts of the client open a socket: non-blocking, and without delay for small writes."""

import os
import socket
from typing import Any

from .brokers import Address

Target = tuple[int, Any]
"""A socket family and what `connect` of that family takes."""


def local_target(address: Address) -> Target | None:
    """The target of a Unix socket; None for an address that has to be resolved."""
    return (socket.AF_UNIX, address.host) if address.port is None else None


def begin(target: Target) -> socket.socket:
    """A socket that is connecting; once it is writable, `finish` says how it went. Raises OSError."""
    family, where = target
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            sock.connect(where)
        except BlockingIOError:
            if family == socket.AF_UNIX:  # its queue of connections is full; nothing is under way
                raise
    except BaseException:
        sock.close()
        raise
    return sock


def finish(sock: socket.socket) -> None:
    """Raises OSError for a connection that failed."""
    error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error:
        raise OSError(error, os.strerror(error))
