"""A TCP proxy between a test's client and its server, on trio: replies pass, drip, are held, or are lost."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


class Proxy:
    """Replies may be held (`hold`), let go (`pass_on`), slowed (`drip`), spoilt (`spoil`) or swallowed (`lose`); requests always pass."""

    def __init__(self, port: int) -> None:
        self._server = port
        self._may = trio.Event()
        self._may.set()
        self._lost = False
        self._pause = 0.0
        self._spoilt: list[bytes] = []
        self.port = 0

    def hold(self) -> None:
        """Replies wait here."""
        self._may = trio.Event()

    def pass_on(self) -> None:
        """Replies pass again, those that waited first."""
        self._lost = False
        self._may.set()

    def drip(self, pause: float) -> None:
        """A pause before each piece of 64 KiB or less."""
        self._pause = pause

    def spoil(self, instead: bytes, behind: int = 0) -> None:
        """Once, this comes in place of a reply: of the next one, or of a later one."""
        self._spoilt = [b""] * behind + [instead]

    @property
    def spoiling(self) -> bool:
        """Whether that is still to come."""
        return bool(self._spoilt)

    def lose(self) -> None:
        """Replies are swallowed."""
        self._lost = True

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listeners[0].socket.getsockname()[1]
        await trio.serve_listeners(self._serve, listeners, task_status=task_status)  # type: ignore[arg-type]

    async def _serve(self, client: trio.SocketStream) -> None:
        try:
            server = await trio.open_tcp_stream("127.0.0.1", self._server)
        except OSError:
            await client.aclose()
            return
        async with client, server, trio.open_nursery() as nursery:
            nursery.start_soon(self._forward, client, server, nursery.cancel_scope)
            nursery.start_soon(self._backward, server, client, nursery.cancel_scope)

    async def _forward(self, client: trio.SocketStream, server: trio.SocketStream, scope: trio.CancelScope) -> None:
        try:
            async for data in client:
                await server.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        scope.cancel()

    async def _backward(self, server: trio.SocketStream, client: trio.SocketStream, scope: trio.CancelScope) -> None:
        try:
            async for data in server:
                await self._may.wait()
                await trio.sleep(self._pause)
                instead = self._spoilt.pop(0) if self._spoilt else b""
                if not self._lost:
                    await client.send_all(instead or data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        scope.cancel()


@asynccontextmanager
async def proxy(port: int) -> AsyncIterator[Proxy]:
    """A proxy to the server at `port`."""
    async with trio.open_nursery() as nursery:
        running = Proxy(port)
        await nursery.start(running.run)
        yield running
        nursery.cancel_scope.cancel()
