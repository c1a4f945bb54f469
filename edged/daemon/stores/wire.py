"""Store operations and outcomes on the wire between nodes: one table, read both ways.

Refuses to know drivers and connections. Everything that can be large (states, remembered bodies,
listings) travels in the blob, packed, because the rest of a frame is bounded to 64 KiB; one
encoding for small and large alike, so that no size takes a path the tests do not.
"""

from collections.abc import Callable
from typing import Any, cast

from edged.core.records import (
    MAX_ASK,
    MAX_DELTAS,
    MAX_INTEGER,
    Entry,
    Forget,
    Lease,
    Leased,
    LeaseTable,
    ListAlarms,
    Listed,
    ListSessions,
    Load,
    Loaded,
    Mode,
    Op,
    Outcome,
    ReadLeases,
    Record,
    Renew,
    SessionKey,
    StoreFailed,
    Write,
    Written,
)
from edged_protocol.codec import pack, unpack
from edged_protocol.errors import RemoteProtocolError
from edged_protocol.limits import CALL_ID_BYTES, MAX_NAME, MAX_SESSION_KEY


class BadRecord(ValueError):
    """A store message that is not one; says which field."""


# ---- fields


def _integer(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= MAX_INTEGER:
        raise BadRecord("an unsigned 63-bit integer was expected")
    return value


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value < float("inf"):
        raise BadRecord("a finite number of at least 0 was expected")
    return float(value)


def _flag(value: Any) -> bool:
    if type(value) is not bool:
        raise BadRecord("a boolean was expected")
    return value


def _text(value: Any) -> str:
    if type(value) is not str:
        raise BadRecord("a string was expected")
    return value


def _name(value: Any) -> str:
    if not 1 <= len(_text(value)) <= MAX_NAME:
        raise BadRecord(f"a name of 1 to {MAX_NAME} characters was expected")
    return cast(str, value)


def _bytes(value: Any) -> bytes:
    if type(value) is not bytes:
        raise BadRecord("a byte string was expected")
    return value


def _id(value: Any) -> bytes:
    if len(_bytes(value)) != CALL_ID_BYTES:
        raise BadRecord(f"an id of {CALL_ID_BYTES} bytes was expected")
    return cast(bytes, value)


def _mode(value: Any) -> Mode:
    if value not in ("remote", "local"):
        raise BadRecord('"remote" or "local" was expected')
    return cast(Mode, value)


def _unknown(value: Any) -> None:
    if value is not None and value is not False:
        raise BadRecord("false or nil was expected")
    return cast(None, value)


def _list(value: Any, length: int | None = None) -> list[Any]:
    if type(value) is not list or (length is not None and len(value) != length):
        raise BadRecord(f"an array of {length} was expected" if length else "an array was expected")
    return value


def _optional(check: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else check(value)


def _key(value: Any) -> SessionKey:
    function, session = _list(value, 2)
    if not 1 <= len(_text(session).encode()) <= MAX_SESSION_KEY:
        raise BadRecord(f"a session key of 1 to {MAX_SESSION_KEY} bytes was expected")
    return SessionKey(_name(function), session)


def _entry(value: Any) -> Entry:
    call_id, code, body, version = _list(value, 4)
    return Entry(_id(call_id), _integer(code), _optional(_bytes)(body), _integer(version))


def _entries(value: Any) -> tuple[Entry, ...]:
    return tuple(_entry(item) for item in _list(value))


def _ask(value: Any) -> tuple[bytes, ...]:
    if len(_list(value)) > MAX_ASK:
        raise BadRecord(f"at most {MAX_ASK} call ids can be asked for")
    return tuple(_id(item) for item in value)


def _deltas(value: Any) -> tuple[bytes, ...]:
    if len(_list(value)) > MAX_DELTAS:
        raise BadRecord(f"at most {MAX_DELTAS} deltas lie on a state")
    return tuple(_bytes(item) for item in value)


def _node_seq(value: Any) -> tuple[str, int]:
    node, seq = _list(value, 2)
    return _name(node), _integer(seq)


def _record(value: Any) -> Record:
    fields = _list(value, len(_RECORD))
    return Record(*(_checked(n, c, v) for (n, c), v in zip(_RECORD.items(), fields, strict=True)))


def _row(value: Any) -> tuple[SessionKey, Record]:
    key, record = _list(value, 2)
    return _key(key), _record(record)


def _rows(value: Any) -> tuple[tuple[SessionKey, Record], ...]:
    return tuple(_row(item) for item in _list(value))


def _lease(value: Any) -> Lease:
    node, boot, seq, ttl = _list(value, 4)
    return Lease(_name(node), _text(boot), _integer(seq), _number(ttl))


def _leases(value: Any) -> tuple[Lease, ...]:
    return tuple(_lease(item) for item in _list(value))


def _checked(name: str, check: Callable[[Any], Any], value: Any) -> Any:
    try:
        return check(value)
    except BadRecord as error:
        raise BadRecord(f"{name}: {error}") from None


_Fields = dict[str, Callable[[Any], Any]]

_RECORD: _Fields = {
    "epoch": _integer,
    "mode": _mode,
    "owner": _optional(_name),
    "owner_boot": _optional(_text),
    "version": _integer,
    "move": _optional(_id),
    "state": _optional(_bytes),
    "floor": _flag,
    "schema": _integer,
    "updated": _number,
    "alarms": _optional(_bytes),
    "deltas": _deltas,
}

_EXPECT: _Fields = {"key": _key, "expect_epoch": _integer, "expect_version": _integer}

# Verb or kind: its type, the fields in the map, the fields in the blob.
_Shape = tuple[Callable[..., Any], _Fields, _Fields]

_OPS: dict[str, _Shape] = {
    "store.load": (Load, {"key": _key, "ask": _optional(_ask)}, {}),
    "store.write": (
        Write,
        _EXPECT
        | {
            "epoch": _integer,
            "version": _integer,
            "mode": _mode,
            "owner": _optional(_name),
            "owner_boot": _optional(_text),
            "move": _optional(_id),
            "keep": _integer,
            "keep_bytes": _integer,
            "durable": _flag,
            "schema": _integer,
            "lease": _optional(_node_seq),
            "due": _optional(_number),
        },
        {
            "state": _optional(_bytes),
            "delta": _optional(_bytes),
            "results": _entries,
            "alarms": _optional(_bytes),
            "had_alarms": _optional(_bytes),
        },
    ),
    "store.forget": (Forget, _EXPECT, {}),
    "store.list": (
        ListSessions,
        {"function": _optional(_name), "after": _optional(_key), "limit": _integer},
        {},
    ),
    "store.alarms": (ListAlarms, {"before": _number, "limit": _integer}, {}),
    "store.renew": (Renew, {"node": _name, "boot": _text, "seq": _integer, "ttl": _number, "over": _optional(_integer)}, {}),
    "store.leases": (ReadLeases, {}, {}),
}

_OUTCOMES: dict[str, _Shape] = {
    "loaded": (Loaded, {}, {"record": _optional(_record), "results": _entries}),
    "written": (
        Written,
        {"won": _flag},
        {"current": _optional(_record), "duplicate": _optional(_entry)},
    ),
    "listed": (Listed, {}, {"rows": _rows}),
    "leased": (Leased, {"won": _flag, "seq": _integer}, {}),
    "leases": (LeaseTable, {}, {"rows": _leases}),
    "failed": (StoreFailed, {"applied": _unknown, "reason": _text}, {}),
}

VERBS = frozenset(_OPS)
"""Every control verb that is a store operation."""

_NAME_OF = {shape[0]: name for table in (_OPS, _OUTCOMES) for name, shape in table.items()}


# ---- to the wire and back


def op_to_wire(op: Op) -> tuple[str, dict[str, Any], bytes | None]:
    """The verb, params and blob of a REQUEST."""
    verb = _NAME_OF[type(op)]
    params, blob = _to_wire(op, _OPS[verb])
    return verb, params, blob


def op_from_wire(verb: str, params: dict[str, Any], blob: bytes | None) -> Op:
    """The operation of a REQUEST. Raises BadRecord."""
    if verb not in _OPS:
        raise BadRecord(f"{verb[:40]!r} is not a store verb")
    return cast(Op, _from_wire(_OPS[verb], params, blob))


def outcome_to_wire(outcome: Outcome) -> tuple[dict[str, Any], bytes | None]:
    """The result and blob of a REPLY."""
    kind = _NAME_OF[type(outcome)]
    params, blob = _to_wire(outcome, _OUTCOMES[kind])
    return {"kind": kind, **params}, blob


def outcome_from_wire(result: Any, blob: bytes | None) -> Outcome:
    """The outcome of a REPLY. Raises BadRecord."""
    kind = result.get("kind") if type(result) is dict else None
    if type(kind) is not str or kind not in _OUTCOMES:
        raise BadRecord("not an answer of a store")
    return cast(Outcome, _from_wire(_OUTCOMES[kind], result, blob))


def _to_wire(value: Any, shape: _Shape) -> tuple[dict[str, Any], bytes | None]:
    _, small, large = shape
    params = {name: getattr(value, name) for name in small}
    if not large:
        return params, None
    return params, pack([_plain(getattr(value, name)) for name in large])


def _plain(value: Any) -> Any:
    """Records as arrays, wherever they stand; tuples pack as arrays by themselves."""
    if type(value) is Record:
        return [getattr(value, name) for name in _RECORD]
    return [_plain(item) for item in value] if type(value) is tuple else value


def _from_wire(shape: _Shape, params: dict[str, Any], blob: bytes | None) -> Any:
    make, small, large = shape
    fields = {name: _checked(name, check, params.get(name)) for name, check in small.items()}
    if large:
        parts = _unpacked(blob, len(large))
        for (name, check), part in zip(large.items(), parts, strict=True):
            fields[name] = _checked(name, check, part)
    return make(**fields)


def _unpacked(blob: bytes | None, length: int) -> list[Any]:
    if blob is None:
        raise BadRecord("the blob is missing")
    try:
        return _list(unpack(blob), length)
    except (RemoteProtocolError, BadRecord) as error:
        raise BadRecord(f"blob: {error}") from error
