"""Real daemons on loopback, each of which a test may stop, kill and start again."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from edgectl.cli import main as program
from support.lan_hosts import Host
from support.wire_client import WireClient

COUNTER = Path(__file__).parents[2] / "configs" / "functions" / "counter"
PATIENCE = 60.0
"""Seconds for anything, on a machine with other work."""


class Nodes:
    """Real daemons by name; the first serves the store, and each seeks those that were started before."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.addresses: dict[str, str] = {}

    def start(
        self,
        name: str,
        *command: str,
        containers: int = 32,
        memory: str = "0B",
        seeds: list[str] | None = None,
        keys: list[str] | None = None,
        host: Host | None = None,
        mesh: str = "edged",
        labels: list[str] | None = None,
        stop_at: str = "",
        lease: str = "15s",
        store: str = "",
        listen: str = "127.0.0.1:0",
        refused: bool = False,
        called: str = "",
    ) -> str:
        """Start a node, again with what its former life left; its address. On a `host` of a LAN it listens
        everywhere and seeks by mDNS, and by seeds that are given only. It stops at the steps `stop_at` (`stopped`).
        One that is to be `refused` may end before it serves: then there is no address. It may be `called` as another one."""
        data, first = self._root / name, next(iter(self.addresses), name)
        data.mkdir(exist_ok=True)
        store = store or ("sqlite:" if first == name else f"mesh:{first}")
        if host is not None:
            seeds = seeds or []
        elif seeds is None:
            seeds = [address for other, address in self.addresses.items() if other != name]
        config = self._root / f"{name}.toml"
        config.write_text(
            f'[node]\nname = "{called or name}"\ndata_dir = "{data}"\nlabels = {labels or []}\n'.replace("'", '"')
            + f'[listen]\naddress = "{host.listens if host else listen}"\nadmin = "{data}/admin.sock"\n'
            + f'[mesh]\nname = "{mesh}"\nseeds = {seeds}\nlease = "{lease}"\n'.replace("'", '"')
            + f'[store]\nurl = "{store}"\n'
            f'[capacity]\ncontainers = {containers}\nmemory = "{memory}"\n'
            + f"[security]\ninsecure = {str(host is not None).lower()}\ngossip_keys = {keys or []}\n".replace("'", '"')
        )
        program = [*(host.inside if host else ()), sys.executable, *(command or ("-m", "edged.cli"))]
        address = self._launch(name, [*program, "run", "--config", str(config)], stop_at)
        assert address or refused, f"{name} has ended: {self.said(name)[-2000:]}"
        self.addresses[name] = host.address if host and address else address
        return self.addresses[name]

    def _launch(self, name: str, command: list[str], stop_at: str) -> str:
        """Where it serves, as soon as it does; "" when it has ended instead."""
        read, write = os.pipe()
        with (self._root / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                command,
                env={**os.environ, "EDGED_READY_FD": str(write), "EDGED_TEST_STOP": stop_at},
                pass_fds=[write],
                stderr=log,
                start_new_session=True,
            )
        os.close(write)
        with os.fdopen(read) as ready:
            return ready.readline().strip()

    def signal(self, name: str, number: int) -> None:
        self._processes[name].send_signal(number)

    def pid(self, name: str) -> int:
        return self._processes[name].pid

    def stopped(self, name: str) -> bool:
        """Whether it has reached a step that it was told to stop at."""
        stat = Path(f"/proc/{self._processes[name].pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] == "T"

    def ended(self, name: str) -> int:
        """Wait for its end; the exit code."""
        return self._processes[name].wait(PATIENCE)

    def ends_within(self, name: str, seconds: float) -> bool:
        """Whether it ends in that time."""
        try:
            self._processes[name].wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def said(self, name: str) -> str:
        """Its log, of all its lives."""
        return (self._root / f"{name}.log").read_text()

    def remembers(self, name: str, others: list[str]) -> bool:
        """Whether it has written down all these, but for itself."""
        file = self._root / name / "peers"
        data = file.read_bytes() if file.exists() else b""
        return all(other.encode() in data for other in others if other != name)

    def close(self) -> None:
        for process in self._processes.values():
            process.kill()
            process.wait()


def until(holds: Callable[[], object]) -> None:
    """Wait for something another process does."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def deploy(address: str, directory: Path) -> None:
    with closing(WireClient(address, "operator")) as operator:
        operator.deploy(directory)


def edgectl(address: str, *words: str) -> Any:
    """One command; its JSON document, of events each as one. Run in this process: it asks a real node all the same, and
    who asks again and again does not wait for interpreters."""
    told, complaint = StringIO(), StringIO()
    with redirect_stdout(told), redirect_stderr(complaint):
        code = program.main(["--node", address, "-o", "json", *words], "edgectl", standalone_mode=False)
    assert not code, complaint.getvalue()
    said = json.loads(told.getvalue())
    return said if words[0] != "events" else [json.dumps(item) for item in said]


def events(address: str) -> list[tuple[str, str, str]]:
    """What all nodes have seen of others: who, what, of whom."""
    items = [json.loads(line) for line in edgectl(address, "events")]
    return [(i["node"], i["event"], i["peer"]) for i in items if i.get("peer")]


def served_by(address: str, function: str, count: int) -> None:
    """Wait until the node at `address` knows that so many nodes run the function."""
    with closing(WireClient(address, "operator")) as operator:

        def all_run() -> bool:
            rows = {row["name"]: row["nodes"] for row in operator.request("function.list", {})}
            return len(rows.get(function, ())) == count

        until(all_run)
