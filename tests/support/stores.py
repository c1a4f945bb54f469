"""The drivers of state stores, each as a test opens it, and a test's words for their operations.

A new driver is one more entry in DRIVERS: an async context manager that opens the store of a path.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from edged.core.records import (
    Entry,
    Load,
    Loaded,
    Op,
    Outcome,
    SessionKey,
    Write,
    Written,
)
from edged.daemon.stores import Store, ask, open_store
from edged.daemon.stores.mesh import Answer, MeshStore, serve
from edged.daemon.stores.sqlite import SqliteStore
from edged.daemon.timers import Timers
from edged_protocol.codec import decode, encode
from edged_protocol.messages import Error, Reply, Request
from support.redis_server import RedisServer


@asynccontextmanager
async def sqlite(path: Path) -> AsyncIterator[Store]:
    """The embedded store."""
    async with trio.open_nursery() as nursery:
        store = SqliteStore(path / "store.db")
        await nursery.start(store.run)
        yield store
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def mesh(path: Path) -> AsyncIterator[Store]:
    """The embedded store, asked by another node in real frames."""
    async with sqlite(path) as served, trio.open_nursery() as nursery:
        timers = Timers()
        nursery.start_soon(timers.run)
        store = MeshStore(over_the_wire(served), timers, deadline=60)
        await nursery.start(store.run)
        yield store
        nursery.cancel_scope.cancel()


def over_the_wire(served: Store) -> Callable[..., bool]:
    """A connection between two nodes that carries every message as the bytes of its frame."""
    token = trio.lowlevel.current_trio_token()

    def send(verb: str, params: dict[str, Any], blob: bytes | None, answer: Answer) -> bool:
        request = decode(encode(Request(1, verb, params, blob))[4:])
        assert isinstance(request, Request)

        def reply(message: Reply | Error) -> None:
            received = decode(encode(message)[4:])
            assert isinstance(received, Reply | Error)
            token.run_sync_soon(answer, received)

        serve(served, request.verb, request.params, request.blob, reply)
        return True

    return send


@asynccontextmanager
async def redis(path: Path) -> AsyncIterator[Store]:
    """A Redis server of its own, begun again with the files of its former life."""
    server = RedisServer(path / "redis").start()
    try:
        async with trio.open_nursery() as nursery:
            store = open_store(server.url, path, reach=None, timers=None)  # type: ignore[arg-type]
            await nursery.start(store.run)
            yield store
            nursery.cancel_scope.cancel()
    finally:
        server.kill()


DRIVERS: dict[str, Callable[[Path], AbstractAsyncContextManager[Store]]] = {
    "sqlite": sqlite,
    "mesh": mesh,
    "redis": redis,
}

Open = Callable[[], AbstractAsyncContextManager[Store]]

KEY = SessionKey("counter", "one")


def entry(number: int, body: bytes | None = b"", code: int = 0) -> Entry:
    """The outcome of call `number`."""
    return Entry(number.to_bytes(16, "big"), code, body, number)


def write(version: int, *results: Entry, key: SessionKey = KEY, **fields: Any) -> Write:
    """The commit of `version` of a remote-state session, on top of the version before."""
    first = Write(
        key=key,
        expect_epoch=0 if version == 1 else 1,
        expect_version=version - 1,
        epoch=1,
        version=version,
        mode="remote",
        owner=None,
        owner_boot=None,
        move=None,
        state=b"state %d" % version,
        results=results,
        keep=128,
        keep_bytes=65536,
        durable=False,
    )
    return first._replace(**fields)


async def won(store: Store, op: Op) -> Written:
    """Do `op`, which must win."""
    outcome = await ask(store, op)
    assert isinstance(outcome, Written)
    assert outcome.won
    return outcome


async def lost(store: Store, op: Op) -> Written:
    """Do `op`, which must lose."""
    outcome = await ask(store, op)
    assert isinstance(outcome, Written)
    assert not outcome.won
    return outcome


async def loaded(store: Store, key: SessionKey = KEY, asked: Any = None) -> Loaded:
    """What the store has of a session."""
    outcome = await ask(store, Load(key, asked))
    assert isinstance(outcome, Loaded)
    return outcome


async def together(store: Store, ops: list[Op]) -> list[Outcome]:
    """Submit all before any is answered."""
    outcomes: list[Outcome] = []
    finished = trio.Event()

    def done(outcome: Outcome) -> None:
        outcomes.append(outcome)
        if len(outcomes) == len(ops):
            finished.set()

    for op in ops:
        store.submit(op, done)
    assert not outcomes
    await finished.wait()
    return outcomes
