"""Functions that are programs of their own (SPEC "Containers"), in a real mesh."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.dev_mesh import dev_mesh
from support.wire_client import WireClient

from edged_protocol.errors import CallError

FUNCTIONS = Path(__file__).parents[1] / "support" / "functions"

GROWING = """\
[function]
name = "growing"
entry = "growing"
runtime = "exec"
[state]
max_bytes = 64
"""


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[dict[str, Any]]]:
    """Two nodes."""
    with dev_mesh(2, tmp_path_factory.mktemp("mesh")) as nodes:
        yield nodes


def test_a_session_of_a_c_program_goes_everywhere(mesh: list[dict[str, Any]], tmp_path: Path) -> None:
    """Deployed, called in both modes, moved and saved like any other; a reader counts as none."""
    bundle = tmp_path / "exec-c"
    shutil.copytree(FUNCTIONS / "exec-c", bundle)
    subprocess.run(["gcc", "-o", bundle / "counter", bundle / "counter.c"], check=True)
    key = {"function": "exec-c", "session": "s"}
    with closing(WireClient(mesh[0]["address"], "operator")) as operator:
        assert operator.deploy(bundle)["nodes"] == ["dev-1", "dev-2"]
        seen = [operator.once("exec-c", "s", "incr", 3)]
        operator.request("session.localize", {**key, "to": "dev-1"})
        seen += [operator.once("exec-c", "s", "incr", 4), operator.once("exec-c", "s", "get")]
        operator.request("session.migrate", {**key, "to": "dev-2"})
        seen.append(operator.once("exec-c", "s", ""))
        operator.request("session.externalize", key)
        seen += [operator.once("exec-c", "s", "get"), operator.once("exec-c", "s", "incr")]
    assert [value for value, _ in seen] == [3, 7, 7, 8, 8, 9]
    assert [meta["mode"] for _, meta in seen] == ["remote", "local", "local", "local", "remote", "remote"]
    assert [meta["version"] for _, meta in seen] == [1, 2, 2, 3, 3, 4]


def test_a_program_that_cannot_be_started_is_no_version(mesh: list[dict[str, Any]], tmp_path: Path) -> None:
    """A deploy is refused, with the reason, when the program is missing or may not be executed."""
    (tmp_path / "function.toml").write_text(GROWING)
    with closing(WireClient(mesh[0]["address"], "operator")) as operator:
        with pytest.raises(CallError, match="growing: No such file or directory") as missing:
            operator.deploy(tmp_path)
        (tmp_path / "growing").write_text("#!/bin/sh\n")
        with pytest.raises(CallError, match="growing: Permission denied"):
            operator.deploy(tmp_path)
    assert missing.value.code == 201


def test_no_program_leaves_a_larger_state_than_its_function_may(
    mesh: list[dict[str, Any]], tmp_path: Path
) -> None:
    """A program is told `max_bytes`; one that does not heed it is answered 205, and nothing has changed."""
    (tmp_path / "function.toml").write_text(GROWING)
    source = (FUNCTIONS / "exec-python" / "counter.py").read_text()
    program = tmp_path / "growing"
    large = source.replace("new = pack(state)", 'new = pack(state) + bytes(max(0, state - 1) * int(os.environ["EDGED_MAX_STATE"]))')
    assert large != source
    program.write_text(large)
    program.chmod(0o755)
    with closing(WireClient(mesh[0]["address"], "operator")) as operator:
        operator.deploy(tmp_path)
        assert operator.once("growing", "s", "incr", 1)[0] == 1
        with pytest.raises(CallError, match="the new state takes 73 bytes, 64 are allowed") as refused:
            operator.once("growing", "s", "incr", 1)
        assert refused.value.code == 205
        assert operator.once("growing", "s", "get")[0] == 1
