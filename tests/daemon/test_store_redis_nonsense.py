"""The Redis store where there is no Redis, or one whose words are garbled."""

import socket

import pytest
import trio
from support.redis_server import RedisServer
from support.redis_store import failed, opened, until, usable, version_of, won, write
from support.tcp_proxy import proxy


@pytest.mark.parametrize("says", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", None, b"$-7\r\n%\r\n", b"*3\r\n:1\r\n" * 999, b"-ERR no\r\n"])
async def test_whatever_is_no_redis_is_not_used(says: bytes | None) -> None:
    """A peer that answers nonsense, hangs up or is silent: refused with a reason, and the daemon goes on."""

    async def serve(stream: trio.SocketStream) -> None:
        with trio.CancelScope():
            await stream.receive_some()
            if says is None:
                await trio.sleep_forever()
            await stream.send_all(says or b"")
            await stream.aclose()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        port = listeners[0].socket.getsockname()[1]
        async with opened(f"redis://127.0.0.1:{port}") as store:
            refused = await failed(store, write("a", 1))
            assert refused.applied is False
            assert store.statistics().problem
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("says", [b"$x\r\n", b":1e5\r\n", b"=5\r\nabcde\r\n", b"\xff\xff\r\n", b"*2\r\n$1\r\na\r\n?\r\n", b"-\xff\r\n"])
async def test_nonsense_costs_the_connection_only(server: RedisServer, says: bytes) -> None:
    """Whatever comes in place of a reply: what was under way is unknown, and a new connection serves."""
    async with proxy(server.port) as line, opened(f"redis://127.0.0.1:{line.port}") as store:
        await won(store, write("a", 1))
        line.spoil(says)
        assert (await failed(store, write("a", 2))).applied is None
        await until(lambda: store.statistics().lives == 2)
        assert await version_of(store, "a") in (1, 2)


@pytest.mark.parametrize("behind", range(6))
async def test_nonsense_in_a_greeting_is_no_server(server: RedisServer, behind: int) -> None:
    """At whichever step of it: that connection is not used, the next one is."""
    async with proxy(server.port) as line:
        line.spoil(b"$x\r\n", behind)
        async with opened(f"redis://127.0.0.1:{line.port}") as store:
            await until(lambda: not line.spoiling and usable(store)())
            await won(store, write("a", 1))


async def test_nonsense_in_place_of_the_role_is_no_crash(server: RedisServer) -> None:
    """The look at the server that the store takes by itself meets nonsense: a new connection, no more."""
    async with proxy(server.port) as line, opened(f"redis://127.0.0.1:{line.port}") as store:
        line.spoil(b"$x\r\n")
        await until(lambda: store.statistics().lives == 2)
        await won(store, write("a", 1))


async def test_a_name_that_leads_nowhere_is_said() -> None:
    """No server at all: the node serves without its store, and says why."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    async with opened(f"redis://127.0.0.1:{port}") as store:
        assert "refused" in (await failed(store, write("a", 1))).reason
