"""`[state] schema`: what becomes of sessions when a version with another form of the state is deployed."""

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.nodes import Nodes, deploy, edgectl, served_by, until
from support.wire_client import WireClient

from edged_protocol.errors import NotRun

HEAD = """
from edged.sdk import Function

fn = Function("form", state=dict)

@fn.handler
def count(s) -> list:
    s.state[NAME] = s.state.get(NAME, 0) + 1
    return [SCHEMA, s.state[NAME]]

@fn.shared
def peek(s) -> list:
    return [SCHEMA, s.state.get(NAME, 0)]
"""
UPGRADE = """
@fn.upgrade
def up(value, schema):
    assert schema == 1
    return {"count": value["n"]}
"""
FIRST = (1, "n", "")
SECOND = (2, "count", UPGRADE)
WITHOUT = (2, "count", "")


def version(root: Path, form: tuple[int, str, str], more: str = "") -> Path:
    """A version whose state has that schema, with its count under a name of its own."""
    schema, name, upgrade = form
    directory = root / f"form-{schema}-{len(upgrade)}-{len(more)}"
    directory.mkdir()
    (directory / "form.py").write_text(f"SCHEMA, NAME = {schema}, {name!r}\n{HEAD}{upgrade}")
    state = f"[state]\nschema = {schema}\n"
    (directory / "function.toml").write_text(f'[function]\nname = "form"\nentry = "form:fn"\n{state}{more}')
    return directory


def session(name: str) -> dict[str, str]:
    return {"function": "form", "session": name}


def stored(operator: WireClient, name: str) -> tuple[int, int]:
    """The schema and the version that the record has."""
    said = operator.request("session.get", session(name))
    return said["schema"], said["stored_version"]


def refused(device: WireClient, name: str, method: str = "count") -> str:
    with pytest.raises(NotRun) as caught:
        device.once("form", name, method)
    assert caught.value.code == 207
    return caught.value.message


def test_a_new_version_upgrades_what_an_older_one_stored(nodes: Nodes, tmp_path: Path) -> None:
    """In both modes, also by a reader, and where it moves to another node before anything is stored; the count goes on. The older
    version, deployed once more, is told of no state that it would not understand."""
    first, second = nodes.start("n1"), nodes.start("n2")
    deploy(first, version(tmp_path, FIRST, '[modes]\nmin_dwell = "0s"\n'))
    served_by(first, "form", 2)
    with closing(WireClient(first, "operator")) as operator, closing(WireClient(second)) as device:
        for name in ("remote", "local", "quiet"):
            assert device.call("form", name, "count") == [1, 1]
        operator.request("session.localize", {**session("local"), "to": "n1"})
        assert device.call("form", "local", "count") == [1, 2]
        said = operator.deploy(version(tmp_path, SECOND, '[modes]\nmin_dwell = "0s"\n'))
        assert said["warnings"] == []
        assert device.call("form", "remote", "peek") == [2, 1]
        assert stored(operator, "remote") == (1, 1)
        assert device.call("form", "remote", "count") == [2, 2]
        assert stored(operator, "remote") == (2, 2)
        until(lambda: device.call("form", "local", "peek") == [2, 2])  # once idle it moves to the new version
        operator.request("session.localize", {**session("quiet"), "to": "n1"})
        operator.request("session.migrate", {**session("quiet"), "to": "n2"})
        operator.request("session.externalize", session("quiet"))
        assert device.call("form", "quiet", "count") == [2, 2]
        operator.request("session.localize", {**session("quiet"), "to": "n1"})
        assert device.call("form", "quiet", "count") == [2, 3]
        operator.request("session.externalize", session("quiet"))
        assert stored(operator, "quiet") == (2, 3)
        edgectl(first, "rollback", "form")
        assert "has schema 2, this version of its function 1" in refused(device, "remote")
        assert stored(operator, "remote") == (2, 2)
        assert device.call("form", "fresh", "count") == [1, 1]


def test_without_an_upgrade_nothing_runs_on_an_older_state(nodes: Nodes, tmp_path: Path) -> None:
    """Calls and a localize are answered 207 at once and change nothing; a local session stays with the version that understands
    it, a new one begins in the new form, and after a rollback all go on."""
    address = nodes.start("n1")
    deploy(address, version(tmp_path, FIRST))
    with closing(WireClient(address, "operator")) as operator, closing(WireClient(address)) as device:
        for name in ("remote", "local"):
            assert device.call("form", name, "count") == [1, 1]
        operator.request("session.localize", session("local"))
        operator.deploy(version(tmp_path, WITHOUT))
        for method in ("count", "peek"):
            assert "has 2 and no upgrade" in refused(device, "remote", method)
        with pytest.raises(NotRun, match="has 2 and no upgrade"):
            operator.request("session.localize", session("remote"))
        until(lambda: "local does not move to the new version" in nodes.said("n1"))
        assert device.call("form", "fresh", "count") == [2, 1]
        assert device.call("form", "local", "count") == [1, 2]
        assert stored(operator, "remote") == (1, 1)
        edgectl(address, "rollback", "form")
        assert device.call("form", "remote", "count") == [1, 2]


@pytest.mark.parametrize("modes", ['allow = ["local"]', 'start = "local"'])
def test_a_function_that_begins_local_is_refused_likewise(nodes: Nodes, tmp_path: Path, modes: str) -> None:
    """Its container is there before the record is read, and goes again: 207, and the record is remote-state as before."""
    address = nodes.start("n1")
    deploy(address, version(tmp_path, FIRST))
    more = f"[modes]\n{modes}\n"
    with closing(WireClient(address, "operator")) as operator, closing(WireClient(address)) as device:
        assert device.call("form", "a", "count") == [1, 1]
        operator.deploy(version(tmp_path, WITHOUT, more))
        assert "no upgrade" in refused(device, "a")
        assert operator.request("session.get", session("a"))["mode"] == "remote"


def test_calls_that_wait_for_the_first_container_are_refused_by_its_word(nodes: Nodes, tmp_path: Path) -> None:
    """Before a container has said whether its version upgrades nobody knows; a program that speaks the protocol and says nothing
    of upgrades gets no older state."""
    address = nodes.start("n1")
    deploy(address, version(tmp_path, FIRST))
    with closing(WireClient(address, "operator")) as operator, closing(WireClient(address)) as device:
        assert device.call("form", "a", "count") == [1, 1]
        source = Path(__file__).parents[1] / "support" / "functions" / "exec-python"
        directory = tmp_path / "exec"
        directory.mkdir()
        for file in source.iterdir():
            if file.is_file():
                target = directory / file.name
                target.write_bytes(file.read_bytes())
                target.chmod(file.stat().st_mode)
        manifest = directory / "function.toml"
        named: Any = manifest.read_text().replace('name = "exec-python"', 'name = "form"')
        manifest.write_text(f"{named}\n[state]\nschema = 2\n")
        operator.deploy(directory)
        ids = [device.send("form", "a", "", timeout_ms=20_000) for _ in range(3)]
        for id_ in ids:
            with pytest.raises(NotRun, match="no upgrade"):
                device.outcome(id_)
