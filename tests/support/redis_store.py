"""The Redis store on a server of the test's own, asked in few words."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

from edged.core.records import Entry, Load, Loaded, SessionKey, StoreFailed, Write, Written
from edged.core.store_url import RedisUrl, parse_store_url
from edged.daemon.stores import Store, ask
from edged.daemon.stores.redis import RedisStore
from support.redis_server import PATIENCE


def write(session: str, version: int, durable: bool = True, state: bytes = b"s", number: int = 0) -> Write:
    """The commit of `version` on top of the one before, with one result."""
    call = Entry((number or version).to_bytes(16, "big"), 0, b"", version)
    epoch = 1 if version > 1 else 0
    rest = (1, version, "remote", None, None, None, state, (call,), 1024, 65536, durable)
    return Write(SessionKey("f", session), epoch, version - 1, *rest)  # type: ignore[arg-type]


@asynccontextmanager
async def opened(url: str, deadline: float = PATIENCE) -> AsyncIterator[RedisStore]:
    """The store at `url`."""
    parsed = parse_store_url(url)
    assert isinstance(parsed, RedisUrl)
    async with trio.open_nursery() as nursery:
        store = RedisStore(parsed, deadline)
        with trio.fail_after(PATIENCE):
            await nursery.start(store.run)
        yield store
        nursery.cancel_scope.cancel()


async def until(holds: Callable[[], bool]) -> None:
    """Wait for something that comes by itself."""
    with trio.fail_after(PATIENCE):
        while not holds():  # noqa: ASYNC110 - another process does it
            await trio.sleep(0.01)


def usable(store: Store) -> Callable[[], bool]:
    """Whether it says that it can be used."""
    return lambda: store.statistics().problem is None


async def version_of(store: Store, session: str) -> int:
    """Of a session; 0 where there is none."""
    outcome = await ask(store, Load(SessionKey("f", session)))
    assert isinstance(outcome, Loaded)
    return outcome.record.version if outcome.record is not None else 0


async def won(store: Store, op: Write) -> None:
    """Do `op`, which must win."""
    outcome = await ask(store, op)
    assert isinstance(outcome, Written)
    assert outcome.won


async def failed(store: Store, op: Write) -> StoreFailed:
    """Do `op`, which must fail."""
    outcome = await ask(store, op)
    assert isinstance(outcome, StoreFailed)
    return outcome
