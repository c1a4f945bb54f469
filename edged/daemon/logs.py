"""What the daemon says, written by a thread of its own (DESIGN §10: no file I/O on the loop's thread).

Decides what is kept while nobody reads stderr, and how a line looks to the journal and to a terminal;
refuses to know who logs and why. Whoever logs appends to a bounded queue and goes on: a full pipe, a
stalled disk or a dead journal costs lines, which are counted and reported where they are missing, and
never a call. Rejected: the standard library's QueueListener, which loses lines in silence and whose stop
waits for ever on a pipe that nobody reads; its traceback formatter, which looks up sources on the thread
that logs; a non-blocking stderr, since that flag belongs to the open file and with it to every other
program on the same terminal.
"""

import contextlib
import io
import logging
import os
import select
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

LINES = 2000
"""Waiting to be written: what a start, a drain or a burst of lost connections says at once."""

BYTES = 1 << 20
"""Waiting to be written, in memory; as much again is on its way out when the writer is stuck."""

TEXT_CHARACTERS = 8 * 1024
"""Of one message, its beginning, and of one traceback, its end."""

FRAMES = 30
"""Of one exception: its innermost calls."""

CHAIN = 4
"""Causes of causes, and groups in groups, told with an exception."""

FLUSH_SECONDS = 2.0
"""For what is still queued at the end: far below the time systemd gives a stop."""

_PRIORITIES = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6}
_DEBUG_PRIORITY = 7

_CONTROL = {code: f"\\x{code:02x}" for code in (*range(9), *range(11, 32), *range(127, 160))}
"""What a peer says is logged too: it must not move a terminal's cursor."""


def for_journal(level: int, name: str, text: str) -> bytes:
    """A priority before each line (sd-daemon(3)); the journal adds the time."""
    mark = f"<{_PRIORITIES.get(level, _DEBUG_PRIORITY)}>"
    first, *more = text.translate(_CONTROL).split("\n")
    return _encoded([f"{mark}{name}: {first}", *(f"{mark}  {line}" for line in more)])


def for_terminal(level: int, name: str, text: str) -> bytes:
    """Time and level; what follows the first line is indented, so nothing in it can pass for a line."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    first, *more = text.translate(_CONTROL).split("\n")
    word = logging.getLevelName(level)
    return _encoded([f"{at} {word} {name}: {first}", *(f"  {line}" for line in more)])


def _encoded(lines: list[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode(errors="backslashreplace")


Render = Callable[[int, str, str], bytes]


class Writer:
    """Takes lines from any thread without waiting; `start` and `close` belong to one owner."""

    def __init__(self, fd: int, render: Render) -> None:
        self._fd = fd
        self._render = render
        self._changed = threading.Condition()
        self._queued: list[bytes] = []
        self._bytes = 0
        self._dropped = 0
        self._closing = False
        # A daemon thread: one that is stuck in a write must not keep the process alive.
        self._thread = threading.Thread(target=self._run, name="log writer", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def put(self, level: int, name: str, text: str) -> None:
        """Queue what `name` says, or count it when the queue is full."""
        data = self._render(level, name, text)
        with self._changed:
            if len(self._queued) >= LINES or self._bytes + len(data) > BYTES or self._closing:
                self._dropped += 1
                return
            self._queued.append(data)
            self._bytes += len(data)
            self._changed.notify()

    def close(self, seconds: float) -> bool:
        """Write what is queued, for at most `seconds`; whether that was enough."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        going = True
        while going:
            with self._changed:
                self._changed.wait_for(lambda: self._queued or self._closing)
                going = not self._closing
                lines, self._queued, self._bytes = self._queued, [], 0
                dropped, self._dropped = self._dropped, 0
            for data in lines:
                dropped += not write_all(self._fd, data)
            # Drops happen behind a full queue only, so here is where the lines are missing.
            if dropped and not self._report(dropped):
                with self._changed:
                    self._dropped += dropped

    def _report(self, dropped: int) -> bool:
        text = f"{dropped} log lines dropped"
        return write_all(self._fd, self._render(logging.WARNING, __name__, text))


def write_all(fd: int, data: bytes) -> bool:
    """Write all of `data`, waiting as long as it takes; False when nobody can read it any more."""
    while data:
        try:
            data = data[os.write(fd, data) :]
        except BlockingIOError:  # another program on this terminal made it non-blocking
            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            poll.poll()
        except OSError:
            return False
    return True


def trace(error: BaseException, depth: int = CHAIN) -> Iterator[str]:
    """The lines of a traceback: causes first, innermost call and error last, no sources."""
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None and depth:
        yield from trace(cause, depth - 1)
        yield "and then:"
    for frame, line in deque(traceback.walk_tb(error.__traceback__), maxlen=FRAMES):
        yield f"{frame.f_code.co_filename}:{line} in {frame.f_code.co_qualname}"
    yield f"{type(error).__qualname__}: {_text_of(error)}"
    if isinstance(error, BaseExceptionGroup) and depth:
        for part in error.exceptions[:CHAIN]:
            yield from (f"  {line}" for line in trace(part, depth - 1))


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as other:  # noqa: BLE001 - any code: the error may be a function's own
        return f"(its text raised {type(other).__name__})"


class _Handler(logging.Handler):
    """What the library's loggers talk to."""

    def __init__(self, writer: Writer) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()[:TEXT_CHARACTERS]
        except (TypeError, ValueError) as error:  # a defect of the one who logs, and not worth more
            text = f"{record.msg!r} cannot be told: {error}"
        if record.exc_info and record.exc_info[1] is not None:
            text += "\n" + "\n".join(trace(record.exc_info[1]))[-TEXT_CHARACTERS:]
        self._writer.put(record.levelno, record.name, text)


class _Stderr(io.TextIOBase):
    """sys.stderr while the daemon runs: what the interpreter itself says must not block it either."""

    def __init__(self, writer: Writer) -> None:
        super().__init__()
        self._writer = writer
        self._rest = ""

    def write(self, text: str) -> int:
        *lines, rest = (self._rest + text).split("\n")
        self._rest = rest[:TEXT_CHARACTERS]
        for line in lines:
            self._writer.put(logging.WARNING, "stderr", line[:TEXT_CHARACTERS])
        return len(text)


def is_journal(fd: int) -> bool:
    """Whether `fd` is the journal's socket (systemd.exec(5): JOURNAL_STREAM is its device and inode).

    The variable alone says nothing: it is inherited by programs whose stderr goes elsewhere.
    """
    stat = os.fstat(fd)
    return os.environ.get("JOURNAL_STREAM") == f"{stat.st_dev}:{stat.st_ino}"


@contextlib.contextmanager
def log_to(fd: int) -> Iterator[None]:
    """Everything logged from INFO on, and sys.stderr, goes to `fd` by way of a writer's thread.

    Raises OSError when `fd` is closed. Leaving takes at most FLUSH_SECONDS.
    """
    writer = Writer(fd, for_journal if is_journal(fd) else for_terminal)
    root, handler = logging.getLogger(), _Handler(writer)
    level, stderr = root.level, sys.stderr
    writer.start()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    sys.stderr = _Stderr(writer)
    try:
        yield
    finally:
        sys.stderr = stderr
        root.removeHandler(handler)
        root.setLevel(level)
        writer.close(FLUSH_SECONDS)
