"""Pieces of a state that are compressed on their way: as they were, or refused before they cost anything."""

import os
import tracemalloc

import pytest
import zstandard

from edged.daemon.packing import MAX_PIECE, NAME, packed, unpacked
from edged_protocol.errors import CallError, Code

TEXT = b'{"temperature": 21.5, "unit": "C"}' * 2000


def test_a_piece_comes_as_it_was() -> None:
    """What is sent compressed is smaller, and the same at the other end."""
    smaller = packed(TEXT)
    assert smaller is not None
    assert len(smaller) < len(TEXT) / 10
    assert unpacked(smaller, NAME, len(TEXT)) == TEXT


def test_what_gets_no_smaller_is_left_as_it_is() -> None:
    """Random bytes, and a piece too short to save anything."""
    assert packed(os.urandom(65536)) is None
    assert packed(b"k") is None


BOMB = zstandard.ZstdCompressor(level=19).compress(bytes(200 * MAX_PIECE))
NO_SIZE = zstandard.ZstdCompressor(write_content_size=False).compress(TEXT)
GOOD = zstandard.ZstdCompressor().compress(TEXT)


@pytest.mark.parametrize(
    ("blob", "how", "size", "code"),
    [
        pytest.param(BOMB, NAME, 200 * MAX_PIECE, Code.TOO_LARGE, id="a bomb that says so"),
        pytest.param(BOMB, NAME, 1000, Code.BAD_REQUEST, id="a bomb that says another size"),
        pytest.param(NO_SIZE, NAME, len(TEXT), Code.BAD_REQUEST, id="a frame without a size"),
        pytest.param(GOOD, NAME, len(TEXT) - 1, Code.BAD_REQUEST, id="one byte less"),
        pytest.param(GOOD[:-5], NAME, len(TEXT), Code.BAD_REQUEST, id="the end is missing"),
        pytest.param(GOOD + GOOD, NAME, len(TEXT), Code.BAD_REQUEST, id="something behind it"),
        pytest.param(b"no frame", NAME, 8, Code.BAD_REQUEST, id="no frame"),
        pytest.param(GOOD, "lzma", len(TEXT), Code.BAD_REQUEST, id="another way"),
        pytest.param(GOOD, NAME, 1.5, Code.BAD_REQUEST, id="no number"),
        pytest.param(GOOD, NAME, 0, Code.TOO_LARGE, id="nothing"),
    ],
)
def test_what_is_not_what_it_says_is_refused(blob: bytes, how: object, size: object, code: int) -> None:
    """With the reason, and before more memory is taken than a piece may have."""
    tracemalloc.start()
    with pytest.raises(CallError) as caught:
        unpacked(blob, how, size)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert caught.value.code == code
    assert most < 2 * MAX_PIECE
