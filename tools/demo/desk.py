"""The operator's desk: `edgectl` as a program, with the very words a person would type (DESIGN §9).

Decides nothing. Refuses to know the wire.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import trio

EDGECTL = str(Path(sys.executable).with_name("edgectl"))


class DeskFailed(Exception):
    """`edgectl` ended with another exit code than 0; says which, and its messages."""


def words(*arguments: str, node: str = "", admin: str = "") -> list[str]:
    """The command line for a node at an address, or for an admin socket."""
    target = ["--admin", admin] if admin else ["--node", node]
    return [shown(EDGECTL), *target, *arguments]


def shown(path: str) -> str:
    """As it is typed where the demo was started."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path


async def run(command: list[str]) -> Any:
    """What it prints with `-o json`. Raises DeskFailed."""
    ended = await trio.run_process(
        [command[0], "-o", "json", *command[1:]],
        stdin=subprocess.DEVNULL,
        capture_stdout=True,
        capture_stderr=True,
        check=False,
    )
    if ended.returncode:
        raise DeskFailed(
            f"{' '.join(command)}: exit {ended.returncode}: {ended.stderr.decode().strip()}"
        )
    return json.loads(ended.stdout)
