"""A dict that follows what is done to it, so that a failed call is undone (DESIGN §5.2).

Decides what a handler touched and what changed. Refuses to know calls, modes and functions.

A dict is followed by its top-level keys: the first touch of a key in a call keeps the packed form of the
value it had, so an undo costs the touched keys and not the state. On commit touched values are packed
again and replaced by what unpacking them gives: a handler that kept a reference to a value can no longer
change the state through it, no two keys share an object, and what msgpack cannot carry is refused in the
call that put it there. In both modes a call therefore finds the same values.

An undone deletion puts the key back at the end of the dict; restoring its place would cost the whole dict.
"""

from collections.abc import ItemsView, Iterator, ValuesView
from typing import Any, Self

import msgpack  # type: ignore[import-untyped]

from .changes import ChangeLog

PLAIN = frozenset({int, float, str, bytes, bool, type(None)})
"""Types whose values cannot change: reading one needs no copy."""

_ABSENT: Any = object()
_packer = msgpack.Packer(use_bin_type=True, autoreset=True)


class StateError(Exception):
    """The state cannot be packed, or a packed one cannot be read."""


class StateTooLarge(StateError):
    """The packed state is longer than the function's `max_bytes`."""


def pack(value: Any) -> bytes:
    """A value of a state as msgpack; StateError says what does not fit."""
    try:
        data: bytes = _packer.pack(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        _packer.reset()
        raise StateError(f"the state holds what msgpack cannot carry: {error}") from error
    return data


def unpack(data: bytes) -> Any:
    """The value of a packed state; StateError when it is none."""
    try:
        return msgpack.unpackb(data, raw=False, strict_map_key=True)
    except (ValueError, TypeError, msgpack.exceptions.UnpackException) as error:
        raise StateError(f"not a state this function can read back: {error}") from error


def checked(key: Any) -> None:
    """Whether `key` may be one of a state's own. Raises StateError."""
    if not isinstance(key, str):
        raise StateError(f"the state's keys are strings, not {type(key).__name__}: {key!r:.80}")


class Tracked(dict[Any, Any]):
    """A dict that can take back what was done to it, and below it, since `begin`."""

    __slots__ = ("_bytes", "_taken", "before", "log", "recording")

    def __init__(self, values: Any = ()) -> None:
        super().__init__(values)
        self.before: dict[Any, Any] = {}
        """Packed value before the call of each touched key, or _ABSENT. A key stays in it until the call is over, since
        another thread may look (`committed`)."""
        self._taken: dict[Any, None] = {}
        """The touched keys that were deleted, the last one last."""
        self.recording = False
        self.log: ChangeLog | None = None
        """Told of every key whose value another one took the place of, once somebody follows the state."""
        self._bytes = -1

    @property
    def size(self) -> int:
        """Bytes of the packed state as of the last commit."""
        if self._bytes < 0:  # once per loaded session: later calls only add what they changed
            self._bytes = len(pack(self)) - _header(len(self))
        return self._bytes + _header(len(self))

    def sized(self, entries: int) -> None:
        """The packed entries are known to take so many bytes."""
        self._bytes = entries

    def begin(self) -> None:
        if self._bytes < 0:
            _ = self.size
        self.recording = True

    def pause(self) -> None:
        self.recording = False

    def _keep(self, key: Any) -> None:
        """First touch: keep what the key had."""
        if self.recording and key not in self.before:
            value = super().get(key, _ABSENT)
            self.before[key] = value if value is _ABSENT else pack(value)

    def _lent(self, key: Any, value: Any) -> Any:
        """`value` goes to the handler, which may change it."""
        if self.recording and type(value) not in PLAIN and key not in self.before:
            self.before[key] = pack(value)
        return value

    def _removed(self, key: Any) -> None:
        """Deleted keys are restored in reverse order, so that popitem is undone exactly."""
        if key in self.before:
            self._taken.pop(key, None)
            self._taken[key] = None

    def __getitem__(self, key: Any) -> Any:
        value = super().__getitem__(key)
        if type(value) in PLAIN:
            return value
        return self._lent(key, value)

    def get(self, key: Any, default: Any = None) -> Any:
        value = super().get(key, _ABSENT)
        return default if value is _ABSENT else self._lent(key, value)

    def __setitem__(self, key: Any, value: Any) -> None:
        if self.recording and key not in self.before:
            self._keep(key)
        super().__setitem__(key, value)

    def __delitem__(self, key: Any) -> None:
        if key in self:
            self._keep(key)
            self._removed(key)
        super().__delitem__(key)

    def setdefault(self, key: Any, default: Any = None) -> Any:
        if key not in self:
            self[key] = default
        return self[key]

    def pop(self, key: Any, *default: Any) -> Any:
        if key in self:
            self._keep(key)
            self._removed(key)
        return super().pop(key, *default)

    def popitem(self) -> tuple[Any, Any]:
        for key in reversed(self):
            return key, self.pop(key)
        return super().popitem()

    def clear(self) -> None:
        for key in list(reversed(self)):
            self._keep(key)
            self._removed(key)
        super().clear()

    def update(self, *args: Any, **kwargs: Any) -> None:
        for key, value in dict(*args, **kwargs).items():
            self[key] = value

    def __ior__(self, other: Any) -> Self:
        self.update(other)
        return self

    def __or__(self, other: Any) -> Any:
        return dict(self) | other

    def __ror__(self, other: Any) -> Any:
        return other | dict(self)

    def __iter__(self) -> Iterator[Any]:
        # Defined so that dict(s.state) and {**s.state} ask __getitem__ instead of copying references.
        return super().__iter__()

    def items(self) -> ItemsView[Any, Any]:  # type: ignore[override]
        self._lend_all()
        return super().items()

    def values(self) -> ValuesView[Any]:  # type: ignore[override]
        self._lend_all()
        return super().values()

    def copy(self) -> dict[Any, Any]:
        return dict(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)

    def _lend_all(self) -> None:
        if self.recording:
            for key, value in super().items():
                self._lent(key, value)

    def commit(self, limit: int) -> bool:
        """Settle the touched keys; whether any changed. Raises StateError before it alters anything."""
        after = {key: self._packed_value(key) for key in self.before}
        size = self._bytes
        for key, old in self.before.items():
            size += _growth(key, old, after[key])
        if size + _header(len(self)) > limit:
            raise StateTooLarge(
                f"the state takes {size + _header(len(self))} bytes, {limit} are allowed"
            )
        super().update(self._settled(after))
        changed = [key for key, old in self.before.items() if old != after[key]]
        if self.log is not None:
            for key in changed:
                self.log.note(key)
            self.log.shorten(self)
        self._bytes = size
        self._forget()
        return bool(changed)

    def _packed_value(self, key: Any) -> Any:
        value = super().get(key, _ABSENT)
        if value is _ABSENT:
            return _ABSENT
        checked(key)
        return pack(value)

    def _settled(self, after: dict[Any, Any]) -> dict[Any, Any]:
        """Fresh values for the touched keys that hold something changeable."""
        return {
            key: unpack(data)
            for key, data in after.items()
            if data is not _ABSENT and type(super(Tracked, self).__getitem__(key)) not in PLAIN
        }

    def undo(self) -> None:
        """Every touched key as it was."""
        for key in (*(self.before.keys() - self._taken.keys()), *reversed(self._taken)):
            old = self.before[key]
            if old is _ABSENT:
                super().pop(key, None)
            else:
                super().__setitem__(key, unpack(old))
        self._forget()

    def committed(self) -> bytes:
        """The packed state as of the last commit, whatever a call that runs has done since; nothing is touched by it.

        The call may run in another thread: `before` is asked after a value was packed, and what stands there counts, for
        a value is kept there before anybody can change it.
        """
        packer = msgpack.Packer(use_bin_type=True, autoreset=True)
        entries: dict[Any, Any] = {}
        for key, value in list(super().items()):
            try:
                entries[key] = None if key in self.before else packer.pack(value)
            except (TypeError, ValueError, OverflowError, RecursionError):  # changed by the call, so kept as it was
                packer.reset()
                entries[key] = None
        entries |= dict(self.before)
        known = {key: data for key, data in entries.items() if data is not _ABSENT}
        parts = [part for key, data in known.items() for part in (packer.pack(key), data)]
        return b"".join((packer.pack_map_header(len(known)), *parts))

    def _forget(self) -> None:
        self.recording = False
        self.before, self._taken = {}, {}


def _growth(key: Any, old: Any, new: Any) -> int:
    """Bytes by which an entry of a packed map grew."""
    if old is _ABSENT and new is _ABSENT:
        return 0
    if old is _ABSENT:
        return len(pack(key)) + len(new)
    return -len(pack(key)) - len(old) if new is _ABSENT else len(new) - len(old)


def _header(entries: int) -> int:
    """Bytes msgpack spends on a map of that many entries besides the entries."""
    return 1 if entries < 16 else 3 if entries < 65536 else 5
