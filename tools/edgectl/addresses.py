"""Which node to talk to (DESIGN §9).

Decides the order: command line, environment, the packaged daemon's socket, loopback. Refuses to know sockets.
"""

from collections.abc import Mapping
from typing import NamedTuple

DEFAULT_ADMIN = "/run/edged/admin.sock"
DEFAULT_PORT = 7400


class Target(NamedTuple):
    """A Unix socket (`port` None) or a TCP address."""

    host: str
    port: int | None

    def __str__(self) -> str:
        return self.host if self.port is None else f"{self.host}:{self.port}"

    @property
    def address(self) -> str:
        """As the client library takes it."""
        if self.port is None:
            return f"unix:{self.host}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def targets(node: str | None, admin: str | None, environ: Mapping[str, str]) -> list[Target]:
    """The targets to try in turn. Raises ValueError for what is no address."""
    if node and admin:
        raise ValueError("--node and --admin exclude each other")
    if not node and not admin:
        node, admin = environ.get("EDGED_NODE"), environ.get("EDGED_ADMIN")
    if node:
        return [parse_address(node)]
    if admin:
        return [Target(admin, None)]
    return [Target(DEFAULT_ADMIN, None), Target("127.0.0.1", DEFAULT_PORT)]


def parse_address(text: str) -> Target:
    """`host`, `host:port`, `[v6]` or `[v6]:port`. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(DEFAULT_PORT)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r}: an IPv6 address is written [address]:port")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"{text!r} is not host:port")
    return Target(host, int(port))
