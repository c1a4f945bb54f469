"""The state of one session inside a container: a dict, a dataclass or the function's own (DESIGN §8).

Decides how each kind is made, packed and undone. Refuses to know calls, modes and sockets.
"""

from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Protocol

from .changes import ChangeLog, Delta, DeltaReader, Digest
from .tracked import StateError, StateTooLarge, Tracked, checked, pack, unpack

EMPTY = b"\x80"
"""The packed empty dict."""


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

    def committed(self) -> bytes | None:
        """The whole state as of the last commit, while a call runs; None: that of a new session."""

    @property
    def size(self) -> int:
        """Bytes of the whole state as of the last commit."""

    @property
    def serial(self) -> int:
        """Where a reader of changes is that has the state as of the last commit; 0 when it is followed first."""

    def follow(self) -> None:
        """Note from here on what commits change."""

    def delta(self, since: int, limit: int, digest: bool) -> Delta:
        """What changed since a serial, as of the last commit. Raises changes.Stale."""


class DictState:
    """A state that is a dict. `entries`: bytes of its packed entries, where known."""

    def __init__(self, values: dict[str, Any], entries: int | None = None) -> None:
        self._cells = Tracked(values)
        if entries is not None:
            self._cells.sized(entries)
        self._reader: DeltaReader | None = None

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

    def committed(self) -> bytes | None:
        return self._cells.committed()

    @property
    def size(self) -> int:
        return self._cells.size

    @property
    def serial(self) -> int:
        return 0 if self._cells.log is None else self._cells.log.head

    def follow(self) -> None:
        _ = self._cells.size  # now, while nobody waits for a call
        self._cells.log = ChangeLog()
        self._reader = DeltaReader(self._cells.log)

    def delta(self, since: int, limit: int, digest: bool) -> Delta:
        assert self._reader is not None, "nobody follows this state"
        return self._reader.take(self._cells, self._cells.size, since, limit, digest)


class RecordState(DictState):
    """A state that is a dataclass: a Tracked dict of its fields behind an instance of the class.

    Fields this version of the class does not know stay in the dict, so that a newer version, which
    may take over again, finds them.
    """

    def __init__(self, cls: Any, facade: Any, values: dict[str, Any], entries: int | None = None) -> None:
        self._cls = cls
        self._reader = None
        known = {f.name: values[f.name] for f in fields(facade) if f.init and f.name in values}
        try:
            self._instance = facade(**known)
        except TypeError as error:
            raise StateError(f"{cls.__name__} cannot be made of the stored state: {error}") from error
        # A default that __init__ does not assign is an attribute of the class, which the facade hides.
        cells = {f.name: f.default for f in fields(cls) if f.default is not MISSING}
        cells |= self._instance._edged_cells
        # Defaults as later calls will find them: a tuple is a list once it was packed.
        self._defaults = unpack(pack({k: v for k, v in cells.items() if k not in values}))
        self._cells = Tracked({**self._defaults, **values})
        if entries is not None and not self._defaults:
            self._cells.sized(entries)
        object.__setattr__(self._instance, "_edged_cells", self._cells)

    @property
    def value(self) -> Any:
        return self._instance

    def replace(self, value: Any) -> None:
        """The fields of another instance."""
        if not isinstance(value, self._cls):
            raise TypeError(f"the state is a {self._cls.__name__}, not {value!r:.80}")
        self._cells.update({f.name: getattr(value, f.name) for f in fields(value)})

    def follow(self) -> None:
        super().follow()
        for name in self._defaults:  # perhaps random: they are not where this state came from
            assert self._cells.log is not None
            self._cells.log.note(name)


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
        self._serial = 0
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
        self._serial += changed
        return changed

    def undo(self) -> None:
        self.value = self._restored()

    def packed(self) -> bytes:
        return pack(self._dump(self.value))

    def committed(self) -> bytes | None:
        return self._last

    @property
    def size(self) -> int:
        return len(self._last or b"")

    @property
    def serial(self) -> int:
        return self._serial

    def follow(self) -> None:
        """The last packed form is all there is to compare with."""

    def delta(self, since: int, limit: int, digest: bool) -> Delta:
        if self._last is None:
            self._last = self.packed()
        whole = Digest()
        whole.put(b"", self._last)
        data = b"" if since == self._serial else pack([self._last])
        return Delta(data, self._serial, 0, whole.value)


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

    @property
    def opaque(self) -> bool:
        """Whether only the function's own `load` and `dump` understand a state."""
        return self._load is not None

    def made_of(self, values: dict[str, Any], entries: int) -> State:
        """The state of these entries, which take so many bytes when packed."""
        if self._facade is None:
            return DictState(values, entries)
        return RecordState(self.shape, self._facade, values, entries)

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
        entries = unpack(data)
        if not self.opaque:
            for key in entries:
                checked(key)
        return data
