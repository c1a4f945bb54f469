"""The unit file as systemd reads it, and the daemon as systemd hears it."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edged.config import parse_config
from edged.daemon import logs, main, notify

UNIT = Path(__file__).parents[2] / "systemd" / "edged.service"
NEEDED = shutil.which("systemd-analyze")


def need_systemd() -> str:
    """The path of systemd-analyze; in CI it must be there, elsewhere its absence is said."""
    if NEEDED is None:
        if os.environ.get("CI"):
            raise AssertionError(
                "systemd-analyze is missing in CI: install the Debian package systemd"
            )
        pytest.skip("SKIPPED FOR LACK OF systemd-analyze: apt-get install systemd")
    return NEEDED


def verify(unit: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [need_systemd(), "verify", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def with_program(text: str, tmp_path: Path) -> Path:
    """The unit with an ExecStart that exists on this machine."""
    unit = tmp_path / "edged.service"
    unit.write_text(text.replace("/usr/bin/edged", "/bin/true"))
    return unit


def test_systemd_has_nothing_to_say(tmp_path: Path) -> None:
    """`systemd-analyze verify` is content, with an empty stderr."""
    result = verify(with_program(UNIT.read_text(), tmp_path))
    assert (result.returncode, result.stderr) == (0, "")


def test_verify_would_notice_a_mistake(tmp_path: Path) -> None:
    """The check above can fail: an unknown setting is reported."""
    text = UNIT.read_text().replace("WatchdogSec=10s", "WatchdogSecs=10s")
    assert "WatchdogSecs" in verify(with_program(text, tmp_path)).stderr


def test_hardening_lines_have_a_reason() -> None:
    """Every block of settings stands under a comment that says why."""
    service = UNIT.read_text().split("[Service]")[1].split("[Install]")[0]
    for block in filter(None, (part.strip() for part in service.split("\n\n"))):
        assert block.startswith("#"), block.splitlines()[0]


def setting(name: str) -> str:
    """The value of one line of the unit."""
    (value,) = re.findall(rf"^{name}=(.*)$", UNIT.read_text(), re.MULTILINE)
    return str(value)


def test_the_defaults_lie_in_the_unit_s_directories() -> None:
    """A file that sets neither path has both where the unit's user may write."""
    config = parse_config("")
    assert config.node.data_dir == f"/var/lib/{setting('StateDirectory')}"
    assert Path(config.listen.admin).parent == Path("/run") / setting("RuntimeDirectory")


def test_systemd_waits_longer_than_the_daemon_takes_to_stop() -> None:
    """Calls, sessions and the last lines of the log have their time before SIGKILL."""
    patience = float(setting("TimeoutStopSec").removesuffix("s"))
    assert patience > 2 * (main.DRAIN_SECONDS + logs.FLUSH_SECONDS)


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    """What systemd listens on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(60)
        yield sock


def test_the_daemon_tells_systemd_its_life(listener: socket.socket, tmp_path: Path) -> None:
    """READY when it serves, WATCHDOG while the loop turns, STOPPING on SIGTERM, then exit 0."""
    config = tmp_path / "edged.toml"
    config.write_text(
        f'[node]\nname = "one"\ndata_dir = "{tmp_path}/data"\n'
        f'[listen]\naddress = "127.0.0.1:0"\nadmin = "{tmp_path}/admin.sock"\n'
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "edged.cli", "run", "--config", str(config)],
        env={**os.environ, "NOTIFY_SOCKET": listener.getsockname(), "WATCHDOG_USEC": "600000"},
    )
    try:
        assert listener.recv(4096).startswith(b"READY=1\nSTATUS=serving 127.0.0.1:")
        assert listener.recv(4096) == b"WATCHDOG=1"
        process.send_signal(signal.SIGTERM)
        said = listener.recv(4096)
        while said == b"WATCHDOG=1":
            said = listener.recv(4096)
        assert said == b"STOPPING=1"
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()


def test_nobody_listening_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without systemd, or with a socket that is gone, nothing is raised."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify.notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", "/nonexistent/notify")
    assert not notify.notify("READY=1")


def test_an_abstract_socket_works_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A leading @ names a socket outside the file system."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        name = f"edged-test-{os.getpid()}"
        sock.bind("\0" + name)
        sock.settimeout(60)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name)
        assert notify.notify("STATUS=x")
        assert sock.recv(100) == b"STATUS=x"


def test_the_watchdog_of_another_process_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """WATCHDOG_PID decides whose interval it is."""
    monkeypatch.setenv("WATCHDOG_USEC", "10000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert notify.watchdog_interval() == 10.0
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert notify.watchdog_interval() is None
