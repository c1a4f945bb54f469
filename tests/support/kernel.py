"""A Linux kernel of a test's own, as a process (user-mode Linux), on this machine's files: for what only root may do to a
kernel that nobody else uses, such as handing out cgroups."""

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SUPPORT = Path(__file__).parent
MARK = "told: "
"""Before the one line of the console that is the program's answer."""


def run_in_kernel(program: str) -> Any:
    """What `tell` was given by a module of these tests that ran there as root; files can be written in /mnt only."""
    linux = shutil.which("linux.uml")
    if linux is None:
        must = os.environ.get("CI") and platform.machine() == "x86_64"
        assert not must, "linux.uml is missing in CI: install the Debian package user-mode-linux"
        pytest.skip("NOT TESTED FOR LACK OF linux.uml: apt-get install user-mode-linux, which is there for PCs")
    told = {"PYTHON": sys.executable, "TESTS": SUPPORT.parent, "PROGRAM": program, "PATH": os.environ["PATH"]}
    command = [linux, "mem=512M", "rootfstype=hostfs", "rootflags=/", "ro", f"init={SUPPORT / 'kernel_init.sh'}"]
    command += ["con=null", "con0=null,fd:1", "quiet", *(f"{name}={value}" for name, value in told.items())]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False)
    lines = [line for line in ended.stdout.splitlines() if line.startswith(MARK)]
    assert len(lines) == 1, ended.stdout[-4000:]
    return json.loads(lines[0].removeprefix(MARK))


def tell(answer: Any) -> None:
    """From the inside."""
    sys.stdout.write(f"{MARK}{json.dumps(answer)}\n")
