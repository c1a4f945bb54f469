"""Readers beside a running writer, on a real node: they come back while it runs, with what was committed before it."""

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.nodes import Nodes, deploy, until
from support.wire_client import WireClient

CASES = [("plain", "remote"), ("waits", "remote"), ("waits", "local"), ("plain", "local")]

CODE = """
import os, time
from edged.sdk import Function
{imports}
fn = Function("{name}")

@fn.handler
{define} hold(s, begun, until):
    s.state["n"] = s.state.get("n", 0) + 1
    s.state.setdefault("list", []).append(s.state["n"])
    open(begun, "w").close()
    while not os.path.exists(until):
        {sleep}(0.01)
    return s.state["n"]

@fn.shared
def seen(s):
    n = s.state.get("n", 0), list(s.state.get("list", []))
    s.state["n"] = -1
    s.state.setdefault("list", []).append("dirt")
    return n
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A node with `plain`, whose writer blocks its container, and `waits`, whose writer awaits."""
    root = tmp_path_factory.mktemp("readers")
    nodes = Nodes(root)
    at = nodes.start("a")
    kinds: dict[str, dict[str, Any]] = {
        "plain": {"imports": "", "define": "def", "sleep": "time.sleep"},
        "waits": {"imports": "import trio", "define": "async def", "sleep": "await trio.sleep"},
    }
    for name, words in kinds.items():
        bundle = root / name
        bundle.mkdir()
        (bundle / "function.toml").write_text(f'[function]\nname = "{name}"\nentry = "code:fn"\n')
        (bundle / "code.py").write_text(CODE.format(name=name, **words))
        deploy(at, bundle)
    yield at
    nodes.close()


@pytest.mark.parametrize(("function", "mode"), CASES)
def test_readers_run_beside_a_writer(address: str, tmp_path: Path, function: str, mode: str) -> None:
    """While a writer runs a reader is answered with the version before it, and after it with its own."""
    begun, until_ = tmp_path / "begun", tmp_path / "until"
    with closing(WireClient(address, "operator")) as client, closing(WireClient(address)) as other:
        if mode == "local":
            client.request("session.localize", {"function": function, "session": mode, "to": "a"})
        until_.touch()
        assert client.call(function, mode, "hold", str(begun), str(until_)) == 1
        assert client.call(function, mode, "seen") == [1, [1]]
        begun.unlink()
        until_.unlink()
        writer = threading.Thread(target=other.call, args=(function, mode, "hold", str(begun), str(until_)))
        writer.start()
        until(begun.exists)
        for _ in range(5):
            assert client.once(function, mode, "seen")[0] == [1, [1]]
        until_.touch()
        writer.join()
        value, meta = client.once(function, mode, "seen")
        assert value == [2, [1, 2]]
        assert (meta["mode"], meta["version"]) == (mode, 2)
