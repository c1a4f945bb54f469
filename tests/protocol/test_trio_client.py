"""The trio front on real sockets: waiting, cancelling, many tasks, brokers that come and go."""

import socket
from pathlib import Path
from typing import Any

import pytest
import trio
from support.socket_broker import Question, SocketBroker, Talk, echo, listener_of, narrow_listener

from edged_protocol import messages as m
from edged_protocol.client import Client
from edged_protocol.codec import encode, pack, unpack
from edged_protocol.errors import CallError, Code, RanError, UnknownOutcome
from edged_protocol.tickets import Unreachable
from edged_protocol.trio_client import connect

PATIENCE = 60.0
"""Seconds for anything that has to happen, on a machine with other work."""


async def until(holds: Any) -> None:
    """Wait for a condition."""
    with trio.fail_after(PATIENCE):
        while not holds():  # noqa: ASYNC110 - what it looks at happens in other threads
            await trio.sleep(0.005)


def silent(talk: Talk, asked: Question) -> None:
    """Never answer."""


async def test_calls_verbs_and_streams_pass() -> None:
    """A value, an answer with what the mesh said, a verb with a byte string, the items of a stream."""

    def script(talk: Talk, asked: Question) -> None:
        if isinstance(asked, m.Request) and asked.verb == "function.logs":
            talk.say(*(m.Item(asked.id, n, False) for n in (1, 2)), m.Item(asked.id, None, True))
        else:
            echo(talk, asked)

    with SocketBroker(script) as broker:
        async with connect([broker.address], name="t", role="operator", token="k") as mesh:
            assert await mesh.session("f", "s").call("m", {"x": b"\0"}) == {"x": b"\0"}
            answer = await mesh.function("f").invoke("m", 7, timeout=PATIENCE, call_id=b"i" * 16)
            assert (answer.value, answer.node, answer.call_id) == (7, "n1", b"i" * 16)
            assert await mesh.request("v", {"a": 1}, b"blob") == ({"a": 1}, b"blob")
            assert [item async for item in mesh.stream("function.logs", {})] == [1, 2]
        (talk,) = broker.talks
        hello, first, second, *_ = talk.got
        assert isinstance(hello, m.Hello)
        assert hello.info == {"proto": 1, "role": "operator", "name": "t", "token": "k"}
        assert isinstance(first, m.Invoke)
        assert isinstance(second, m.Invoke)
        assert (first.session, second.session) == ("s", None)


@pytest.mark.parametrize("family", ["unix", "v6"])
async def test_unix_sockets_and_ipv6_lead_there(family: str, tmp_path: Path) -> None:
    """`unix:/path` and `[v6]:port`."""
    with SocketBroker(listener=listener_of(family, tmp_path)) as broker:
        async with connect([broker.address], name="t") as mesh:
            assert await mesh.function("f").call("m", 1) == 1


class Resolver(trio.abc.HostnameResolver):
    """Every name leads to these ports of loopback, in this order."""

    def __init__(self, *ports: int) -> None:
        self.ports = ports

    async def getaddrinfo(self, host: Any, port: Any, *more: Any, **named: Any) -> Any:
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*kind, ("127.0.0.1", port)) for port in self.ports]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> Any:
        raise NotImplementedError


async def test_a_name_is_tried_address_by_address() -> None:
    """When the first address of a name refuses, the next one is tried."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        refusing = closed.getsockname()[1]
    with SocketBroker() as broker:
        serving = int(broker.address.rpartition(":")[2])
        trio.socket.set_custom_hostname_resolver(Resolver(refusing, serving))
        async with connect(["edge.example:7400"], name="t") as mesh:
            assert await mesh.function("f").call("m", 1) == 1


async def test_nobody_there_is_unreachable_at_once() -> None:
    """When each broker refused, nobody waits for the timeout; the message names each."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    with trio.fail_after(PATIENCE), pytest.raises(Unreachable, match=address):
        async with connect([address, "unix:/nowhere/x.sock"], name="t", timeout=3600.0):
            raise AssertionError("there is no broker")


