"""What functions print: every line, in order, and never for long at a time."""

import contextlib
import os
from collections.abc import Iterator

import pytest
import trio
import trio.testing

from edged.daemon.loglines import BATCH, LAST, LINE_BYTES, READ_BYTES, Pace, read_lines

FLOOD = 4 * BATCH


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Both ends; the test closes the one that is written to, or leaves it."""
    read, write = os.pipe()
    yield read, write
    os.close(read)
    with contextlib.suppress(OSError):
        os.close(write)


async def test_who_prints_without_end_leaves_others_their_turn(pipe: tuple[int, int]) -> None:
    """Between two turns of everybody else no more than a batch of lines is passed on, and none is lost."""
    read, write = pipe
    lines: list[bytes] = []
    most = seen = 0
    os.write(write, b"".join(b"%d\n" % n for n in range(FLOOD)))
    os.close(write)

    async def look() -> None:
        nonlocal most, seen
        while len(lines) < FLOOD:
            most, seen = max(most, len(lines) - seen), len(lines)
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        await read_lines(read, lines.append, Pace())
    assert lines == [b"%d" % n for n in range(FLOOD)]
    assert 0 < most <= BATCH


async def test_the_loops_share_is_that_of_all_together(autojump_clock: trio.testing.MockClock) -> None:
    """However many print too much: after a batch of one the next of any rests as long."""
    pace = Pace()
    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(pace.rest, 1.0)
    assert trio.current_time() == 8 * 3.0


async def test_the_last_words_are_passed_on_though_the_rest_is_not(pipe: tuple[int, int]) -> None:
    """A container that ended has left a full pipe: of it the end counts, an unfinished line included."""
    read, write = pipe
    lines: list[bytes] = []
    with trio.CancelScope() as scope:
        scope.cancel()
        os.write(write, b"\n" * (READ_BYTES - 5) + b"Error")
        await read_lines(read, lines.append, Pace())
    assert lines == [b""] * (LAST - 1) + [b"Error"]


@pytest.mark.parametrize("length", [0, 1, LINE_BYTES - 1, LINE_BYTES, LINE_BYTES + 1, 3 * LINE_BYTES])
async def test_a_long_line_is_passed_on_in_pieces(pipe: tuple[int, int], length: int) -> None:
    """Of a length that the reader may hold; together they are the line."""
    read, write = pipe
    lines: list[bytes] = []
    os.write(write, b"x" * length + b"\ny")
    os.close(write)
    await read_lines(read, lines.append, Pace())
    assert lines[-1] == b"y"
    assert b"".join(lines[:-1]) == b"x" * length
    assert max(map(len, lines)) <= LINE_BYTES
    assert len(lines[:-1]) == max(1, -(-length // LINE_BYTES))
