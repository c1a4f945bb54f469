"""Sessions that nobody calls on real nodes: they leave their container, then end; one in use stays."""

from contextlib import closing
from pathlib import Path

import pytest
from support.nodes import Nodes, deploy, edgectl, served_by, until
from support.redis_server import RedisServer
from support.wire_client import WireClient

CODE = """
from edged.sdk import Function

fn = Function("wishful")

@fn.handler
def count(s):
    s.state["n"] = s.state.get("n", 0) + 1
    return s.state["n"]

@fn.handler
def wish(s):
    s.state["n"] = 100
    s.prefer("local")

@fn.shared
def peek(s):
    return s.state.get("n")
"""


def _wishful(root: Path) -> Path:
    """A counter whose sessions become local when they are asked to, and do not live long."""
    bundle = root / "wishful"
    bundle.mkdir()
    (bundle / "wishful.py").write_text(CODE)
    (bundle / "function.toml").write_text(
        '[function]\nname = "wishful"\nentry = "wishful:fn"\n[state]\nttl = "4s"\n[modes]\nmin_dwell = 0\nidle = "1s"\n'
    )
    return bundle


@pytest.mark.parametrize("store", ["sqlite", "redis"])
def test_a_session_that_nobody_calls_goes_and_one_in_use_stays(tmp_path: Path, store: str) -> None:
    """Back to the store after `idle`, with its state; ended after `ttl`, with a higher epoch when it begins again. One that
    is called between two looks keeps counting."""
    server = RedisServer(tmp_path / "redis").start() if store == "redis" else None
    nodes = Nodes(tmp_path)
    try:
        a, b = (nodes.start(name, store=server.url if server else "") for name in ("a", "b"))
        deploy(a, _wishful(tmp_path))
        for address in (a, b):
            served_by(address, "wishful", 2)
        with closing(WireClient(b)) as client:

            def local() -> bool:
                client.call("wishful", "quiet", "wish")  # again: it may have been idle for a second on its way
                return bool(client.once("wishful", "quiet", "peek")[1]["mode"] == "local")

            until(local)
            _, before = client.once("wishful", "quiet", "count")
            counts: list[int] = []
            modes: list[str | None] = []

            def gone() -> bool:
                counts.append(client.call("wishful", "busy", "count"))
                rows = {row["session"]: row["mode"] for row in edgectl(a, "sessions", "wishful")}
                modes.append(rows.get("quiet"))
                return "quiet" not in rows

            until(gone)
            assert "remote" in modes
            assert counts == list(range(1, len(counts) + 1))
            value, meta = client.once("wishful", "quiet", "count")
            assert value == 1
            assert meta["epoch"] > before["epoch"] + 1
    finally:
        nodes.close()
        if server is not None:
            server.kill()