async def test_errors_of_the_body_come_out_as_they_are() -> None:
    """No exception group around a CallError or the caller's own exception."""

    def script(talk: Talk, asked: Question) -> None:
        talk.say(m.Error(asked.id, 302, "done already"))

    with SocketBroker(script) as broker:
        with pytest.raises(RanError) as caught:
            async with connect([broker.address], name="t") as mesh:
                await mesh.session("f", "s").call("m")
        assert caught.value.code == 302
        with pytest.raises(KeyError):
            async with connect([broker.address], name="t"):
                raise KeyError


async def test_many_tasks_share_one_connection_and_few_writes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """500 calls of 500 tasks are answered over one connection; those begun together leave in one write."""
    writes: list[int] = []
    take = Client.take

    def counted(client: Client, line: int) -> bytes:
        data = take(client, line)
        writes.append(len(data))
        return data

    monkeypatch.setattr(Client, "take", counted)
    values: list[int] = []
    with SocketBroker(max_inflight=256) as broker:
        async with connect([broker.address], name="t") as mesh, trio.open_nursery() as nursery:

            async def one(n: int) -> None:
                values.append(await mesh.session("f", f"s{n}").call("m", n, timeout=PATIENCE))

            for n in range(500):
                nursery.start_soon(one, n)
        assert sorted(values) == list(range(500))
        assert len(broker.talks) == 1
    smallest = len(encode(m.Invoke(1, "f", "s1", "m", b"i" * 16, 20_000, b"\x91\1")))
    assert max(writes) > 200 * smallest


async def test_a_repeat_wakes_a_sleeping_clock() -> None:
    """A call on an idle connection is repeated when the broker said, not when the clock would wake anyway."""
    asked_before: list[Question] = []

    def script(talk: Talk, asked: Question) -> None:
        asked_before.append(asked)
        if len(asked_before) == 1:
            talk.say(m.Error(asked.id, 103, "moving", {"retry_after_ms": 10}))
        else:
            echo(talk, asked)

    with SocketBroker(script) as broker:
        async with connect([broker.address], name="t") as mesh:
            await until(lambda: mesh._alarm > trio.current_time() + 3)
            with trio.fail_after(PATIENCE):
                assert await mesh.function("f").call("m", 1, timeout=2.0) == 1


async def test_a_cancelled_caller_is_gone_at_once() -> None:
    """Its scope ends, the broker gets CANCEL, a late answer hurts nobody, and others go on."""
    with SocketBroker(silent) as broker:
        async with connect([broker.address], name="t") as mesh:
            with trio.move_on_after(PATIENCE) as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(mesh.session("f", "s").call, "m")
                    await until(lambda: broker.talks and len(broker.talks[0].got) == 2)
                    nursery.cancel_scope.cancel()
            assert not scope.cancelled_caught
            (talk,) = broker.talks
            await until(lambda: m.Cancel(1) in talk.got)
            assert mesh.statistics().open == 0
            talk.say(m.Result(1, pack("late")))
            broker.script = echo
            assert await mesh.session("f", "s").call("m", "next") == "next"


async def test_a_call_in_a_cancelled_scope_is_not_sent() -> None:
    """Who is cancelled before asking has asked nothing."""
    with SocketBroker() as broker:
        async with connect([broker.address], name="t") as mesh:
            with trio.CancelScope() as scope:
                scope.cancel()
                await mesh.session("f", "s").call("m", 1)
            assert await mesh.session("f", "s").call("m", 2) == 2
        asked = [message for message in broker.talks[0].got if isinstance(message, m.Invoke)]
        assert [unpack(call.body) for call in asked] == [[2]]


async def test_a_silent_broker_costs_the_timeout() -> None:
    """Past deadline and margin the outcome is unknown: 401."""
    with SocketBroker(silent) as broker:
        async with connect([broker.address], name="t") as mesh:
            with pytest.raises(UnknownOutcome, match="401"):
                await mesh.session("f", "s").call("m", timeout=0.05)


