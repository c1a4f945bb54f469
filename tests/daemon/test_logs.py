"""The daemon's log: never in the way of the loop, no line missing unsaid, readable by the journal."""

import contextlib
import fcntl
import linecache
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from support.wire_client import WireClient

from edged.daemon import logs

LOG = logging.getLogger("some.part")
PIPE_BYTES = 4096
Daemon = subprocess.Popen[bytes]


class Pipe(NamedTuple):
    read: int
    write: int

    def fill(self) -> None:
        """Leave no room: the next write waits until somebody reads."""
        os.set_blocking(self.write, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(self.write, b"x")
        os.set_blocking(self.write, True)

    def drain(self) -> bytes:
        """All until every writer is gone."""
        with os.fdopen(os.dup(self.read), "rb") as file:
            return file.read()


def hangs(*_: object) -> None:
    raise AssertionError("what must not wait for a reader does")


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """A small one; a test that gets stuck on it fails."""
    signal.signal(signal.SIGALRM, hangs)
    signal.alarm(60)
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    yield Pipe(read, write)
    os.close(read)
    with contextlib.suppress(OSError):
        os.close(write)
    signal.alarm(0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)


def read_to_end(pipe: Pipe) -> tuple[threading.Thread, list[bytes]]:
    """A reader beside the test."""
    said: list[bytes] = []
    thread = threading.Thread(target=lambda: said.append(pipe.drain()))
    thread.start()
    return thread, said


def plain_lines(said: bytes) -> list[str]:
    """The lines behind what `fill` had put there."""
    return said.lstrip(b"x").decode().splitlines()


def logged(pipe: Pipe) -> list[str]:
    """What was written to a pipe whose writer has been closed."""
    os.close(pipe.write)
    return pipe.drain().decode().splitlines()


def test_lines_come_in_order_and_the_end_flushes(pipe: Pipe) -> None:
    """Everything said before the end is written by then, in the order in which it was said."""
    with logs.log_to(pipe.write):
        for n in range(20):
            LOG.info("call %d", n)
    lines = logged(pipe)
    assert [line.split(" ", 1)[1] for line in lines] == [
        f"INFO some.part: call {n}" for n in range(20)
    ]


def test_debug_lines_are_not_told(pipe: Pipe) -> None:
    """What is for developers stays out of the log."""
    with logs.log_to(pipe.write):
        LOG.debug("every frame")
    assert logged(pipe) == []


def unread(pipe: Pipe, count: int, text: str) -> list[str]:
    """What comes out at last of `count` lines, all logged before anybody read."""
    pipe.fill()
    with logs.log_to(pipe.write):
        for n in range(count):
            LOG.info("%s", text.format(n))
        reader, said = read_to_end(pipe)
    os.close(pipe.write)
    reader.join(20)
    return plain_lines(said[0])


def test_what_is_dropped_is_counted_where_it_is_missing(pipe: Pipe) -> None:
    """With nobody reading, lines beyond the bound are dropped, and a line in their place says how many."""
    sent = 2 * logs.LINES + 123  # one queue may be on its way out while the next one fills
    kept = at = 0
    for line in unread(pipe, sent, "{}"):
        text = line.rsplit(": ", 1)[1]
        if text.endswith(" log lines dropped"):
            at += int(text.split()[0])
        else:
            assert int(text) == at
            at, kept = at + 1, kept + 1
    assert at == sent
    assert logs.LINES <= kept <= 2 * logs.LINES


def test_bytes_are_bounded_too(pipe: Pipe) -> None:
    """Long lines fill the queue before its number of lines does, and each of them is cut."""
    lines = unread(pipe, 300, "y" * 2 * logs.TEXT_CHARACTERS)
    kept = [line.count("y") for line in lines if "yy" in line]
    assert set(kept) == {logs.TEXT_CHARACTERS}
    assert logs.BYTES // 2 < sum(kept) <= 2 * logs.BYTES


def test_nobody_reading_delays_the_end_by_the_deadline_only(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that is stuck is left behind; the process goes on."""
    monkeypatch.setattr(logs, "FLUSH_SECONDS", 0.05)
    pipe.fill()
    done = threading.Event()

    def end() -> None:
        with logs.log_to(pipe.write):
            LOG.info("nobody reads this")
        done.set()

    threading.Thread(target=end, daemon=True).start()
    assert done.wait(60)
    os.read(pipe.read, PIPE_BYTES)  # so that the writer's thread ends, too


def test_a_reader_that_has_gone_costs_lines_only() -> None:
    """A closed pipe raises nothing in whoever logs."""
    read, write = os.pipe()
    os.close(read)
    with logs.log_to(write):
        LOG.info("into the void")
    os.close(write)


def test_a_message_cannot_pass_for_another(pipe: Pipe) -> None:
    """What a peer sent can neither begin a line of the log nor move the terminal's cursor."""
    with logs.log_to(pipe.write):
        LOG.info("peer said %s", "a\n<0>b\r\x1b[2Jc\udc80")
    first, second = logged(pipe)
    assert first.endswith("INFO some.part: peer said a")
    assert second == "  <0>b\\x0d\\x1b[2Jc\\udc80"


def raise_two() -> None:
    """A group with a cause inside."""
    try:
        try:
            int("x")
        except ValueError as error:
            raise KeyError("inner") from error
    except KeyError as error:
        raise ExceptionGroup("both", [error, OSError(5, "outer")]) from None


def test_a_traceback_names_every_error_and_where(pipe: Pipe) -> None:
    """Causes, parts of a group and the lines of code are there; without a look at any source file."""
    with logs.log_to(pipe.write):
        try:
            raise_two()
        except* Exception:
            LOG.exception("it failed")
    said = "\n".join(logged(pipe))
    for part in (
        "ERROR some.part: it failed\n",
        f"{__file__}:{raise_two.__code__.co_firstlineno + 4} in raise_two\n",
        "ExceptionGroup: both (2 sub-exceptions)",
        "ValueError: invalid literal for int() with base 10: 'x'\n",
        "and then:\n",
        "KeyError: 'inner'\n",
        "OSError: [Errno 5] outer",
    ):
        assert part in said, part


def hand_over(text: str, args: tuple[object, ...], error: BaseException | None = None) -> None:
    """Give a record to the handler of the running `log_to` alone; pytest's own would look at it, too."""
    exc_info = (type(error), error, error.__traceback__) if error else None
    record = logging.LogRecord("some.part", logging.ERROR, "", 0, text, args, exc_info)
    logging.getLogger().handlers[-1].handle(record)


def test_no_source_is_read_by_whoever_logs(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """A traceback asks for no file on the thread that logs: on a stalled disk that would not return."""
    asked: list[str] = []
    monkeypatch.setattr(linecache, "checkcache", asked.append)
    monkeypatch.setattr(linecache, "updatecache", lambda name, _: asked.append(name) or [])
    with logs.log_to(pipe.write):
        try:
            raise_two()
        except* (KeyError, OSError) as group:
            hand_over("it failed", (), group)
    assert asked == []


def test_an_error_whose_text_raises_is_logged_all_the_same(pipe: Pipe) -> None:
    """Nothing that is logged can raise in whoever logs it."""

    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    with logs.log_to(pipe.write):
        hand_over("it failed", (), Odd())
        hand_over("%d of %s", ("no number",))
    said = "\n".join(logged(pipe))
    assert "Odd: (its text raised RuntimeError)" in said
    assert "'%d of %s' cannot be told" in said


def test_what_the_interpreter_says_goes_the_same_way(pipe: Pipe) -> None:
    """An error in a destructor is printed to sys.stderr, which must not block either."""
    before = sys.stderr
    with logs.log_to(pipe.write):
        print("Exception ignored in: something", file=sys.stderr)
    assert sys.stderr is before
    assert logged(pipe)[0].endswith("WARNING stderr: Exception ignored in: something")


def test_the_journal_gets_priorities(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """When stderr is the journal each line begins with its priority, and has no time of its own."""
    stat = os.fstat(pipe.write)
    monkeypatch.setenv("JOURNAL_STREAM", f"{stat.st_dev}:{stat.st_ino}")
    with logs.log_to(pipe.write):
        LOG.critical("c")
        LOG.error("first\nsecond")
        LOG.warning("w")
        LOG.info("i")
    assert logged(pipe) == [
        "<2>some.part: c",
        "<3>some.part: first",
        "<3>  second",
        "<4>some.part: w",
        "<6>some.part: i",
    ]


def test_an_inherited_variable_is_not_the_journal(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below a service, with stderr sent to a file, lines have no priorities."""
    monkeypatch.setenv("JOURNAL_STREAM", "9:123456")
    with logs.log_to(pipe.write):
        LOG.info("plain")
    assert logged(pipe)[0].endswith("INFO some.part: plain")


@contextlib.contextmanager
def running(tmp_path: Path, pipe: Pipe, config: str = "") -> Iterator[tuple[Daemon, str]]:
    """A daemon whose stderr is `pipe`, and where it serves ("" when it does not)."""
    file = tmp_path / "edged.toml"
    file.write_text(
        f'[node]\nname = "one"\ndata_dir = "{tmp_path}/data"\n'
        f'[listen]\naddress = "127.0.0.1:0"\nadmin = "{tmp_path}/admin.sock"\n' + config
    )
    read, write = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "edged.cli", "run", "--config", str(file)],
        env={**os.environ, "EDGED_READY_FD": str(write)},
        pass_fds=[write],
        stderr=pipe.write,
    )
    os.close(write)
    try:
        with os.fdopen(read) as ready:
            address = ready.readline().strip()
        yield process, address
    finally:
        process.kill()
        process.wait()


def stop(process: Daemon) -> None:
    """SIGTERM, and a clean end."""
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0


def send_nonsense(address: str) -> None:
    """What the daemon logs a line about."""
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), timeout=60) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while sock.recv(4096):
                pass


def test_a_daemon_whose_stderr_nobody_reads_serves_on(tmp_path: Path, pipe: Pipe) -> None:
    """A full pipe stops neither the start, nor calls, nor the end; only its lines wait."""
    pipe.fill()
    with running(tmp_path, pipe) as (process, address):
        for _ in range(50):
            send_nonsense(address)
        operator = WireClient(address, "operator")
        assert operator.request("node.status", {})["name"] == "one"
        operator.close()
        stop(process)


def test_the_lines_are_there_when_somebody_reads_again(tmp_path: Path, pipe: Pipe) -> None:
    """What was said while nobody read comes out once somebody does, to the last line."""
    pipe.fill()
    with running(tmp_path, pipe) as (process, address):
        for _ in range(50):
            send_nonsense(address)
        os.close(pipe.write)
        reader, said = read_to_end(pipe)
        stop(process)
        reader.join(20)
    lines = plain_lines(said[0])
    assert any(" serves 127.0.0.1:" in line for line in lines[:2])  # before it, perhaps, what this machine cannot do
    assert sum(" INFO edged.daemon.link: " in line for line in lines) == 50
    assert lines[-1].endswith("edged.daemon.main: stopping")


@pytest.mark.parametrize("insecure", ["true", "false"])
def test_insecure_is_said_loudly(tmp_path: Path, pipe: Pipe, insecure: str) -> None:
    """A node that serves in the clear says so as a warning at every start; others do not."""
    with running(tmp_path, pipe, f"[security]\ninsecure = {insecure}\n") as (process, _):
        stop(process)
    warned = any(" WARNING " in line and "INSECURE" in line for line in logged(pipe))
    assert warned is (insecure == "true")


def test_a_node_that_cannot_start_says_why_in_one_line(tmp_path: Path, pipe: Pipe) -> None:
    """A data directory that is none: exit 1 and one line that names it, no traceback."""
    (tmp_path / "data").write_text("not a directory")
    with running(tmp_path, pipe) as (process, address):
        assert (process.wait(60), address) == (1, "")
    (line,) = logged(pipe)
    assert line.endswith(f"nothing can be kept in {tmp_path}/data: File exists")
