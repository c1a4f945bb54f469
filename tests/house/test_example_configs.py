"""The configurations that are shipped: complete, true to the code, and right as a mesh."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edged.config import SCHEMA, load_config, parse_config

CONFIGS = Path(__file__).parents[2] / "configs"
REFERENCE = CONFIGS / "edged.toml"
MESHES = sorted((CONFIGS / "meshes").iterdir())
CONTRACT = {
    "node": {"name", "data_dir", "labels"},
    "listen": {"address", "advertise", "admin", "http"},
    "mesh": {"name", "discovery", "seeds"},
    "store": {"url"},
    "capacity": {"containers", "memory"},
    "security": {"insecure"},
}
OWN_DEFAULT = re.compile(r"^# (name = .*)$", re.MULTILINE)
"""The one setting whose default is the machine's: shown, and left to the machine."""


def keys(source: str) -> dict[str, set[str]]:
    """Which settings a file gives, by section."""
    return {section: set(values) for section, values in tomllib.loads(source).items()}


def test_the_reference_says_the_defaults() -> None:
    """A node started with configs/edged.toml is the node started with an empty file."""
    assert load_config(REFERENCE) == parse_config("")


def test_the_reference_has_every_setting_and_no_other() -> None:
    """What the parser knows stands in configs/edged.toml, the host's own name as an example."""
    source, examples = OWN_DEFAULT.subn(r"\1", REFERENCE.read_text())
    parse_config(source)
    assert examples == 1
    assert keys(source) == {section: set(fields) for section, fields in SCHEMA.items()}


def test_every_setting_has_its_reason() -> None:
    """Each line of configs/edged.toml that sets something stands under a comment."""
    lines = REFERENCE.read_text().splitlines()
    bare = [
        line
        for above, line in zip(lines, lines[1:], strict=False)
        if re.match(r"(# )?[a-z_]+ = ", line) and not above.startswith("# ")
    ]
    assert bare == []


def test_the_settings_of_the_contract_are_known() -> None:
    """Sections and keys that programs outside the project write stay."""
    for section, names in CONTRACT.items():
        assert names <= set(SCHEMA[section]), section


@pytest.mark.parametrize("mesh", MESHES, ids=lambda path: path.name)
def test_an_example_mesh_is_one(mesh: Path) -> None:
    """Names differ, the mesh is the same, and every store is the one that some node keeps."""
    configs = [load_config(file) for file in sorted(mesh.glob("*.toml"))]
    assert len({config.node.name for config in configs}) == len(configs)
    assert len({config.listen.advertise or config.listen.address for config in configs}) == len(
        configs
    )
    assert len({config.mesh.name for config in configs}) == 1
    (keeper,) = [c.node.name for c in configs if c.store.url == "sqlite:"]
    assert {c.store.url for c in configs} <= {"sqlite:", f"mesh:{keeper}"}
    for config in configs:
        others = {c.listen.advertise or c.listen.address for c in configs if c is not config}
        assert others <= set(config.mesh.seeds)


@contextlib.contextmanager
def running(files: list[Path]) -> Iterator[None]:
    """A node of each file, from when all of them serve."""
    processes, ready = [], []
    try:
        for file in files:
            read, write = os.pipe()
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "edged.cli", "run", "--config", str(file)],
                    env={**os.environ, "EDGED_READY_FD": str(write)},
                    pass_fds=[write],
                )
            )
            os.close(write)
            ready.append(read)
        for read in ready:
            with os.fdopen(read) as pipe:
                assert pipe.readline()
        yield
        for process in processes:
            process.send_signal(signal.SIGTERM)
        assert [process.wait(60) for process in processes] == [0] * len(files)
    finally:
        for process in processes:
            process.kill()
            process.wait()


def edgectl(address: str, *args: str) -> Any:
    """The answer of one command, as the operator's program prints it."""
    done = subprocess.run(
        [sys.executable, "-m", "edgectl.cli", "--node", address, "-o", "json", *args],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return json.loads(done.stdout)


def wait_for(holds: Callable[[], bool]) -> None:
    """Until `holds()` does; each look at it is a program of its own, so there is no rest between."""
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline


def on_loopback(text: str, name: str, tmp_path: Path, network: str) -> str:
    """A board's file with what is its own replaced: addresses, and directories only root may write."""
    text = text.replace("0.0.0.0", f"{network}.{name.removeprefix('pi-')}")
    text = re.sub(r"pi-(\d)\.local", rf"{network}.\1", text)
    text = text.replace("[listen]", f'[listen]\nadmin = "{tmp_path}/{name}.sock"')
    return text.replace("[node]", f'[node]\ndata_dir = "{tmp_path}/{name}"')


def test_three_pis_serve_a_function_together(tmp_path: Path) -> None:
    """The example mesh works as it stands: one deploy reaches all, and any node takes the call."""
    pid = os.getpid()
    network = f"127.{pid >> 8 & 255}.{pid & 255}"
    files = []
    for source in sorted((CONFIGS / "meshes" / "three-pis").glob("*.toml")):
        files.append(tmp_path / source.name)
        files[-1].write_text(on_loopback(source.read_text(), source.stem, tmp_path, network))
    nodes = [f"{network}.{n}:7400" for n in (1, 2, 3)]
    with running(files):
        for node in nodes:
            wait_for(lambda node=node: len(edgectl(node, "nodes")) == 3)  # type: ignore[misc]
        edgectl(nodes[0], "deploy", str(CONFIGS / "functions" / "counter"))
        for node in nodes:
            wait_for(lambda node=node: edgectl(node, "functions") != [])  # type: ignore[misc]
        values = [edgectl(node, "call", "counter/arm-7", "incr")["result"] for node in nodes]
    assert values == [1, 2, 3]
