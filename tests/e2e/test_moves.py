"""What a session takes along when it moves, and how a node that stops lets go of its sessions."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.dev_mesh import FUNCTIONS, dev_mesh
from support.wire_client import WireClient

from edged_protocol.blocking import connect
from edged_protocol.errors import NotRunRetry

EDGED = [sys.executable, "-m", "edged.cli"]


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[dict[str, Any]]]:
    """Three nodes with counter and echo, their data below a relative path."""
    folder = tmp_path_factory.mktemp("mesh")
    with dev_mesh(3, Path("data"), "counter", "echo", cwd=folder) as nodes:
        yield nodes


def test_remembered_answers_of_any_size_move_along(mesh: list[dict[str, Any]]) -> None:
    """A session whose remembered answers exceed what a frame may hold beside its blob migrates."""
    operator = WireClient(mesh[0]["address"], "operator")
    device = WireClient(mesh[0]["address"])
    key = {"function": "echo", "session": "large"}
    operator.request("session.localize", {**key, "to": "dev-1"})
    ids = [os.urandom(16) for _ in range(100)]
    for call_id in ids:
        device.once("echo", "large", "", call_id.hex() * 60, call_id=call_id)
    moved = operator.request("session.migrate", {**key, "to": "dev-2"})
    assert (moved["node"], moved["version"]) == ("dev-2", 100)
    again, meta = device.once("echo", "large", "", "other", call_id=ids[0], attempt=1)
    assert again == ids[0].hex() * 60
    assert meta["version"] <= 100
    operator.close()
    device.close()


def test_sessions_are_listed_to_the_last_one(mesh: list[dict[str, Any]]) -> None:
    """`edgectl sessions` shows every session, however many pages and however long the keys."""
    names = {f"{n:03}-" + "k" * 200 for n in range(300)}
    with connect([mesh[1]["address"]], name="many") as client:
        for pending in [client.session("counter", name).start("incr", 1) for name in names]:
            assert pending.result() == 1
    listed = subprocess.run(
        [
            *(sys.executable, "-m", "edgectl.cli"),
            *("--node", mesh[2]["address"], "-o", "json", "sessions", "counter"),
        ],
        capture_output=True,
        check=True,
    )
    rows = json.loads(listed.stdout)
    assert len(rows) == len({row["session"] for row in rows})
    assert names <= {row["session"] for row in rows}


def _node(directory: Path) -> tuple[subprocess.Popen[bytes], str]:
    config = directory / "edged.toml"
    config.write_text(
        f'[node]\nname = "alone"\ndata_dir = "{directory}/data"\n[listen]\naddress = "127.0.0.1:0"\n'
    )
    read, write = os.pipe()
    process = subprocess.Popen(
        [*EDGED, "run", "--config", str(config)],
        env={**os.environ, "EDGED_READY_FD": str(write)},
        pass_fds=[write],
        start_new_session=True,
    )
    os.close(write)
    with os.fdopen(read) as ready:
        return process, ready.readline().strip()


def test_a_local_session_survives_a_graceful_stop(tmp_path: Path) -> None:
    """SIGTERM loses no acknowledged call of a local session; what comes behind GOAWAY is refused."""
    process, address = _node(tmp_path)
    with closing(WireClient(address, "operator")) as operator:
        operator.deploy(FUNCTIONS / "counter")
        operator.request("session.localize", {"function": "counter", "session": "s", "to": "alone"})
        for counted in range(1, 501):
            assert operator.call("counter", "s", "incr", 1) == counted
        process.send_signal(signal.SIGTERM)
        with pytest.raises((NotRunRetry, ConnectionError)) as ended:
            while operator.call("counter", "s", "incr", 1) == counted + 1:
                counted += 1
    assert getattr(ended.value, "code", 102) == 102
    assert process.wait(60) == 0
    process, address = _node(tmp_path)
    with closing(WireClient(address, "operator")) as operator:
        assert operator.call("counter", "s", "get") == counted
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
