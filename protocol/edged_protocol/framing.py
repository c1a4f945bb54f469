"""Bytes to frames (SPEC "Framing"): a 4-byte length, then that many bytes. Sans-IO.

The length is judged as soon as its four bytes are there, before anything of the frame is kept.
"""

import struct

from .errors import RemoteProtocolError

_length_at = struct.Struct(">I").unpack_from


class FrameReader:
    """Cuts a byte stream into frames; holds at most one unfinished frame and one read."""

    def __init__(self, max_frame: int) -> None:
        self.max_frame = max_frame
        self._parts: list[bytes] = []
        self._have = 0
        self._need = 4

    def feed(self, data: bytes) -> list[bytes]:
        """The frames completed by `data`. Raises RemoteProtocolError; then the reader is finished."""
        self._have += len(data)
        self._parts.append(data)
        if self._have < self._need:
            return []
        return self._cut(b"".join(self._parts) if len(self._parts) > 1 else data)

    def _cut(self, data: bytes) -> list[bytes]:
        frames: list[bytes] = []
        at, end, most = 0, len(data), self.max_frame
        self._need = 4
        while end - at >= 4:
            (length,) = _length_at(data, at)
            if not 1 <= length <= most:
                raise RemoteProtocolError(
                    "frame_too_large" if length else "bad_frame",
                    f"a frame of {length} bytes, at most {most} are taken",
                )
            stop = at + 4 + length
            if stop > end:
                self._need = 4 + length
                break
            frames.append(data[at + 4 : stop])
            at = stop
        rest = data[at:] if at else data
        self._parts = [rest] if rest else []
        self._have = len(rest)
        return frames

    def forget(self) -> None:
        """The rest of an unfinished frame will not come."""
        self._parts, self._have, self._need = [], 0, 4
