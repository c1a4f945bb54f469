"""What functions print, by lines (DESIGN §10).

Decides where a line ends, and how much of the loop's time all that is printed may take: whoever prints faster waits, in the
pipe that is full then. To drop lines was the alternative; it would cost the same reading and lose what was said. Refuses
to know who prints.
"""

import contextlib
import os
from collections import deque
from collections.abc import Callable

import trio

LINE_BYTES = 8 * 1024
"""A longer line is passed on in pieces: the reader holds no more than one piece per container."""

READ_BYTES = 16 * 1024
"""Of one pipe at a time: if all of it are empty lines, to part them takes half a millisecond."""

BATCH = 64
"""Lines passed on before calls have their turn: about half a millisecond."""

REST = 3
"""For so many times what a batch took no other one begins, of any container: a quarter of the loop's time is for lines."""

LAST = 1000
"""Lines of what a container left unread that are passed on at its end: as many as are kept of a function."""

Emit = Callable[[bytes], None]


class Pace:
    """What the readers of one node share."""

    def __init__(self) -> None:
        self._turn = trio.Lock()

    async def rest(self, spent: float) -> None:
        """After a batch that took so long, when there is more."""
        async with self._turn:
            await trio.sleep(REST * spent)


async def read_lines(fd: int, emit: Emit, pace: Pace) -> None:
    """Pass on each line of a pipe until its end; an unfinished one too. Cancelled, the last ones that are there."""
    os.set_blocking(fd, False)
    waiting: deque[bytes] = deque()
    rest = b""
    try:
        while True:
            await trio.lowlevel.wait_readable(fd)
            data = os.read(fd, READ_BYTES)
            if not data:
                return
            rest = _split(rest + data, waiting)
            while waiting:
                began = trio.current_time()
                for _ in range(min(BATCH, len(waiting))):
                    emit(waiting.popleft())
                if waiting or len(data) == READ_BYTES:
                    await pace.rest(trio.current_time() - began)
    finally:
        with contextlib.suppress(BlockingIOError):
            rest = _split(rest + os.read(fd, READ_BYTES), waiting)
        for line in [*waiting, *([rest] if rest else [])][-LAST:]:
            emit(line)


def _split(data: bytes, lines: deque[bytes]) -> bytes:
    """The whole lines of `data` are put behind `lines`, long ones in pieces; the rest comes back."""
    *whole, rest = data.split(b"\n")
    if max(map(len, whole), default=0) <= LINE_BYTES:
        lines.extend(whole)
    else:
        lines.extend(line[at : at + LINE_BYTES] for line in whole for at in range(0, max(len(line), 1), LINE_BYTES))
    while len(rest) > LINE_BYTES:
        lines.append(rest[:LINE_BYTES])
        rest = rest[LINE_BYTES:]
    return rest
