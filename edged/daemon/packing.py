"""Pieces of a state on their way to another node, compressed where both can and it saves something (DESIGN §5).

Decides piece by piece: what the fastest level of Zstandard does not make a tenth smaller is sent as it is, and whether it
does is known in a fraction of a millisecond. A dictionary or a stream over all pieces was the alternative: a piece that is
sent again after a link was cut could not be read by itself. What comes is believed in nothing: its size has to be told,
and is held against a bound before a byte of it is made.
"""

import zstandard

from edged_protocol.errors import Code, call_error

NAME = "zstd"
"""What nodes that can do this say in `packs` of HELLO and WELCOME."""

LEVEL = 1
WORTH = 0.9
"""Of its bytes what a piece may have to be sent compressed."""

MAX_PIECE = 1024 * 1024
"""Bytes that a piece may turn out to have: four times the largest that is sent."""

_compressor = zstandard.ZstdCompressor(level=LEVEL, write_content_size=True)
_decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_PIECE)


def packed(piece: bytes) -> bytes | None:
    """The piece made smaller, if that is worth it."""
    smaller = _compressor.compress(piece)
    return smaller if len(smaller) <= WORTH * len(piece) else None


def unpacked(blob: bytes, how: object, size: object) -> bytes:
    """The piece of so many bytes. Raises CallError for one that is too large, or is not what it says."""
    if how != NAME or type(size) is not int:
        raise call_error(Code.BAD_REQUEST, f"a piece packed by {how!r:.40} to {size!r:.40}")
    if not 0 < size <= MAX_PIECE:
        raise call_error(Code.TOO_LARGE, f"a piece of {size} bytes, {MAX_PIECE} are taken")
    try:
        says = zstandard.get_frame_parameters(blob).content_size
        if says != size:
            raise call_error(Code.BAD_REQUEST, f"a piece of {size} bytes whose frame says {says}")
        piece: bytes = _decompressor.decompress(blob, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise call_error(Code.BAD_REQUEST, f"a piece that cannot be unpacked: {error}") from error
    return piece
