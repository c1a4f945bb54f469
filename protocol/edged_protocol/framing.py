"""Bytes to frames (SPEC "Framing"): a 4-byte length, then that many bytes. Sans-IO.

The length is judged as soon as its four bytes are there, before anything of the frame is kept.
"""

from .errors import RemoteProtocolError


class FrameReader:
    """Cuts a byte stream into frames; holds at most one unfinished frame and one read."""

    def __init__(self, max_frame: int) -> None:
        self.max_frame = max_frame
        self._parts: list[bytes] = []
        self._have = 0
        self._need = 4

    @property
    def buffered(self) -> int:
        """Bytes held for a frame that is not complete."""
        return self._have

    def feed(self, data: bytes) -> list[bytes]:
        """The frames completed by `data`. Raises RemoteProtocolError; then the reader is finished."""
        self._have += len(data)
        self._parts.append(data)
        if self._have < self._need:
            return []
        return self._cut(b"".join(self._parts) if len(self._parts) > 1 else data)

    def _cut(self, data: bytes) -> list[bytes]:
        frames: list[bytes] = []
        at, end = 0, len(data)
        self._need = 4
        while end - at >= 4:
            length = int.from_bytes(data[at : at + 4], "big")
            if not 1 <= length <= self.max_frame:
                raise RemoteProtocolError(
                    "frame_too_large" if length else "bad_frame",
                    f"a frame of {length} bytes, at most {self.max_frame} are taken",
                )
            if end - at - 4 < length:
                self._need = 4 + length
                break
            frames.append(data[at + 4 : at + 4 + length])
            at += 4 + length
        rest = data[at:] if at else data
        self._parts = [rest] if rest else []
        self._have = len(rest)
        return frames
