"""What the tests of edgectl share."""

import socket
from collections.abc import Iterator

import pytest
from fake_broker import FakeBroker


@pytest.fixture
def broker() -> Iterator[FakeBroker]:
    """A broker on a free loopback port."""
    with FakeBroker(socket.create_server(("127.0.0.1", 0))) as fake:
        yield fake
