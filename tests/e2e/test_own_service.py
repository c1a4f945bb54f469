"""A function that keeps its state in a service of its developer's own while the session is remote-state (DESIGN §8)."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support.nodes import Nodes, deploy
from support.shelf import Shelf
from support.wire_client import WireClient

from edged_protocol.errors import CallError

NAMES = {"function": "shelved", "session": "s"}


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    running = Shelf()
    yield running
    running.close()


def test_the_hooks_are_run_at_each_change_of_mode_until_they_succeed(nodes: Nodes, tmp_path: Path, shelf: Shelf) -> None:
    """download at localize, upload at externalize, each with the session's epoch. One that fails refuses the move with the reason,
    and the session goes on where it was; asked again it is run again, at no lower epoch."""
    function = tmp_path / "shelved"
    function.mkdir()
    (function / "code.py").write_text(shelf.code)
    (function / "function.toml").write_text('[function]\nname = "shelved"\nentry = "code:fn"\n[modes]\nmin_dwell = "0s"\n')
    address = nodes.start("a")
    deploy(address, function)
    shelf.states["s"] = {"n": 40}
    with closing(WireClient(address, "operator")) as operator, closing(WireClient(address)) as device:

        def refused(move: str) -> str:
            with pytest.raises(CallError) as caught:
                operator.request(f"session.{move}", NAMES)
            return str(caught.value)

        assert device.call("shelved", "s", "incr") == 1
        shelf.closed = True
        assert "503" in refused("localize")
        assert device.once("shelved", "s", "incr")[1]["mode"] == "remote"
        shelf.closed = False
        operator.request("session.localize", NAMES)
        assert [device.call("shelved", "s", "incr") for _ in range(2)] == [41, 42]
        shelf.closed = True
        assert "503" in refused("externalize")
        value, meta = device.once("shelved", "s", "incr")
        assert (value, meta["mode"]) == (43, "local")
        assert shelf.states["s"] == {"n": 40}
        shelf.closed = False
        operator.request("session.externalize", NAMES)
        assert shelf.states["s"] == {"n": 43}
        value, meta = device.once("shelved", "s", "incr")
        assert (value, meta["mode"]) == (44, "remote")
    hooks = [(hook, done) for hook, _, done in shelf.asked]
    assert hooks == [("download", False), ("download", True), ("upload", False), ("upload", True)]
    epochs = [epoch for _, epoch, _ in shelf.asked]
    assert 0 < epochs[0] < epochs[1] == epochs[2] == epochs[3] < meta["epoch"]
