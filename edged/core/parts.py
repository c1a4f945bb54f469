"""A stored state with the deltas on it, on its way to a container (SPEC "Containers").

Decides how the two travel as one blob, and what they add up to for a container that takes whole states only: the one
place in the mesh that looks into a state, as a function that no longer speaks of deltas may find some in the store.
"""

from typing import Any

from edged_protocol.codec import pack, unpack
from edged_protocol.errors import ProtocolError


def for_container(state: bytes | None, deltas: tuple[bytes, ...], speaks: bool) -> tuple[bytes | None, bool]:
    """The blob, and whether it is the array of the parts; always that where nobody can tell what they add up to."""
    state = state or None  # an empty one is that of a new session
    if not deltas:
        return state, False
    if not speaks:
        try:
            return _merged(state, deltas), False
        except (ProtocolError, ValueError, TypeError):
            pass  # not of the Python runtime: the container will say what it thinks of it
    return pack([state, *deltas]), True


def _merged(state: bytes | None, deltas: tuple[bytes, ...]) -> bytes | None:
    whole, values = state, unpack(state) if state is not None else {}
    for piece in map(unpack, deltas):
        if len(piece) == 1:
            whole, values = piece[0], unpack(piece[0])
        else:
            _apply(values, *piece)
            whole = pack(values)
    return whole


def _apply(values: dict[str, Any], changed: dict[str, Any], gone: list[str]) -> None:
    values |= changed
    for key in gone:
        values.pop(key, None)
