"""What a Redis or Valkey server is, before it is trusted with sessions (DESIGN §5, reliability Δ2).

Decides whether a server may be used, and says in words what an acknowledged write survives there. Refuses to know
operations. A replica is not read either: it lags, and a record that is older than one a node has seen freezes the
session.
"""

import os
from typing import Any, NamedTuple

from coredis.connection import TCPConnection
from coredis.exceptions import RedisError

from .redis_scripts import FORMAT, OPEN, SOURCES, Names


class NotUsable(Exception):
    """Not this server, or not now: in words."""


class Server(NamedTuple):
    """A server that may be used; `weak` says why an operator should look at its configuration."""

    identity: bytes
    durability: str
    weak: bool


async def greet(connection: TCPConnection, names: Names) -> Server:
    """Look at the server and begin a store there if it has none. Raises NotUsable, RedisError."""
    role: Any = await connection.create_request(b"ROLE")
    check_role(role)
    source, fresh = OPEN.source, os.urandom(8).hex().encode()
    stored: Any = await connection.create_request(b"EVAL", source, 1, names.store, FORMAT, fresh)
    if type(stored) is not list or len(stored) != 2:
        raise NotUsable("it does not answer as Redis does")
    if stored[0] != FORMAT:
        raise NotUsable(f"the store has format {stored[0]!r}, of another version of edged")
    for loading in [connection.create_request(b"SCRIPT", b"LOAD", source) for source in SOURCES]:
        await loading
    return Server(stored[1], *_durability(await _settings(connection)))


def check_role(role: Any) -> None:
    """Raises NotUsable unless a reply to ROLE says that the server is a master."""
    if type(role) is not list or not role:
        raise NotUsable("it does not answer as Redis does")
    if role[0] != b"master":
        raise NotUsable("it is a replica, which may lag and takes no writes")


async def _settings(connection: TCPConnection) -> dict[bytes, bytes] | None:
    """What it is configured to keep; None where that may not be asked, as with most services."""
    try:
        found: Any = await connection.create_request(
            b"CONFIG", b"GET", b"appendonly", b"appendfsync", b"save", b"maxmemory-policy"
        )
    except RedisError:
        return None
    return found if type(found) is dict else None


def _durability(settings: dict[bytes, bytes] | None) -> tuple[str, bool]:
    """What an acknowledged write survives, and whether that is less than anybody would want."""
    if settings is None:
        return "what it keeps is not known: it does not show its settings", False
    if settings.get(b"maxmemory-policy", b"noeviction").startswith(b"allkeys"):
        return "with its maxmemory-policy it throws sessions away when its memory is full", True
    if settings.get(b"appendonly") == b"yes":
        return _SYNCED.get(settings.get(b"appendfsync", b""), "it keeps a log of writes"), False
    if settings.get(b"save"):
        return "its end costs what was written since its last snapshot: appendonly is off", True
    return "its end costs everything: neither appendonly nor save is on", True


_SYNCED = {
    b"always": "every acknowledged write is on its disk",
    # While one fsync runs the next writes stay in the server's own memory, up to two seconds long.
    b"everysec": "its end, or its machine's, may cost the last two seconds",
    b"no": "its end may cost the last two seconds, its machine's what the kernel had not written",
}
