"""HTTP for whoever watches a node: is it alive, is it ready, its figures (DESIGN §9).

Decides how much of it a stranger may use: few connections, one short request each, a few seconds. What is said there is
`health`'s and `metrics`'. Nothing of the node waits for it; it goes on while the node stops, so that a load balancer reads why.
A connection that stays open for the next request was the alternative: who asks every fifteen seconds gains nothing by it.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

import h11
import trio

from .listeners import listen_tcp

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 16
"""At once; one more is closed. A scraper, a balancer and a few curious people."""

SECONDS = 5.0
"""For one connection, from its first byte to its last."""

MAX_HEAD = 8 * 1024
"""Bytes of a request: those that are served have no body."""

MAX_UNREAD = 64 * 1024
"""Bytes behind a request that are read and thrown away."""

FULL_SECONDS = 1.0
"""When no descriptor is left, accepting at once again would only fill the log."""


class Page(NamedTuple):
    """What is answered."""

    status: int
    body: bytes
    type: str = "text/plain; charset=utf-8"


Show = Callable[[], Awaitable[Page]]


class Web:
    """Bound when it is made; `run` serves until it is cancelled. `address` is where."""

    def __init__(self, address: str, pages: Mapping[str, Show]) -> None:
        self._pages = pages
        sock, self.address = listen_tcp(address)
        sock.setblocking(False)
        self._listener = trio.SocketListener(trio.socket.from_stdlib_socket(sock))
        self._served = 0

    def close(self) -> None:
        """Take no more. Closing twice is no mistake."""
        self._listener.socket.close()

    async def run(self) -> None:
        """Accept and serve."""
        async with trio.open_nursery() as nursery:
            while True:
                try:
                    stream = await self._listener.accept()
                except OSError as error:
                    log.error("cannot accept HTTP: %s", error)
                    await trio.sleep(FULL_SECONDS)
                    continue
                if self._served >= MAX_CONNECTIONS:
                    stream.socket.close()
                    continue
                self._served += 1
                nursery.start_soon(self._serve, stream)

    async def _serve(self, stream: trio.SocketStream) -> None:
        """One connection; its failures end here."""
        try:
            with trio.move_on_after(SECONDS):
                await self._talk(h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD), stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # they have gone
        except Exception:
            log.exception("an HTTP request failed")
        finally:
            self._served -= 1
            stream.socket.close()

    async def _talk(self, connection: h11.Connection, stream: trio.SocketStream) -> None:
        try:
            request = await _request(connection, stream)
        except h11.RemoteProtocolError as error:
            if connection.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                await _answer(connection, stream, Page(error.error_status_hint, f"{error}\n".encode()), False)
            return
        if request is not None:
            await _answer(connection, stream, await self._page(request), request.method == b"HEAD")

    async def _page(self, request: h11.Request) -> Page:
        path = request.target.partition(b"?")[0].decode("latin-1")
        show = self._pages.get(path)
        if show is None:
            return Page(404, f"there are {', '.join(self._pages)}\n".encode())
        if request.method not in (b"GET", b"HEAD"):
            return Page(405, b"GET or HEAD\n")
        return await show()


async def _request(connection: h11.Connection, stream: trio.SocketStream) -> h11.Request | None:
    """The one request; None when nobody asks. Raises h11.RemoteProtocolError."""
    while (event := connection.next_event()) is h11.NEED_DATA:
        connection.receive_data(await stream.receive_some(MAX_HEAD // 2))  # a whole head in one piece has no limit
    return event if isinstance(event, h11.Request) else None


async def _answer(connection: h11.Connection, stream: trio.SocketStream, page: Page, head: bool) -> None:
    headers = [("content-type", page.type), ("content-length", str(len(page.body))), ("connection", "close")]
    data = connection.send(h11.Response(status_code=page.status, headers=headers)) or b""
    if not head:
        data += connection.send(h11.Data(data=page.body)) or b""
    await stream.send_all(data)
    await stream.send_eof()
    # To close with bytes unread would reset the connection, and the answer with it.
    left = MAX_UNREAD
    while left > 0 and (more := await stream.receive_some()):
        left -= len(more)
