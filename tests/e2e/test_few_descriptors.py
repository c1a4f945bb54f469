"""A real node that runs out of file descriptors, and containers that leave somebody behind who keeps theirs."""

import resource
from contextlib import closing
from pathlib import Path

import pytest
from support.nodes import Nodes, deploy, until
from support.wire_client import WireClient

from edged_protocol.errors import CallError

SLEEPER = Path(__file__).parents[1] / "support" / "functions" / "sleeper"
CALLS = 24

HEIRS = """
import os, time

from edged.sdk import Function

fn = Function("heirs", state=dict)

@fn.handler
def leave(s):
    s.state["n"] = 1
    if os.fork() == 0:
        os.setsid()
        time.sleep(30)
    os._exit(0)

@fn.handler
def peek(s):
    return s.state.get("n", 0)
"""


def open_of(pid: int) -> int:
    """The highest descriptor that a process has open."""
    return max(int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir())


def test_a_node_without_descriptors_serves_on_with_what_it_has(tmp_path: Path) -> None:
    """Each call is answered, those for which no container could be started with 1xx; the next ones run."""
    bundle, nodes = tmp_path / "sleeper", Nodes(tmp_path)
    bundle.mkdir()
    (bundle / "sleeper.py").write_text((SLEEPER / "sleeper.py").read_text())
    manifest = '[function]\nname = "sleeper"\nentry = "sleeper:fn"\n[pool]\nmax = 32\n[calls]\ndeadline = "20s"\n'
    (bundle / "function.toml").write_text(manifest)
    try:
        address = nodes.start("a")
        deploy(address, bundle)
        with closing(WireClient(address)) as client, closing(WireClient(address, "operator")):
            pid = nodes.pid("a")
            few = open_of(pid) + 1 + 13
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (few, few))
            codes = set()
            for number in [client.send("sleeper", None, "sleep", 0.2, timeout_ms=20_000) for _ in range(CALLS)]:
                try:
                    client.outcome(number)
                except CallError as error:
                    codes.add(error.code // 100)
            assert codes <= {1}
            assert client.call("sleeper", None, "sleep", 0.0) == "a"
            until(lambda: "no descriptors for a container" in nodes.said("a"))
    finally:
        nodes.close()


@pytest.mark.parametrize("mode", ["remote", "local"])
def test_the_end_of_a_container_is_seen_though_its_socket_stays_open(tmp_path: Path, mode: str) -> None:
    """A child that has left its process group keeps the socket: the call is 402 all the same, and the next one runs."""
    bundle, nodes = tmp_path / "heirs", Nodes(tmp_path)
    bundle.mkdir()
    (bundle / "heirs.py").write_text(HEIRS)
    (bundle / "function.toml").write_text('[function]\nname = "heirs"\nentry = "heirs:fn"\n')
    try:
        address = nodes.start("a")
        deploy(address, bundle)
        with closing(WireClient(address)) as client, closing(WireClient(address, "operator")) as operator:
            if mode == "local":
                operator.request("session.localize", {"function": "heirs", "session": "s"})
            with pytest.raises(CallError) as caught:
                client.once("heirs", "s", "leave", timeout_ms=15_000)
            assert caught.value.code == 402
            assert client.call("heirs", "s", "peek") == 0
    finally:
        nodes.close()