async def test_a_lost_broker_is_replaced_while_calls_are_in_flight() -> None:
    """50 calls in flight at a broker that dies are answered by the next, under the same ids, as second attempts."""
    got: list[m.Invoke] = []

    def takes(talk: Talk, asked: Question) -> None:
        assert isinstance(asked, m.Invoke)
        got.append(asked)

    with SocketBroker() as second, SocketBroker(takes) as first:
        async with connect([first.address, second.address], name="t") as mesh:
            values: list[int] = []
            async with trio.open_nursery() as nursery:

                async def one(n: int) -> None:
                    values.append(await mesh.session("f", f"s{n}").call("m", n, timeout=PATIENCE))

                for n in range(50):
                    nursery.start_soon(one, n)
                await until(lambda: len(got) == 50)
                first.close()
            assert sorted(values) == list(range(50))
            assert mesh.statistics().connections == 2
        again = {
            asked.call_id: asked for asked in second.talks[0].got if isinstance(asked, m.Invoke)
        }
        assert set(again) == {asked.call_id for asked in got}
        assert all(asked.meta == {"attempt": 1} for asked in again.values())


async def test_a_broker_that_comes_back_is_found() -> None:
    """With one address only, calls wait for it to be served again, inside their time."""
    with SocketBroker() as broker:
        address = broker.address
        async with connect([address], name="t") as mesh:
            assert await mesh.function("f").call("m", 1) == 1
            broker.close()
            await until(lambda: mesh.statistics().broker is None)
            with pytest.raises(Unreachable, match=address):
                await mesh.function("f").call("m", 2, timeout=0.1)
            host, port = address.split(":")
            back = socket.create_server((host, int(port)), reuse_port=False)
            with SocketBroker(listener=back):
                assert await mesh.function("f").call("m", 3, timeout=PATIENCE) == 3
                mesh._close()


async def test_a_large_body_passes_a_small_socket() -> None:
    """What the socket does not take at once follows when it does, whole and in order."""
    body = bytes(range(256)) * 4000
    with SocketBroker(listener=narrow_listener()) as broker:
        async with connect([broker.address], name="t") as mesh:
            values: list[bytes] = []
            async with trio.open_nursery() as nursery:

                async def one(n: int) -> None:
                    sent = bytes([n]) + body
                    values.append(await mesh.function("f").call("m", sent, timeout=PATIENCE))

                for n in range(8):
                    nursery.start_soon(one, n)
            assert sorted(values) == [bytes([n]) + body for n in range(8)]


async def test_a_stream_left_early_is_cancelled() -> None:
    """`aclose` tells the broker; the mesh serves on."""

    def script(talk: Talk, asked: Question) -> None:
        if isinstance(asked, m.Request):
            talk.say(m.Item(asked.id, "x", False))
        else:
            echo(talk, asked)

    with SocketBroker(script) as broker:
        async with connect([broker.address], name="t") as mesh:
            stream = mesh.stream("function.logs", {"follow": True})
            assert await anext(stream) == "x"
            await stream.aclose()
            await until(lambda: m.Cancel(1) in broker.talks[0].got)
            assert await mesh.function("f").call("m", 1) == 1


async def test_a_mesh_outlived_by_its_users_says_so() -> None:
    """A task that waits when the block ends gets an error, and nothing can be asked afterwards."""
    ended: list[CallError] = []
    with SocketBroker(silent) as broker:
        async with trio.open_nursery() as nursery:
            async with connect([broker.address], name="t") as mesh:

                async def outside() -> None:
                    try:
                        await mesh.session("f", "s").call("m")
                    except CallError as error:
                        ended.append(error)

                nursery.start_soon(outside)
                await until(lambda: broker.talks and len(broker.talks[0].got) == 2)
        assert [error.code for error in ended] == [Code.NODE_LOST]
        with pytest.raises(Unreachable, match="closed"):
            await mesh.session("f", "s").call("m")
