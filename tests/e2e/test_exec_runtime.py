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


LIAR = """

class Liar(Counter):
    def serve(self):
        while len(head := self.stream.read(4)) == 4:
            message = Unpacker(self.stream.read(struct.unpack(">I", head)[0])).value()
            if message[0] == 16:
                self.invoke(*message[1:])
            elif message[0] == 32:
                self.send([33, message[1], {}])

    def invoke(self, id_, _f, _s, method, _c, _t, body, *rest):
        if method == "large":
            return self.send([17, id_, bytes(1 << 21), {}])
        if method == "claims":
            junk = {"load": [1], "epoch": "x", "node": 5, "home": "n9", "remembered": True, "run_us": "-"}
            return self.send([17, id_, pack(1), junk])
        if method.startswith("says_"):
            return self.send([18, id_, int(method[5:]), "a lie", {"retry_after_ms": 1, "state_lost": True, "home": "n9"}])
        super().invoke(id_, _f, _s, method, _c, _t, body, *rest)


Liar(socket.socket(fileno=int(os.environ["EDGED_FD"]))).serve()
"""


def test_a_program_cannot_speak_for_the_mesh(mesh: list[dict[str, Any]], tmp_path: Path) -> None:
    """Codes that say what a node did, and meta that only nodes say, come to nobody: the call counts as failed in the
    function; an answer that a device could not read costs the container. In every mode what follows is served."""
    program = (FUNCTIONS / "exec-python" / "counter.py").read_text().rpartition("\n\n\n")[0]
    (tmp_path / "liar").write_text(program + LIAR)
    (tmp_path / "liar").chmod(0o755)
    (tmp_path / "function.toml").write_text('[function]\nname = "liar"\nentry = "liar"\nruntime = "exec"\n')
    with closing(WireClient(mesh[0]["address"], "operator")) as operator:
        operator.deploy(tmp_path)

        def answer(session: str | None, method: str) -> tuple[Any, dict[str, Any]]:
            try:
                return operator.once("liar", session, method)
            except CallError as error:
                return error.code, error.meta

        for session in (None, "remote", "local"):
            assert answer(session, "incr")[0] == 1
            if session == "local":
                operator.request("session.localize", {"function": "liar", "session": session})
            for code in (101, 102, 107, 204, 404, 500, 99_999, *([] if session == "local" else [103])):
                said, meta = answer(session, f"says_{code}")
                assert (said, meta["type"]) == (301, "ContainerError"), code
                assert not {"retry_after_ms", "state_lost", "home"} & set(meta)
            assert not {"load", "home", "remembered"} & set(answer(session, "claims")[1])
            assert answer(session, "claims")[1]["node"].startswith("dev-")
            assert answer(session, "large")[0] == 402
            assert answer(session, "incr")[0] >= 1
