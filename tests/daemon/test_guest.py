"""Trio as the guest of the hub: connections are read outside its turns, tasks run all the same."""

import signal
import socket

import pytest
import trio

from edged.daemon import guest
from edged.daemon.hub import Hub


class Echo:
    """A source that sends back what it reads, and notes whether a trio task ran meanwhile."""

    def __init__(self, hub: Hub, sock: socket.socket) -> None:
        self.hub, self.sock = hub, sock
        self.heard = trio.Event()

    def readable(self) -> None:
        self.sock.send(self.sock.recv(100))
        self.heard.set()

    def cut(self, reason: str) -> None:
        self.hub.remove(self.sock.fileno())


def test_a_connection_is_answered_and_tasks_hear_of_it() -> None:
    """What a connection brings is handled by the hub; a trio event that it sets wakes its task."""

    async def main(hub: Hub) -> bytes:
        near, far = socket.socketpair()
        with near, far, trio.fail_after(60):
            echo = Echo(hub, near)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(hub.run)
                hub.add(near.fileno(), echo)
                far.send(b"abc")
                await echo.heard.wait()
                nursery.cancel_scope.cancel()
            return far.recv(100)

    assert guest.run(main) == b"abc"


def test_the_outcome_is_that_of_the_main_task() -> None:
    """What the main task raises comes out, as `trio.run` would have it."""

    async def main(hub: Hub) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            raise ZeroDivisionError

    with pytest.raises(ExceptionGroup, match="Exceptions from Trio nursery"):
        guest.run(main)


def test_threads_and_signals_reach_tasks() -> None:
    """A task that waits for a thread, for a time or for a signal is woken though the hub waits for connections."""

    async def main(hub: Hub) -> list[object]:
        with trio.fail_after(60), trio.open_signal_receiver(signal.SIGUSR1) as signals:
            result: list[object] = [await trio.to_thread.run_sync(lambda: "from a thread")]
            await trio.sleep(0.01)
            signal.raise_signal(signal.SIGUSR1)
            async for number in signals:
                return [*result, number]
        raise AssertionError

    assert guest.run(main) == ["from a thread", signal.SIGUSR1]


def test_deadlines_are_looked_after_while_calls_are_in_flight() -> None:
    """With anything in flight the hub sweeps though no connection says anything; with nothing it rests."""

    async def main(hub: Hub) -> int:
        swept = trio.Event()
        calls = {1: "a call"}
        sweeps = 0

        def sweep() -> None:
            nonlocal sweeps
            sweeps += 1
            calls.clear()
            swept.set()

        hub.sweep, hub.in_flight = sweep, calls
        with trio.fail_after(60):
            await swept.wait()
            await trio.sleep(0.02)
        return sweeps

    assert guest.run(main) == 1
