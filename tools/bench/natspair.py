"""NATS request/reply with its own Python client, as a neighbour in the table.

`natspair.py respond URL` answers every request with its own payload; `natspair.py drive URL` reads lines
`IN_FLIGHT SECONDS` and prints what one such round showed as JSON. As many tasks as calls in flight, each with
one request at a time: the way the client is meant to be used. Both print one line when they are ready.
"""

import asyncio
import importlib.util
import json
import os
import shutil
import socket
import sys
import time
from pathlib import Path
from typing import Protocol

from generator import Round
from processes import HERE, Children, said

SUBJECT, PAYLOAD = "bench.echo", b"x" * 128
START_SECONDS = 5.0
HOW = "apt install nats-server && .venv/bin/pip install nats-py"


def missing() -> str:
    """What is not there, or nothing."""
    lacks = [] if server_program() else ["nats-server"]
    if importlib.util.find_spec("nats") is None:
        lacks.append("nats-py")
    return " and ".join(lacks)


def server_program() -> str | None:
    """Debian keeps it where only root's PATH looks."""
    return shutil.which("nats-server", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


class Pair:
    """A server, a responder and a client, each a process of its own."""

    def __init__(self, children: Children, address: str) -> None:
        host, _, port = address.rpartition(":")
        server = server_program() or "nats-server"
        children.start([server, "-a", host, "-p", port], log=Path(os.devnull), pipes=False)
        until_listening(address)
        url = f"nats://{address}"
        program = [sys.executable, str(HERE / "natspair.py")]
        said(children.start([*program, "respond", url]))
        self._client = children.start([*program, "drive", url])
        said(self._client)

    def drive(self, in_flight: int, seconds: float) -> Round:
        """One round of load. Raises RuntimeError."""
        assert self._client.stdin is not None
        self._client.stdin.write(f"{in_flight} {seconds}\n".encode())
        self._client.stdin.flush()
        calls, elapsed, latencies = json.loads(said(self._client))
        return Round(calls, {}, elapsed, latencies)


def until_listening(address: str) -> None:
    """Raises OSError."""
    host, _, port = address.rpartition(":")
    stop = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection((host, int(port)), 1).close()
            return
        except OSError:
            if time.monotonic() > stop:
                raise
            time.sleep(0.02)


class Message(Protocol):
    """Of nats-py, which need not be there: a request."""

    reply: str
    data: bytes


class Asks(Protocol):
    """Of nats-py's connection."""

    async def request(self, subject: str, payload: bytes, timeout: float) -> object: ...


async def respond(url: str) -> None:
    """Serve until killed."""
    import nats

    connection = await nats.connect(url)

    async def answer(message: Message) -> None:
        await connection.publish(message.reply, message.data)

    await connection.subscribe(SUBJECT, cb=answer)
    await connection.flush()
    print("ready", flush=True)
    await asyncio.Event().wait()


async def drive(url: str) -> None:
    """Serve rounds until stdin ends."""
    import nats

    connection = await nats.connect(url)
    await connection.request(SUBJECT, PAYLOAD, timeout=5)
    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        in_flight, seconds = line.split()
        result = await load(connection, int(in_flight), float(seconds))
        print(json.dumps([result.calls, result.elapsed, result.latencies]), flush=True)


async def load(connection: Asks, in_flight: int, seconds: float) -> Round:
    """One round."""
    latencies: list[int] = []
    now = time.perf_counter_ns
    began = now()
    stop = began + int(seconds * 1e9)

    async def one_by_one() -> None:
        sent = now()
        while sent < stop:
            await connection.request(SUBJECT, PAYLOAD, timeout=5)
            answered = now()
            latencies.append(answered - sent)
            sent = answered

    await asyncio.gather(*(one_by_one() for _ in range(in_flight)))
    return Round(len(latencies), {}, now() - began, sorted(latencies))


if __name__ == "__main__":
    role, server_url = sys.argv[1:]
    asyncio.run({"respond": respond, "drive": drive}[role](server_url))
