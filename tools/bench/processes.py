"""Child processes of a measurement.

Every child leads a process group of its own; all groups are ended when the `with` ends, whatever ended it.
"""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

HERE = Path(__file__).parent
START_SECONDS = 20.0
STOP_SECONDS = 12.0
"""After SIGTERM; a node takes up to ten to finish. Then SIGKILL."""

ENDING = {signal.SIGINT, signal.SIGTERM, signal.SIGALRM}
"""What must not come between while the children are ended."""

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def _end_with_parent() -> None:
    """In the child: not even SIGKILL of the measurement leaves it behind (Linux)."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Children:
    """`start` them; leaving the `with` ends them."""

    def __init__(self) -> None:
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "Children":
        return self

    def __exit__(self, *_: object) -> None:
        held = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        try:
            self._end()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)

    def _end(self) -> None:
        for process in self._running:
            signal_group(process, signal.SIGTERM)
        stop = time.monotonic() + STOP_SECONDS
        for process in reversed(self._running):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, stop - time.monotonic()))
            signal_group(process, signal.SIGKILL)
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()

    def start(
        self, command: Sequence[str], *, log: Path | None = None, pipes: bool = True
    ) -> subprocess.Popen[bytes]:
        """Run `command`, its stdin and stdout as pipes if wanted, its messages in `log`."""
        messages = log.open("wb") if log else None
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
                stdout=subprocess.PIPE if pipes else messages,
                stderr=messages,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
        finally:
            if messages is not None:
                messages.close()
        self._running.append(process)
        return process

    @property
    def pids(self) -> list[int]:
        """In the order in which they were started."""
        return [process.pid for process in self._running]

    def chain(self, relays: int) -> str:
        """A raw chain of that many relays; the address of its head, which is started last."""
        address = said(self.start([sys.executable, str(HERE / "chain.py"), "echo"]))
        for _ in range(relays):
            command = [sys.executable, str(HERE / "chain.py"), "relay", address]
            address = said(self.start(command))
        return address


def signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    """Signal a child's whole group; children it left behind too."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def said(process: subprocess.Popen[bytes], seconds: float = START_SECONDS) -> str:
    """The next line a child prints. Raises RuntimeError."""
    pipe: IO[bytes] | None = process.stdout
    assert pipe is not None
    ready, _, _ = select.select([pipe], [], [], seconds)
    line = pipe.readline() if ready else b""
    if not line:
        raise RuntimeError(f"{process.args!r} said nothing")
    return line.decode().strip()
