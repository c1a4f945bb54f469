"""The wire form of store operations: every one survives the way there and back in real frames."""

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.core import records as r
from edged.daemon.stores import wire
from edged_protocol import codec
from edged_protocol.messages import Reply, Request

names = st.text("abcz-09", min_size=1, max_size=63)
texts = st.text(max_size=40)
integers = st.integers(0, r.MAX_INTEGER)
ids = st.binary(min_size=16, max_size=16)
numbers = st.floats(0, 1e12)
keys = st.builds(r.SessionKey, names, st.text(min_size=1, max_size=60))
entries = st.builds(r.Entry, ids, integers, st.none() | st.binary(max_size=60), integers)
modes = st.sampled_from(["remote", "local"])
records = st.builds(
    r.Record,
    epoch=integers,
    mode=modes,
    owner=st.none() | names,
    owner_boot=st.none() | texts,
    version=integers,
    move=st.none() | ids,
    state=st.none() | st.binary(max_size=100),
    floor=st.booleans(),
    schema=integers,
    updated=numbers,
    alarms=st.none() | st.binary(max_size=100),
    deltas=st.lists(st.binary(max_size=20), max_size=5).map(tuple),
)


def tuples(of: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    """Short tuples of `of`."""
    return st.lists(of, max_size=5).map(tuple)


ops: st.SearchStrategy[r.Op] = st.one_of(
    st.builds(r.Load, keys, st.none() | tuples(ids)),
    st.builds(
        r.Write,
        key=keys,
        expect_epoch=integers,
        expect_version=integers,
        epoch=integers,
        version=integers,
        mode=modes,
        owner=st.none() | names,
        owner_boot=st.none() | texts,
        move=st.none() | ids,
        state=st.none() | st.binary(max_size=100),
        results=tuples(entries),
        keep=integers,
        keep_bytes=integers,
        durable=st.booleans(),
        schema=integers,
        lease=st.none() | st.tuples(names, integers),
        delta=st.none() | st.binary(max_size=100),
        alarms=st.none() | st.binary(max_size=100),
        due=st.none() | numbers,
        had_alarms=st.none() | st.binary(max_size=100),
    ),
    st.builds(r.Forget, keys, integers, integers),
    st.builds(r.ListSessions, st.none() | names, st.none() | keys, integers),
    st.builds(r.ListAlarms, numbers, integers),
    st.builds(r.Renew, names, texts, integers, numbers, st.none() | integers),
    st.builds(r.ReadLeases),
)

outcomes: st.SearchStrategy[r.Outcome] = st.one_of(
    st.builds(r.Loaded, st.none() | records, tuples(entries)),
    st.builds(r.Written, st.booleans(), st.none() | records, st.none() | entries),
    st.builds(r.Listed, tuples(st.tuples(keys, records))),
    st.builds(r.Leased, st.booleans(), integers),
    st.builds(r.LeaseTable, tuples(st.builds(r.Lease, names, texts, integers, numbers))),
    st.builds(r.StoreFailed, st.sampled_from([None, False]), texts),
)


def carried(op: r.Op) -> Request:
    """The request for `op` as the other node receives it."""
    request = codec.decode(codec.encode(Request(7, *wire.op_to_wire(op)))[4:])
    assert isinstance(request, Request)
    return request


@given(ops)
def test_every_operation_survives_the_wire(op: r.Op) -> None:
    """An operation comes out of a REQUEST frame as it went in."""
    request = carried(op)
    assert wire.op_from_wire(request.verb, request.params, request.blob) == op
    assert request.verb in wire.VERBS


@given(outcomes)
def test_every_outcome_survives_the_wire(outcome: r.Outcome) -> None:
    """An outcome comes out of a REPLY frame as it went in."""
    reply = codec.decode(codec.encode(Reply(7, *wire.outcome_to_wire(outcome)))[4:])
    assert isinstance(reply, Reply)
    assert wire.outcome_from_wire(reply.result, reply.blob) == outcome


@given(ops, st.data())
def test_a_broken_operation_is_refused_by_name(op: r.Op, data: st.DataObject) -> None:
    """A field of a wrong type is a BadRecord that names the field, never another exception."""
    _, verb, params, blob = carried(op)
    if not params:
        return
    field = data.draw(st.sampled_from(sorted(params)))
    wrong = data.draw(st.sampled_from([[None], {"a": 1}, 1.5j, -1]))
    with pytest.raises(wire.BadRecord, match=f"^{field}: "):
        wire.op_from_wire(verb, {**params, field: wrong}, blob)


@given(ops, st.none() | st.binary(max_size=20))
def test_a_broken_blob_is_refused(op: r.Op, blob: bytes | None) -> None:
    """An operation whose blob is missing or garbage is a BadRecord or has no use for a blob."""
    _, verb, params, good = carried(op)
    if good is None:
        assert wire.op_from_wire(verb, params, blob) == op
        return
    with pytest.raises(wire.BadRecord, match="blob"):
        wire.op_from_wire(verb, params, blob)


@pytest.mark.parametrize("result", [None, 3, [], {}, {"kind": "loaded"}, {"kind": ["x"]}])
def test_an_answer_that_is_none_is_refused(result: Any) -> None:
    """What is not an outcome raises BadRecord, whatever its type."""
    with pytest.raises(wire.BadRecord):
        wire.outcome_from_wire(result, None)


def test_an_unknown_verb_is_refused() -> None:
    """A verb outside the table is a BadRecord."""
    with pytest.raises(wire.BadRecord, match="not a store verb"):
        wire.op_from_wire("store.drop", {}, None)


def test_a_large_write_stays_within_the_plain_part_of_a_frame() -> None:
    """Whatever the sizes of state and results, what is not blob stays far below 64 KiB."""
    entry = r.Entry(b"i" * 16, 0, b"b" * 4096, 1)
    op = r.Write(
        key=r.SessionKey("f", "k" * 255),
        expect_epoch=1,
        expect_version=1,
        epoch=1,
        version=2,
        mode="local",
        owner="n" * 63,
        owner_boot="b" * 32,
        move=b"m" * 16,
        state=b"s" * 4 * 2**20,
        results=(entry,) * 128,
        keep=128,
        keep_bytes=2**20,
        durable=True,
    )
    request = Request(1, *wire.op_to_wire(op))
    assert request.blob is not None
    frame = codec.encode(request)
    assert struct.unpack(">I", frame[:4])[0] - len(request.blob) < 2048
    decoded = codec.decode(frame[4:])
    assert isinstance(decoded, Request)
    assert wire.op_from_wire(decoded.verb, decoded.params, decoded.blob) == op
