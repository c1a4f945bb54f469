"""The way to the "cloud": a TCP proxy that makes every byte as late as a long line would, and every datagram.

Each chunk leaves a fixed time after it came, in order, whatever else is under way: the line delays, it does
not limit what it carries. Sleeping per chunk was the alternative not taken: it would add up and so throttle.
Datagrams pass towards the target only: nodes answer them at the address of who asked.
Counts bytes and frames (a 4-byte length each, DESIGN §4), and refuses to know what they mean.
"""

import sys
from contextlib import suppress
from functools import partial
from typing import NamedTuple

import trio

CHUNK = 64 * 1024
"""Bytes taken at once."""

ON_THE_LINE = 1024
"""Chunks of one direction on their way; 64 MiB in 10 ms is faster than loopback, so it never throttles."""

Chunk = tuple[float, bytes]
"""When it is due, and its bytes; none of them is the end of the stream."""


class Traffic(NamedTuple):
    """What has been carried so far; `up` is towards the target."""

    connections: int
    open: int
    bytes_up: int
    bytes_down: int
    frames_up: int
    frames_down: int


class FrameCounter:
    """Counts the frames of a stream, cut anywhere."""

    def __init__(self) -> None:
        self.frames = 0
        self.bytes = 0
        self._left = 0
        self._header = b""

    def feed(self, data: bytes) -> None:
        """Count `data`; a frame counts with its header."""
        self.bytes += len(data)
        at = 0
        while at < len(data):
            if self._left:
                step = min(self._left, len(data) - at)
                self._left -= step
            else:
                step = min(4 - len(self._header), len(data) - at)
                self._header += data[at : at + step]
                if len(self._header) == 4:
                    self._left = int.from_bytes(self._header, "big")
                    self._header = b""
                    self.frames += 1
            at += step


class DelayProxy:
    """Listens at `address` and carries every connection to `target`, `delay` seconds each way."""

    def __init__(self, target: tuple[str, int], delay: float) -> None:
        self.target = target
        self._delay = delay
        self._connections = self._open = 0
        self._counters: list[tuple[FrameCounter, FrameCounter]] = []
        self.address = ""

    def traffic(self) -> Traffic:
        """What it has carried."""
        ups, downs = [up for up, _ in self._counters], [down for _, down in self._counters]
        return Traffic(
            self._connections,
            self._open,
            sum(counter.bytes for counter in ups),
            sum(counter.bytes for counter in downs),
            sum(counter.frames for counter in ups),
            sum(counter.frames for counter in downs),
        )

    async def run(self, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; started with its address, "host:port"."""
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.address = "{}:{}".format(*listeners[0].socket.getsockname())
        with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as datagrams:
            await datagrams.bind(listeners[0].socket.getsockname())
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.serve_listeners, self._serve, listeners)
                send, receive = trio.open_memory_channel[Chunk](ON_THE_LINE)
                nursery.start_soon(self._take_datagrams, datagrams, send)
                nursery.start_soon(self._give_datagrams, receive, datagrams)
                task_status.started(self.address)

    async def _take_datagrams(
        self, near: trio.socket.SocketType, line: trio.MemorySendChannel[Chunk]
    ) -> None:
        while True:
            data = await near.recv(CHUNK)
            with suppress(trio.WouldBlock):  # a full line loses some, as lines do
                line.send_nowait((trio.current_time() + self._delay, data))

    async def _give_datagrams(
        self, line: trio.MemoryReceiveChannel[Chunk], near: trio.socket.SocketType
    ) -> None:
        async for due, data in line:
            await trio.sleep_until(due)
            with suppress(OSError):
                await near.sendto(data, self.target)

    async def _serve(self, near: trio.SocketStream) -> None:
        self._connections += 1
        self._open += 1
        counters = FrameCounter(), FrameCounter()
        self._counters.append(counters)
        try:
            async with near, await trio.open_tcp_stream(*self.target) as far:
                await self._carry(near, far, counters)
        except* (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            pass  # one end broke: leaving closes the other, as a line that is cut does
        finally:
            self._open -= 1

    async def _carry(
        self,
        near: trio.SocketStream,
        far: trio.SocketStream,
        counters: tuple[FrameCounter, FrameCounter],
    ) -> None:
        async with trio.open_nursery() as nursery:
            for source, sink, counter in ((near, far, counters[0]), (far, near, counters[1])):
                send, receive = trio.open_memory_channel[Chunk](ON_THE_LINE)
                nursery.start_soon(partial(self._take, source, send, counter))
                nursery.start_soon(partial(self._give, receive, sink))

    async def _take(
        self, source: trio.SocketStream, line: trio.MemorySendChannel[Chunk], counter: FrameCounter
    ) -> None:
        data = b"first"
        while data:
            data = await source.receive_some(CHUNK)
            due = trio.current_time() + self._delay
            counter.feed(data)
            await line.send((due, data))

    async def _give(self, line: trio.MemoryReceiveChannel[Chunk], sink: trio.SocketStream) -> None:
        async for due, data in line:
            await trio.sleep_until(due)
            if not data:
                await sink.send_eof()
                return
            await sink.send_all(data)


async def _alone(target: tuple[str, int], delay: float) -> None:
    async with trio.open_nursery() as nursery:
        print(await nursery.start(DelayProxy(target, delay).run), flush=True)


if __name__ == "__main__":  # proxy.py HOST PORT SECONDS prints its address and serves until it is ended
    trio.run(_alone, (sys.argv[1], int(sys.argv[2])), float(sys.argv[3]))
