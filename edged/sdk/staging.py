"""A state that arrives in pieces: base, deltas, until a session is made of it (DESIGN §5).

Decides what the pieces add up to, and its digest. Refuses to know where they come from. Nothing of it is a session
before the last piece: a source that falls silent leaves a dict behind, which goes with the container.
"""

from typing import Any

from .changes import Digest
from .state import Kind, State
from .tracked import StateError, pack, unpack


class Staged:
    """`base`, if there is one, `put` each delta in its order, `made` is the state."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._whole: bytes | None = None
        self._values: dict[str, Any] = {}
        self._bytes: dict[str, int] = {}
        self._digest = Digest()
        self.size = 0

    @property
    def digest(self) -> int:
        """Of all deltas so far, as `changes` counts it."""
        return self._digest.value

    def base(self, state: bytes | None) -> None:
        """What the deltas to come lie on. Raises StateError."""
        if self._kind.opaque or state is None:
            self._whole, self.size = state, len(state or b"")
            return
        values = unpack(state)
        if type(values) is not dict:
            raise StateError(f"the stored state is a {type(values).__name__}, not a map")
        self._put_entries(values, [])

    def put(self, data: bytes) -> None:
        """One delta, perhaps an empty one. Raises StateError for what is none, or of another kind of state."""
        if not data:
            return
        piece = unpack(data)
        if type(piece) is not list:
            raise StateError("not a delta")
        if self._kind.opaque and len(piece) == 1 and type(piece[0]) is bytes:
            self._digest.put(b"", piece[0])
            self._whole, self.size = piece[0], len(piece[0])
        elif not self._kind.opaque and len(piece) == 2 and type(piece[0]) is dict and type(piece[1]) is list:
            self._put_entries(*piece)
        else:
            raise StateError("not a delta of this function's kind of state")

    def _put_entries(self, changed: dict[str, Any], gone: list[str]) -> None:
        for key, value in changed.items():
            name, packed = pack(key), pack(value)
            self._digest.put(name, packed)
            self.size += len(name) + len(packed) - self._bytes.get(key, 0)
            self._bytes[key] = len(name) + len(packed)
        self._values.update(changed)
        for key in gone:
            self._digest.drop(pack(key))
            self.size -= self._bytes.pop(key, 0)
            self._values.pop(key, None)

    def made(self) -> State:
        """The state. Raises StateError, and whatever the function's `load` raises."""
        return self._kind.make(self._whole) if self._kind.opaque else self._kind.made_of(self._values, self.size)
