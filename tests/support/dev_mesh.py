"""`edged dev` as people start it: a mesh on loopback with functions deployed, which ends well."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from support.wire_client import WireClient

FUNCTIONS = Path(__file__).parents[2] / "configs" / "functions"
PATIENCE = 60.0
"""Seconds in which it ends, on a machine with other work."""


@contextmanager
def dev_mesh(
    nodes: int, data: Path, *functions: str, options: tuple[str, ...] = (), cwd: Path | None = None
) -> Iterator[list[dict[str, Any]]]:
    """The nodes as `edged dev` tells of them, once each serves all of `functions`."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "edged.cli", "dev", "--nodes", str(nodes)),
            *("--data-dir", str(data), *options),
        ],
        cwd=cwd,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        rows: list[dict[str, Any]] = json.loads(process.stdout.readline())["nodes"]
        with closing(WireClient(rows[0]["address"], "operator")) as operator:
            for name in functions:
                served = operator.deploy(FUNCTIONS / name)["nodes"]
                assert served == [row["name"] for row in rows]
        yield rows
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
        process.stdout.close()
