"""What a function prints, by lines (DESIGN §10). Decides where a line ends; refuses to know who prints."""

import os
from collections.abc import Callable

import trio

LINE_BYTES = 8 * 1024
"""A longer line is passed on in pieces: the reader holds no more than one piece per container."""

READ_BYTES = 64 * 1024
"""Of one pipe in one wakeup: what a pipe buffers."""

Emit = Callable[[bytes], None]


async def read_lines(fd: int, emit: Emit) -> None:
    """Pass on each line of a pipe until its end; an unfinished one too, also when cancelled."""
    os.set_blocking(fd, False)
    rest = b""
    try:
        while True:
            await trio.lowlevel.wait_readable(fd)
            data = os.read(fd, READ_BYTES)
            if not data:
                return
            rest = _lines(rest + data, emit)
    finally:
        if rest:
            emit(rest)


def _lines(data: bytes, emit: Emit) -> bytes:
    """Emit the whole lines of `data`; the rest comes back."""
    *lines, rest = data.split(b"\n")
    for line in lines:
        _in_pieces(line, emit)
    while len(rest) >= LINE_BYTES:
        emit(rest[:LINE_BYTES])
        rest = rest[LINE_BYTES:]
    return rest


def _in_pieces(line: bytes, emit: Emit) -> None:
    for at in range(0, max(len(line), 1), LINE_BYTES):
        emit(line[at : at + LINE_BYTES])
