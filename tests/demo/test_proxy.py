"""The delay proxy: late, in order, whole, and nothing else."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

PATIENCE = 60.0


async def echo(stream: trio.SocketStream) -> None:
    """Send everything back, then the end."""
    async for data in stream:
        await stream.send_all(data)
    await stream.send_eof()


@asynccontextmanager
async def line(delay: float, handler: Any = echo) -> AsyncIterator[Any]:
    """A proxy in front of `handler`; everything within a generous deadline."""
    from proxy import DelayProxy

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(trio.serve_tcp, handler, 0)
            proxy = DelayProxy(("127.0.0.1", listeners[0].socket.getsockname()[1]), delay)
            await nursery.start(proxy.run)
            yield proxy
            nursery.cancel_scope.cancel()


async def dial(proxy: Any) -> trio.SocketStream:
    """A connection through the proxy."""
    host, _, port = proxy.address.rpartition(":")
    return await trio.open_tcp_stream(host, int(port))


async def exactly(stream: trio.SocketStream, count: int) -> bytes:
    """So many bytes, or fewer at the end of the stream."""
    data = bytearray()
    while more := await stream.receive_some(min(65536, count - len(data))):
        data += more
        if len(data) == count:
            break
    return bytes(data)


async def test_a_round_trip_takes_the_delay_twice() -> None:
    """No answer comes earlier than 20 ms after its question, 10 ms being one way."""
    async with line(0.010) as proxy, await dial(proxy) as stream:
        for _ in range(20):
            began = trio.current_time()
            await stream.send_all(b"?")
            assert await exactly(stream, 1) == b"?"
            assert trio.current_time() - began >= 0.020


async def test_delays_do_not_add_up() -> None:
    """Many chunks under way at once arrive one delay late, not one delay each."""
    delay, size = 0.3, 8 << 20
    async with line(delay) as proxy, await dial(proxy) as stream, trio.open_nursery() as nursery:
        began = trio.current_time()
        nursery.start_soon(stream.send_all, b"\xff" * size)
        assert len(await exactly(stream, size)) == size
        in_turn = size / (64 * 1024) * delay
        assert 2 * delay <= trio.current_time() - began < in_turn / 2


async def test_bytes_keep_their_order() -> None:
    """What comes out is what went in, whatever the sizes of the writes; looked at behind one line only."""
    sent = b"".join(n.to_bytes(4, "big") for n in range(100_000))
    sizes = [1, 3, 1000, 7, 70_000, 2, 30_000]
    came = bytearray()

    async def keep(stream: trio.SocketStream) -> None:
        async for data in stream:
            came.extend(data)
        await stream.send_all(b".")

    async with line(0.005, keep) as proxy, await dial(proxy) as stream:
        at = turn = 0
        while at < len(sent):
            size = sizes[turn % len(sizes)]
            await stream.send_all(sent[at : at + size])
            at, turn = at + size, turn + 1
        await stream.send_eof()
        assert await exactly(stream, 1) == b"."
    assert bytes(came) == sent


async def test_half_close_goes_through() -> None:
    """An end sent one way reaches the other side after the data; the answer still comes back."""

    async def count(stream: trio.SocketStream) -> None:
        total = 0
        async for data in stream:
            total += len(data)
        await stream.send_all(str(total).encode())
        await stream.aclose()

    async with line(0.010, count) as proxy, await dial(proxy) as stream:
        await stream.send_all(bytes(200_000))
        await stream.send_eof()
        assert await exactly(stream, 100) == b"200000"


async def test_many_connections_do_not_mix() -> None:
    """Sixty connections at once: each gets its own bytes back, all are counted, none stays."""
    async with line(0.010) as proxy:

        async def one(number: int) -> None:
            said = number.to_bytes(2, "big") * 2000
            async with await dial(proxy) as stream:
                await stream.send_all(said)
                assert await exactly(stream, len(said)) == said

        async with trio.open_nursery() as nursery:
            for number in range(60):
                nursery.start_soon(one, number)
        while proxy.traffic().open:  # noqa: ASYNC110 - under the deadline of `line`
            await trio.sleep(0.01)
        traffic = proxy.traffic()
        assert traffic.connections == 60
        assert traffic.bytes_up == traffic.bytes_down == 60 * 4000


async def test_a_broken_end_costs_its_own_connection_only() -> None:
    """A server that aborts, and one that is not there, end that connection; the proxy serves on."""

    async def abort_first(stream: trio.SocketStream) -> None:
        if await stream.receive_some(1) == b"x":
            linger = b"\1\0\0\0\0\0\0\0"  # on, 0 s: close with a reset
            stream.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, linger)
            await stream.aclose()
        else:
            await echo(stream)

    async with line(0.005, abort_first) as proxy:
        async with await dial(proxy) as stream:
            await stream.send_all(b"x")
            with pytest.raises((trio.BrokenResourceError, EOFError)):
                if not await stream.receive_some(1):
                    raise EOFError
        port, proxy.target = proxy.target, ("127.0.0.1", 1)
        async with await dial(proxy) as stream:
            with pytest.raises((trio.BrokenResourceError, EOFError)):
                if not await stream.receive_some(1):
                    raise EOFError
        proxy.target = port
        async with await dial(proxy) as stream:
            await stream.send_all(b"yes")
            assert await exactly(stream, 2) == b"es"


@pytest.mark.parametrize("step", [1, 2, 3, 5, 11, 1000])
def test_frames_are_counted_at_any_cut(step: int) -> None:
    """A frame counts once its length is there, wherever the stream was cut; an empty one too."""
    from proxy import FrameCounter

    frames = [b"", b"a", b"bc" * 9, bytes(300)]
    stream = b"".join(len(frame).to_bytes(4, "big") + frame for frame in frames)
    counter = FrameCounter()
    for at in range(0, len(stream), step):
        counter.feed(stream[at : at + step])
    assert (counter.frames, counter.bytes) == (len(frames), len(stream))


async def test_datagrams_come_late_as_well() -> None:
    """What is sent to the proxy's port arrives at the target's, not before its delay."""
    with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as far:
        async with line(0.010) as proxy:
            await far.bind(proxy.target)
            host, _, port = proxy.address.rpartition(":")
            with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as near:
                began = trio.current_time()
                await near.sendto(b"one", (host, int(port)))
                assert await far.recv(100) == b"one"
                assert trio.current_time() - began >= 0.010
