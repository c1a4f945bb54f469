"""A store's operations as Redis scripts, and their replies as outcomes (DESIGN §5).

Decides how a session lies in Redis and what is one atomic step there. Refuses to know connections.

One script per operation, because a script is the only compare-and-set over several keys. Every key of a store
carries the same hash tag: a takeover compares a lease and a listing's index changes in the same step as the
record, which a Cluster can only do in one slot. So one store is one shard; a Cluster holds many stores.
A hash per session has the record, its state a field among others; the window is a hash of entries beside the
list of their ids by age, so that a commit writes its own result and nothing else of the window; deltas are a list.
Numbers travel as text: Lua's have 53 bits. The first write of each script is one that Redis refuses when its memory is full,
and what is refused there has changed nothing: a script has no way back.
"""

import hashlib
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

from edged.core.records import (
    MAX_DELTAS,
    MAX_INTEGER,
    MAX_PAGE,
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

MAX_LEASES = 1024
"""As many nodes as a mesh knows."""

FORMAT = b"1"
"""Of what lies in Redis; another one is not read by guesswork."""

_HEAD = struct.Struct(">qq?")
"""Before a remembered body: code, version, whether there is a body."""

_META = "'epoch','mode','owner','boot','version','move','floor','schema','updated','alarms'"

_LOAD = f"""
local record = redis.call('HMGET', KEYS[1], {_META}, 'state')
local ids = ARGV
if ids[1] == 'all' then ids = redis.call('LRANGE', KEYS[3], 0, -1) end
local found = {{}}
for _, id in ipairs(ids) do
  local entry = redis.call('HGET', KEYS[2], id)
  if entry then
    found[#found + 1] = id
    found[#found + 1] = entry
  end
end
return {{record, found, redis.call('LRANGE', KEYS[4], 0, -1)}}
"""

_WRITE = f"""
local session, window, order, deltas, index, leases, dues = unpack(KEYS)
local member, expect_epoch, expect_version, epoch, move, lease, seq = unpack(ARGV, 1, 7)
local keep, keep_bytes = tonumber(ARGV[8]), tonumber(ARGV[9])
local parts, delta, due, had, first = ARGV[10], ARGV[11], ARGV[12], ARGV[13], 15 + 2 * tonumber(ARGV[14])
local record = redis.call('HMGET', session, {_META}, 'bytes')
if move ~= '' and record[6] == move and record[1] == epoch then return {{1, record}} end
for i = first, #ARGV, 2 do
  local have = redis.call('HGET', window, ARGV[i])
  if have then return {{0, record, ARGV[i], have}} end
end
local expected = (record[1] or '0') == expect_epoch and (record[5] or '0') == expect_version
local held = lease == '' or string.match(redis.call('HGET', leases, lease) or '', '^%d+') == seq
local same = not string.find(parts, 'had') or (record[10] or '') == had
if not (expected and held and same) then return {{0, record}} end
if string.find(parts, 'delta') and not string.find(parts, 'state') and redis.call('LLEN', deltas) >= {MAX_DELTAS} then return {{-1, record}} end
local bytes, floor = tonumber(record[11] or '0'), record[7] or '0'
for i = first, #ARGV, 2 do
  redis.call('HSET', window, ARGV[i], ARGV[i + 1])
  redis.call('RPUSH', order, ARGV[i])
  bytes = bytes + #ARGV[i + 1] - {_HEAD.size}
end
local stays = not string.find(parts, 'state') and ARGV[16] ~= '0' and (record[8] or '0') ~= '0'
if stays then ARGV[16] = record[8] end
redis.call('HSET', session, unpack(ARGV, 15, first - 1))
local count = redis.call('LLEN', order)
while count > keep or bytes > keep_bytes do
  local id = redis.call('LPOP', order)
  bytes = bytes - redis.call('HSTRLEN', window, id) + {_HEAD.size}
  redis.call('HDEL', window, id)
  count, floor = count - 1, '1'
end
redis.call('HSET', session, 'bytes', bytes, 'floor', floor)
if string.find(parts, 'state') then redis.call('DEL', deltas) end
if string.find(parts, 'delta') then redis.call('RPUSH', deltas, delta) end
if not record[1] then redis.call('ZADD', index, 0, member) end
if due ~= '' then
  redis.call('ZADD', dues, due, member)
elseif string.find(parts, 'alarms') then
  redis.call('ZREM', dues, member)
end
return {{1, redis.call('HMGET', session, {_META})}}
"""

_FORGET = f"""
local record = redis.call('HMGET', KEYS[1], {_META})
if (record[1] or '0') ~= ARGV[2] or (record[5] or '0') ~= ARGV[3] then return {{0, record}} end
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3], KEYS[4])
redis.call('ZREM', KEYS[5], ARGV[1])
redis.call('ZREM', KEYS[6], ARGV[1])
return {{1, {{false}}}}
"""

_LIST = f"""
local rows = redis.call('ZRANGEBYLEX', KEYS[1], ARGV[1], ARGV[2], 'LIMIT', 0, ARGV[3])
for i, member in ipairs(rows) do
  local name = string.gsub(member, '%z', '/', 1)
  rows[i] = {{member, redis.call('HMGET', ARGV[4] .. name, {_META})}}
end
return rows
"""

_DUE = f"""
local rows = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. ARGV[1], 'LIMIT', 0, ARGV[2])
for i, member in ipairs(rows) do
  local name = string.gsub(member, '%z', '/', 1)
  rows[i] = {{member, redis.call('HMGET', ARGV[3] .. name, {_META})}}
end
return rows
"""

_RENEW = f"""
local have, over = redis.call('HGET', KEYS[1], ARGV[1]), ARGV[6]
if have then
  local seq, boot = string.match(have, '^(%d+) %S+ (.*)$')
  if boot == ARGV[2] and seq ~= ARGV[4] then return {{0, seq}} end
  if boot ~= ARGV[2] and over ~= '' and seq ~= over then return {{0, seq}} end
elseif over ~= '' and over ~= '0' then
  return {{0, '0'}}
elseif redis.call('HLEN', KEYS[1]) >= {MAX_LEASES} then
  return {{-1, ''}}
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3] .. ' ' .. ARGV[5] .. ' ' .. ARGV[2])
return {{1, ARGV[3]}}
"""

_LEASES = "return redis.call('HGETALL', KEYS[1])"

_OPEN = """
redis.call('HSETNX', KEYS[1], 'format', ARGV[1])
redis.call('HSETNX', KEYS[1], 'identity', ARGV[2])
return redis.call('HMGET', KEYS[1], 'format', 'identity')
"""


class Script(NamedTuple):
    """A script, and the hash by which a server knows it once it has seen it."""

    source: bytes
    sha: bytes


def _script(source: str) -> Script:
    code = source.strip().encode()
    return Script(code, hashlib.sha1(code, usedforsecurity=False).hexdigest().encode())


OPEN = _script(_OPEN)
"""Begins a store where none is: its format, and an identity that tells it from any other."""

_SCRIPTS: dict[type, Script] = {
    Load: _script(_LOAD),
    Write: _script(_WRITE),
    Forget: _script(_FORGET),
    ListSessions: _script(_LIST),
    ListAlarms: _script(_DUE),
    Renew: _script(_RENEW),
    ReadLeases: _script(_LEASES),
}


SOURCES = tuple(script.source for script in _SCRIPTS.values())
"""What a server is told beforehand, so that no operation has to wait for its script."""


class Command(NamedTuple):
    """A script with what it is called with."""

    script: Script
    keys: tuple[bytes, ...]
    args: tuple[bytes, ...]


class Names:
    """The keys of one store."""

    def __init__(self, prefix: str) -> None:
        tag = f"{{{prefix}}}:".encode()
        self.store = tag + b"store"
        self.leases = tag + b"leases"
        self.index = tag + b"sessions"
        self.due = tag + b"due"
        self.session = tag + b"session:"
        self._parts = tag + b"session:", tag + b"window:", tag + b"order:", tag + b"deltas:"

    def of(self, key: SessionKey) -> tuple[bytes, ...]:
        """Record, window, its order, and the deltas."""
        name = f"{key.function}/{key.session}".encode()
        return tuple(part + name for part in self._parts)


# ---- there


def command(op: Op, names: Names, now: float) -> Command:
    """What the server is asked for `op`. Raises ValueError for what no store can keep."""
    script = _SCRIPTS[type(op)]
    match op:
        case Load():
            return Command(script, names.of(op.key), (b"all",) if op.ask is None else op.ask)
        case Write():
            return Command(script, (*names.of(op.key), names.index, names.leases, names.due), _write(op, now))
        case Forget():
            return Command(script, (*names.of(op.key), names.index, names.due), _expects(op))
        case ListSessions():
            return Command(script, (names.index,), (*_page(op), names.session))
        case ListAlarms():
            limit = _digits(max(0, min(op.limit, MAX_PAGE)))
            return Command(script, (names.due,), (repr(op.before).encode(), limit, names.session))
        case Renew():
            fields = (op.boot.encode(), _digits(op.seq), b"%d" % (op.seq - 1), repr(op.ttl).encode())
            over = b"" if op.over is None else _digits(op.over)
            return Command(script, (names.leases,), (op.node.encode(), *fields, over))
        case ReadLeases():
            return Command(script, (names.leases,), ())


def _digits(number: int) -> bytes:
    if not 0 <= number <= MAX_INTEGER:
        raise ValueError("a number is negative or has more than 63 bits")
    return b"%d" % number


def _member(key: SessionKey) -> bytes:
    """In the index: function and session as the bytes sort."""
    return f"{key.function}\0{key.session}".encode()


def _expects(op: Write | Forget) -> tuple[bytes, ...]:
    return _member(op.key), _digits(op.expect_epoch), _digits(op.expect_version)


def _optional(text: str | None) -> bytes:
    return b"" if text is None else b"=" + text.encode()


def _write(op: Write, now: float) -> tuple[bytes, ...]:
    fields = [b"schema", _digits(op.schema), b"epoch", _digits(op.epoch), b"version", _digits(op.version), b"mode", op.mode.encode()]
    fields += [b"owner", _optional(op.owner), b"boot", _optional(op.owner_boot)]
    fields += [b"updated", repr(now).encode()]
    if op.move is not None:
        fields += [b"move", op.move]
    if op.state is not None:
        fields += [b"state", op.state]
    node, seq = op.lease or ("", 0)
    limits = _digits(op.keep), _digits(op.keep_bytes)
    parts = (b"" if op.state is None else b"state") + (b"" if op.delta is None else b"delta")
    due = b""
    if op.alarms is not None:
        fields += [b"alarms", op.alarms]
        parts += b"alarms"
        due = b"" if op.due is None else repr(op.due).encode()
    if op.had_alarms is not None:
        parts += b"had"
    data = parts, op.delta or b"", due, op.had_alarms or b"", b"%d" % (len(fields) // 2)
    lease = node.encode(), _digits(seq)
    return (*_expects(op), _digits(op.epoch), op.move or b"", *lease, *limits, *data, *fields, *_results(op.results))


def _results(results: Sequence[Entry]) -> list[bytes]:
    found: list[bytes] = []
    for entry in {entry.call_id: entry for entry in results}.values():
        _digits(entry.code), _digits(entry.version)
        head = _HEAD.pack(entry.code, entry.version, entry.body is not None)
        found += [entry.call_id, head + (entry.body or b"")]
    return found


def _page(op: ListSessions) -> tuple[bytes, bytes, bytes]:
    """The range and the length of a page: bytes order the sessions."""
    least = b"" if op.function is None else _member(SessionKey(op.function, ""))
    after = b"" if op.after is None else _member(op.after)
    low = b"[" + least if least else b"-"
    if op.after is not None and after >= least:
        low = b"(" + after
    high = b"+" if op.function is None else b"(" + op.function.encode() + b"\1"
    return low, high, _digits(max(0, min(op.limit, MAX_PAGE)))


# ---- and back


def outcome(op: Op, reply: Any) -> Outcome:
    """What `reply` says became of `op`; a reply that makes no sense says nothing."""
    try:
        return _outcome(op, reply)
    except (ValueError, TypeError, LookupError, AttributeError, struct.error) as error:
        return StoreFailed(None, f"the server answered nonsense: {error}")


def _outcome(op: Op, reply: Any) -> Outcome:
    match op:
        case Load():
            record, found, deltas = reply
            return Loaded(_record(record, record[10], deltas), tuple(_entries(found)))
        case Write() | Forget():
            won, record, *duplicate = reply
            if won < 0:
                return StoreFailed(False, f"{MAX_DELTAS} deltas lie on the state already")
            return Written(won == 1, _record(record), next(iter(_entries(duplicate)), None))
        case ListSessions() | ListAlarms():
            return Listed(tuple(_row(*row) for row in reply))
        case Renew():
            won, seq = reply
            if won < 0:
                return StoreFailed(False, f"{MAX_LEASES} nodes have a lease already")
            return Leased(won == 1, int(seq))
        case ReadLeases():
            rows = zip(reply[::2], reply[1::2], strict=True)
            return LeaseTable(tuple(sorted(_lease(node, value) for node, value in rows)))


def _record(
    fields: Sequence[bytes | None], state: bytes | None = None, deltas: Sequence[bytes] = ()
) -> Record | None:
    epoch, *rest = fields[:10]
    if epoch is None:
        return None
    mode, owner, boot, version, move, floor, schema, updated, alarms = rest
    if mode not in (b"remote", b"local"):
        raise ValueError("not a record")
    return Record(
        epoch=int(epoch),
        mode="local" if mode == b"local" else "remote",
        owner=_text(owner),
        owner_boot=_text(boot),
        version=int(_there(version)),
        move=move,
        state=state,
        floor=floor == b"1",
        schema=int(_there(schema)),
        updated=float(_there(updated)),
        alarms=alarms,
        deltas=tuple(deltas),
    )


def _there(value: bytes | None) -> bytes:
    if value is None:
        raise ValueError("a field of a record is missing")
    return value


def _text(value: bytes | None) -> str | None:
    return value[1:].decode() if value else None


def _entries(pairs: Sequence[bytes]) -> list[Entry]:
    found = []
    for call_id, packed in zip(pairs[::2], pairs[1::2], strict=True):
        code, version, kept = _HEAD.unpack_from(packed)
        found.append(Entry(call_id, code, packed[_HEAD.size :] if kept else None, version))
    return found


def _row(member: bytes, fields: Sequence[bytes | None]) -> tuple[SessionKey, Record]:
    record = _record(fields)
    if record is None:
        raise ValueError("a session that is listed has no record")
    function, session = member.decode().split("\0", 1)
    return SessionKey(function, session), record


def _lease(node: bytes, value: bytes) -> Lease:
    seq, ttl, boot = value.decode().split(" ", 2)
    return Lease(node.decode(), boot, int(seq), float(ttl))
