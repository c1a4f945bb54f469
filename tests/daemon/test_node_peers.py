"""What a node believes of those it is connected to, and of those it was."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from edged.core.routing import Router
from edged.daemon.link import Link
from edged.daemon.node import Node
from edged.daemon.peers import Peers

SAID = {
    "node": "n2",
    "address": "127.0.0.1:7411",
    "labels": [],
    "containers": [0, 8],
    "sessions": 0,
    "functions": ["f"],
    "state": "alive",
    "followed": {"f": 1},
}
"""What n2 says of itself."""


def link() -> Link:
    """A connection to n2, as far as is looked at it."""
    return cast(Link, SimpleNamespace(name="n2", info=cast(Any, {})))


@pytest.mark.parametrize("back", [False, True])
def test_what_was_said_over_a_lost_connection_counts_no_more(tmp_path: Path, back: bool) -> None:
    """Its last words are taken in by a task, which may run when the connection is gone, or another one is there: nobody would
    contradict that a node which is away runs the function."""
    router, links = Router("n1"), {"n2": link()} if back else {}
    node = SimpleNamespace(name="n1", data_dir=tmp_path, router=router, relay=SimpleNamespace(peers=links))
    peers = Peers(cast(Node, node))
    peers.introduced(link(), SAID)
    assert router.nodes_for("f") == []
    links["n2"] = link()
    peers.introduced(links["n2"], SAID)
    assert router.nodes_for("f") == ["n2"]
