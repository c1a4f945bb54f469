"""Whose move it was that a record names (reliability §2.5, step 7).

Decides how the id of a change of ownership tells which node made it: that node may have a copy of the session which is
newer than the record, when the one that the record names is lost. A field of the record was the alternative: every store
would have one more, for what is read once in the life of a node.
"""

from hashlib import blake2b

HALF = 8
"""Bytes for the move, and as many for its node: two moves of one session are told apart by 64 bits."""


def signed(move: bytes, node: str) -> bytes:
    """The id that the move `move` has when `node` makes it."""
    return blake2b(move, digest_size=HALF).digest() + _mark(node)


def signed_by(move: bytes | None, node: str | None) -> bool:
    """Whether `node` made this move."""
    return move is not None and node is not None and move[HALF:] == _mark(node)


def _mark(node: str) -> bytes:
    return blake2b(node.encode(), digest_size=HALF).digest()
