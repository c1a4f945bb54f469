"""What the tests of the daemon's parts begin with: stores of all drivers, a Redis, a host of real containers."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trio
from support.hosts import Rig, adopting, children
from support.redis_server import RedisServer
from support.stores import DRIVERS, Open


@pytest.fixture(params=sorted(DRIVERS))
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens the driver's store; a second time, what the first left behind."""
    return lambda: DRIVERS[request.param](tmp_path)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server with a log of writes."""
    server = RedisServer(tmp_path / "redis").start()
    yield server
    server.kill()


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    """A host that runs as long as the test; afterwards no child is left."""
    rig, before = Rig(), children()
    with adopting():
        async with trio.open_nursery() as nursery:
            await nursery.start(rig.host.run)
            yield rig
            nursery.cancel_scope.cancel()
        rig.close()
        assert children() == before
