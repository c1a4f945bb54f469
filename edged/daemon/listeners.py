"""Where a node listens: a TCP address and the admin socket (DESIGN §4, §9).

Decides when a connection is accepted and what the node's address is called. Refuses to know what is said on
a connection, and how many there may be: whoever takes the sockets decides that.
"""

import errno
import logging
import socket
from collections.abc import Callable
from pathlib import Path

import trio

from edged.config import ListenSection

log = logging.getLogger(__name__)

BURST = 64
"""Connections accepted before other tasks have their turn."""

FULL_SECONDS = 1.0
"""When no descriptor is left, accepting at once again would only fill the log."""

Take = Callable[[socket.socket], None]


class Listeners:
    """`open` binds, `accept` serves until `close`. `address` and `admin` are known once it is open."""

    def __init__(self, listen: ListenSection, data_dir: Path) -> None:
        self._listen = listen
        self._admin = Path(listen.admin or data_dir / "admin.sock")
        self._open: list[socket.socket] = []
        self.address = ""
        self.bound: tuple[str, int] = ("", 0)
        self.admin = str(self._admin)

    def open(self) -> None:
        """Bind both. Raises OSError."""
        listener, where = listen_tcp(self._listen.address)
        self._open = [listener]
        self.bound = listener.getsockname()[:2]
        self.address = self._listen.advertise or where
        self._open.append(_unix(self._admin))
        for one in self._open:
            one.setblocking(False)

    async def accept(self, take: Take) -> None:
        """Give every connection to `take`, until `close`."""
        async with trio.open_nursery() as nursery:
            for listener in self._open:
                nursery.start_soon(_accept, listener, take)

    def close(self) -> None:
        """Take no more; those accepted go on. Closing twice is no mistake."""
        while self._open:
            listener = self._open.pop()
            trio.lowlevel.notify_closing(listener)
            listener.close()


def listen_tcp(address: str) -> tuple[socket.socket, str]:
    """A listener, and its address as others write it. Raises OSError."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    both = host == "::" and socket.has_dualstack_ipv6()
    listener = socket.create_server((host, int(port)), family=family, backlog=512, dualstack_ipv6=both)
    shown = f"[{host}]" if family == socket.AF_INET6 else host
    return listener, f"{shown}:{listener.getsockname()[1]}"


def _unix(path: Path) -> socket.socket:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_socket():
        raise FileExistsError(errno.EEXIST, "the admin socket goes nowhere where a file is", str(path))
    path.unlink(missing_ok=True)  # of a former life
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        path.chmod(0o660)
        listener.listen(64)
    except OSError:
        listener.close()
        raise
    return listener


async def _accept(listener: socket.socket, take: Take) -> None:
    while listener.fileno() >= 0:
        try:
            await trio.lowlevel.wait_readable(listener)
        except trio.ClosedResourceError:
            return
        for _ in range(BURST):
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                break
            except OSError as error:
                log.error("cannot accept: %s", error)
                await trio.sleep(FULL_SECONDS)
                break
            take(sock)
