"""Inside `support.kernel`: a daemon whose cgroup was handed to it, and how much of a core its containers get."""

import os
import shutil
import signal
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from support.kernel import tell
from support.nodes import Nodes, until
from support.wire_client import WireClient

BUSY = Path(__file__).parent / "functions" / "busy"
CGROUPS = Path("/sys/fs/cgroup")
OURS = CGROUPS / "edged"
SECONDS = 1.0


def hand_out() -> None:
    """As systemd does it, with what a daemon that was killed left in there; then be in it ourselves."""
    (CGROUPS / "cgroup.subtree_control").write_text("+cpu")
    OURS.mkdir()
    os.setxattr(OURS, "user.delegate", b"1")
    (OURS / "cgroup.subtree_control").write_text("+cpu")
    left = OURS / "old-1.container"
    left.mkdir()
    (left / "cgroup.type").write_text("threaded")
    (OURS / "cgroup.procs").write_text("0")
    if os.fork() == 0:
        (left / "cgroup.threads").write_text("0")
        time.sleep(1000)
    until(lambda: bool((left / "cgroup.threads").read_text()))


def deployed(client: WireClient, name: str, cpu: str) -> list[str]:
    """The busy function with a limit; what was said to that."""
    directory = Path("/mnt", name)
    shutil.copytree(BUSY, directory)
    manifest = directory / "function.toml"
    manifest.write_text(manifest.read_text().replace('"busy"', f'"{name}"', 1) + cpu)
    warnings: list[str] = client.deploy(directory)["warnings"]
    return warnings


def containers() -> list[str]:
    return sorted(path.name for path in OURS.glob("*.container"))


def share(client: WireClient, name: str) -> dict[str, Any]:
    """Of a core, of the container that is called, and how long it was made to wait for each second it computed; by the kernel's
    count."""
    client.call(name, None, "spin", 0)
    (own,) = OURS.glob(f"{name}-*.container")
    before, began = counts(own), time.monotonic()
    pid, _ = client.once(name, None, "spin", SECONDS, timeout_ms=60_000)
    took, after = time.monotonic() - began, counts(own)
    computed, waited = ((after[row] - before[row]) / 1e6 for row in ("usage_usec", "throttled_usec"))
    about = {"pid": pid, "cgroup": own.name, "max": (own / "cpu.max").read_text()}
    return {"share": computed / took, "waited": waited / computed, **about}


def counts(cgroup: Path) -> dict[str, int]:
    return {name: int(count) for name, count in map(str.split, (cgroup / "cpu.stat").read_text().splitlines())}


def held_back(client: WireClient, name: str) -> dict[str, Any]:
    """`share`, when this kernel has got enough of the machine's cores to find the limit."""
    found: list[dict[str, Any]] = []

    def is_held_back() -> bool:
        found.append(share(client, name))
        return bool(found[-1]["waited"])

    until(is_held_back)
    return found[-1]


def measured(client: WireClient) -> dict[str, Any]:
    """All that the test looks at."""
    said: dict[str, Any] = {"left": containers(), "cpu_limit": client.request("node.status", {})["cpu_limit"]}
    said["warnings"] = deployed(client, "quarter", "[limits]\ncpu = 0.25\n") + deployed(client, "whole", "")
    said["quarter"], said["whole"] = held_back(client, "quarter"), share(client, "whole")
    child = client.call("quarter", None, "leave_behind")
    said["inside"] = str(child) in (OURS / said["quarter"]["cgroup"] / "cgroup.threads").read_text().split()
    os.kill(said["quarter"]["pid"], signal.SIGKILL)
    until(lambda: said["quarter"]["cgroup"] not in containers())
    until(lambda: not Path(f"/proc/{child}/cmdline").exists() or not Path(f"/proc/{child}/cmdline").read_bytes())
    return said


def main() -> None:
    """One node, then its end; then one whose cgroup is another's."""
    hand_out()
    nodes = Nodes(Path("/mnt"))
    try:
        with closing(WireClient(nodes.start("one"), "operator")) as client:
            said = measured(client)
        with closing(WireClient(nodes.start("two", seeds=[]), "operator")) as client:
            said["second"] = client.request("node.status", {})["cpu_limit"]
            said["second_warnings"] = deployed(client, "half", "[limits]\ncpu = 0.5\n")
        nodes.signal("one", signal.SIGTERM)
        said["exit"], said["after"] = nodes.ended("one"), containers()
        tell(said)
    finally:
        nodes.close()


if __name__ == "__main__":
    main()
