"""The embedded store's disk: when it is waited for, full, broken, or left behind by a kill."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support.sqlite_store import check_acknowledged, write

from edged.core.records import Load, Op, Renew, SessionKey
from edged.daemon.stores.database import Database

PROGRAM = Path(__file__).with_name("store_program.py")


def test_only_durable_batches_wait_for_the_disk(tmp_path: Path) -> None:
    """A batch with a durable operation or a lease is committed with FULL, any other with NORMAL."""
    database = Database(tmp_path / "store.db")
    steps: list[tuple[list[Op], int]] = [
        ([write("a", 1)], 1),
        ([write("a", 2), write("b", 1, durable=True), write("a", 3)], 2),
        ([Load(SessionKey("f", "a"))], 1),
        ([Renew("node", "boot", 1, 3.0)], 2),
        ([write("a", 4)], 1),
    ]
    for ops, level in steps:
        database.apply(ops)
        assert database._connection.execute("PRAGMA synchronous").fetchone() == (level,)
    database.close()


def run_program(directory: Path, *arguments: str, before: Sequence[str] = ()) -> list[Any]:
    """What the store program reports, a JSON value a line."""
    command = [*before, sys.executable, str(PROGRAM), str(directory), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_full_disk_refuses_writes_and_passes(tmp_path: Path) -> None:
    """Without space writes certainly do not apply, reads go on; with space again all is as before."""
    script = f'mount -t tmpfs -o size=2m none "{tmp_path}" && exec "$@"'
    unshare = ["unshare", "-m" if os.geteuid() == 0 else "-rm", "sh", "-c", script, "sh"]
    if not shutil.which("unshare") or subprocess.run([*unshare, "true"], check=False).returncode:
        pytest.skip("needs a name space of its own for a small disk")
    before, full, read, after, problem = run_program(tmp_path, "fill", before=unshare)
    assert (before, read, after, problem) == ("won", "loaded", "won", None)
    assert full[0] is False
    assert "full" in full[1]


@pytest.mark.parametrize("fault", ["size", "fsync"])
def test_an_io_error_is_final_and_loses_nothing_acknowledged(tmp_path: Path, fault: str) -> None:
    """After one failed write or fsync nothing is answered; what was answered before is in the file."""
    strace = ["strace", "-f", "-o", "/dev/null", "-e", "inject=fsync,fdatasync:error=EIO:when=40+"]
    if fault == "fsync" and (
        not shutil.which("strace") or subprocess.run([*strace, "true"], check=False).returncode
    ):
        pytest.skip("needs strace to break fsync")
    lines = run_program(tmp_path, "break", fault, before=strace if fault == "fsync" else ())
    acknowledged, first, later, problem = lines[:-3], *lines[-3:]
    assert first[0] in (None, False)
    assert later[0] is False
    assert "disk failed" in later[1]
    assert problem == later[1]
    # The log was not moved into the database on a disk that had failed.
    assert (tmp_path / "store.db-wal").stat().st_size > 0
    check_acknowledged(tmp_path, acknowledged)


def test_a_kill_loses_nothing_acknowledged(tmp_path: Path) -> None:
    """SIGKILL in the middle of durable writes: every acknowledged one is there after the restart."""
    for _ in range(3):
        command = [sys.executable, str(PROGRAM), str(tmp_path), "write"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(300)]
            process.send_signal(signal.SIGKILL)
            lines += process.stdout.readlines()
        whole = [json.loads(line) for line in lines if line.endswith("\n")]
        assert len(whole) >= 300
        check_acknowledged(tmp_path, whole)
