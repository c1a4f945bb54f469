"""The state of one session inside a container, and how a failed call is undone (DESIGN §5.2, §8).

Decides what a handler touched, what changed and how large the packed state is. Refuses to know calls,
modes and sockets.

A dict is followed by its top-level keys: the first touch of a key in a call keeps the packed form of the
value it had, so an undo costs the touched keys and not the state. On commit touched values are packed
again and replaced by what unpacking them gives: a handler that kept a reference to a value can no longer
change the state through it, no two keys share an object, and what msgpack cannot carry is refused in the
call that put it there. In both modes a call therefore finds the same values. `copy.deepcopy` in place of
packing was measured ten times slower on nested lists.

An undone deletion puts the key back at the end of the dict; restoring its place would cost the whole dict.
"""

from collections.abc import Callable, ItemsView, Iterator, ValuesView
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Protocol, Self

import msgpack  # type: ignore[import-untyped]

PLAIN = frozenset({int, float, str, bytes, bool, type(None)})
"""Types whose values cannot change: reading one needs no copy."""

EMPTY = b"\x80"
"""The packed empty dict."""

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


class State(Protocol):
    """One session's state. `value` is what handlers see as `s.state`."""

    @property
    def value(self) -> Any: ...

    def replace(self, value: Any) -> None:
        """Take `value` for the whole state."""

    def begin(self) -> None:
        """A call begins: remember what it touches."""

    def pause(self) -> None:
        """The handler is done: what is read from here on is not its doing."""

    def commit(self, limit: int) -> bool:
        """Keep the changes; whether there were any. Raises StateError, then nothing is kept."""

    def undo(self) -> None:
        """Take back everything since `begin`."""

    def packed(self) -> bytes:
        """The whole state as bytes."""


class Tracked(dict[Any, Any]):
    """A dict that can take back what was done to it, and below it, since `begin`."""

    __slots__ = ("_bytes", "before", "recording")

    def __init__(self, values: Any = ()) -> None:
        super().__init__(values)
        self.before: dict[Any, Any] = {}
        """Packed value before the call of each touched key, or _ABSENT; in order of the undo."""
        self.recording = False
        self._bytes = -1

    def begin(self) -> None:
        if self._bytes < 0:  # once per loaded session: later calls only add what they changed
            self._bytes = len(pack(self)) - _header(len(self))
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
            self.before[key] = self.before.pop(key)

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
        changed = any(old != after[key] for key, old in self.before.items())
        self._bytes = size
        self._forget()
        return changed

    def _packed_value(self, key: Any) -> Any:
        value = super().get(key, _ABSENT)
        if value is _ABSENT:
            return _ABSENT
        if not isinstance(key, str):
            raise StateError(f"the state's keys are strings, not {type(key).__name__}: {key!r:.80}")
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
        for key, old in reversed(self.before.items()):
            if old is _ABSENT:
                super().pop(key, None)
            else:
                super().__setitem__(key, unpack(old))
        self._forget()

    def _forget(self) -> None:
        self.recording = False
        self.before = {}


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


class DictState:
    """A state that is a dict."""

    def __init__(self, values: dict[str, Any]) -> None:
        self._cells = Tracked(values)

    @property
    def value(self) -> Any:
        return self._cells

    def replace(self, value: Any) -> None:
        """All keys of `value`, and no others."""
        entries = dict(value)
        self._cells.clear()
        self._cells.update(entries)

    def begin(self) -> None:
        self._cells.begin()

    def pause(self) -> None:
        self._cells.pause()

    def commit(self, limit: int) -> bool:
        return self._cells.commit(limit)

    def undo(self) -> None:
        self._cells.undo()

    def packed(self) -> bytes:
        return pack(self._cells)


class RecordState(DictState):
    """A state that is a dataclass: a Tracked dict of its fields behind an instance of the class.

    Fields this version of the class does not know stay in the dict, so that a newer version, which
    may take over again, finds them.
    """

    def __init__(self, cls: Any, facade: Any, values: dict[str, Any]) -> None:
        self._cls = cls
        known = {f.name: values[f.name] for f in fields(facade) if f.init and f.name in values}
        try:
            self._instance = facade(**known)
        except TypeError as error:
            raise StateError(f"{cls.__name__} cannot be made of the stored state: {error}") from error
        cells: dict[str, Any] = self._instance._edged_cells
        # Defaults as later calls will find them: a tuple is a list once it was packed.
        defaults = unpack(pack({k: v for k, v in cells.items() if k not in values}))
        self._cells = Tracked({**defaults, **values})
        object.__setattr__(self._instance, "_edged_cells", self._cells)

    @property
    def value(self) -> Any:
        return self._instance

    def replace(self, value: Any) -> None:
        """The fields of another instance."""
        if not isinstance(value, self._cls):
            raise TypeError(f"the state is a {self._cls.__name__}, not {value!r:.80}")
        self._cells.update({f.name: getattr(value, f.name) for f in fields(value)})


class OpaqueState:
    """A state only the function's own `load` and `dump` understand: undone by loading it again."""

    def __init__(
        self,
        new: Callable[[], Any],
        load: Callable[[Any], Any],
        dump: Callable[[Any], Any],
        data: bytes | None,
    ) -> None:
        self._new, self._load, self._dump = new, load, dump
        self._last = data
        self.value = self._restored()

    def _restored(self) -> Any:
        return self._new() if self._last is None else self._load(unpack(self._last))

    def replace(self, value: Any) -> None:
        self.value = value

    def begin(self) -> None:
        """Nothing to prepare: the last packed form is what an undo needs."""

    def pause(self) -> None:
        """Nothing was followed."""

    def commit(self, limit: int) -> bool:
        data = self.packed()
        if len(data) > limit:
            raise StateTooLarge(f"the state takes {len(data)} bytes, {limit} are allowed")
        changed = data != self._last
        self._last = data
        return changed

    def undo(self) -> None:
        self.value = self._restored()

    def packed(self) -> bytes:
        return pack(self._dump(self.value))


def facade_of(cls: Any) -> Any:
    """A subclass of the dataclass `cls` whose fields live in a Tracked dict; looks like `cls`."""
    body: dict[str, Any] = {field.name: _field(field.name) for field in fields(cls)}
    body["__new__"] = _new_facade
    # The comparison a dataclass generates asks for equal __class__.
    body["__class__"] = property(lambda _: cls)
    body["__module__"] = cls.__module__
    return type(cls)(cls.__name__, (cls,), body)


def _new_facade(cls: type, *_: Any, **__: Any) -> Any:
    instance: Any = object.__new__(cls)
    object.__setattr__(instance, "_edged_cells", {})
    return instance


def _field(name: str) -> property:
    def read(self: Any) -> Any:
        try:
            return self._edged_cells[name]
        except KeyError:
            raise AttributeError(name) from None

    def write(self: Any, value: Any) -> None:
        self._edged_cells[name] = value

    return property(read, write)


def _without_default(cls: Any) -> list[str]:
    """Fields of a dataclass that a new session could not be given."""
    return [
        f.name for f in fields(cls) if f.init and f.default is MISSING and f.default_factory is MISSING
    ]


class Kind:
    """How a function's states are made and read: the choice between the three classes, made once."""

    def __init__(
        self,
        shape: Any,
        load: Callable[[Any], Any] | None = None,
        dump: Callable[[Any], Any] | None = None,
    ) -> None:
        self.shape, self._load, self._dump = shape, load, dump
        self._facade: Any = None
        if (load is None) != (dump is None):
            raise TypeError("@fn.load and @fn.dump belong together: one of them is missing")
        if load is None and shape is not dict:
            self._facade = self._checked_facade(shape)

    @staticmethod
    def _checked_facade(shape: Any) -> Any:
        if not (isinstance(shape, type) and is_dataclass(shape)):
            raise TypeError(f"state={shape!r}: give dict or a dataclass, or @fn.load and @fn.dump")
        missing = _without_default(shape)
        if missing:
            raise TypeError(
                f"{shape.__name__} needs a default for {', '.join(missing)}: sessions start empty"
            )
        return facade_of(shape)

    def make(self, data: bytes | None) -> State:
        """The state in `data`, or that of a new session."""
        if self._load is not None and self._dump is not None:
            return OpaqueState(self.shape, self._load, self._dump, data)
        values = {} if data is None else unpack(data)
        if type(values) is not dict:
            raise StateError(f"the stored state is a {type(values).__name__}, not a map")
        if self._facade is None:
            return DictState(values)
        return RecordState(self.shape, self._facade, values)

    def changed(self, state: State, old: bytes | None, limit: int) -> bytes | None:
        """The packed state if it is not `old`, else None; what cannot be read back is refused.

        A new dict that stayed empty is no change; any other new state is, as its defaults may be random.
        """
        data = state.packed()
        if data == (EMPTY if old is None and self.shape is dict else old):
            return None
        if len(data) > limit:
            raise StateTooLarge(f"the state takes {len(data)} bytes, {limit} are allowed")
        unpack(data)
        return data
