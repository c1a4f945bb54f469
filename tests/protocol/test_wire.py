"""Framing and codec: any split gives the same messages, any bytes give messages or a clear refusal."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged_protocol import messages as m
from edged_protocol.codec import decode, encode, pack, unpack
from edged_protocol.connection import Connection
from edged_protocol.errors import RemoteProtocolError
from edged_protocol.framing import FrameReader
from edged_protocol.limits import MAX_FRAME

MESSAGES: list[m.Message] = [
    m.Hello({"proto": 1, "role": "device", "name": "arm"}),
    m.Welcome({"proto": 1, "max_frame": 100}),
    m.GoAway("draining", {"brokers": []}),
    m.Ping(7),
    m.Pong(7),
    m.Invoke(1, "echo", None, "", None, 100, b"x" * 200_000, {"prefer": "local"}),
    m.Invoke(2, "f", "s", "incr", b"i" * 16, 100, b"", None, b"state"),
    m.Result(1, b"out", {"node": "a"}),
    m.Error(1, 101, "busy", None),
    m.Cancel(3),
    m.Request(4, "node.status", {"deep": [{"a": [1]}]}, b"b" * 100_000),
    m.Reply(4, [1, "two"]),
    m.Item(4, {"line": "x"}, False),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda one: type(one).__name__)
def test_a_message_survives_the_wire(message: m.Message) -> None:
    """Decoding what was encoded gives the same value."""
    assert decode(encode(message)[4:]) == message


@given(st.lists(st.integers(1, 40), max_size=60))
def test_any_split_gives_the_same_frames(cuts: list[int]) -> None:
    """Where the network cuts the stream changes nothing."""
    small = [one for one in MESSAGES if len(encode(one)) < 1000]
    stream = b"".join(map(encode, small))
    reader, frames, at = FrameReader(MAX_FRAME), [], 0
    for cut in [*cuts, len(stream)]:
        frames += reader.feed(stream[at : at + cut])
        at += cut
    assert [decode(frame) for frame in frames] == small
    assert reader.feed(encode(MESSAGES[0])) == [encode(MESSAGES[0])[4:]]


@given(st.binary(min_size=1, max_size=300))
def test_any_bytes_give_a_message_or_a_protocol_error(data: bytes) -> None:
    """Nothing that arrives raises anything else."""
    for attempt in (decode, unpack):
        try:
            attempt(data)
        except RemoteProtocolError as error:
            assert error.reason


@pytest.mark.parametrize("length", [0, MAX_FRAME + 1, 0xFFFFFFFF])
def test_a_bad_length_is_refused_before_anything_is_kept(length: int) -> None:
    """The four bytes of the length are enough to refuse."""
    with pytest.raises(RemoteProtocolError):
        FrameReader(MAX_FRAME).feed(length.to_bytes(4, "big"))


@pytest.mark.parametrize(
    "value",
    [
        b"\x91" * 100_000,
        b"\x92\x10" + b"\x90" * 1_000_000,
        b"\xdd\xff\xff\xff\xff",
        b"\x93\x10\x01",
    ],
)
def test_hostile_frames_are_refused(value: bytes) -> None:
    """Nesting, empty arrays by the million, lying lengths and short arrays end in a protocol error."""
    with pytest.raises(RemoteProtocolError):
        decode(value)


@pytest.mark.parametrize("value", [{1: 2}, {"a": {2: 3}}])
def test_map_keys_are_strings(value: dict[Any, Any]) -> None:
    """A body with other keys is refused at the decoder."""
    with pytest.raises(RemoteProtocolError):
        unpack(pack(value))


def test_both_ends_shake_hands() -> None:
    """HELLO, WELCOME, then messages; an unknown type with an id is answered, not fatal."""
    acceptor = Connection.acceptor(lambda _: m.Welcome({"proto": 1, "max_frame": MAX_FRAME}))
    dialer = Connection.dialer({"role": "device", "name": "arm"})
    assert [type(one) for one in acceptor.receive(dialer.outgoing())] == [m.Hello]
    assert [type(one) for one in dialer.receive(acceptor.outgoing())] == [m.Welcome]
    assert acceptor.established
    assert dialer.established
    assert acceptor.receive(b"\0\0\0\x03\x92\x63\x05") == []
    assert dialer.receive(acceptor.outgoing()) == [m.Error(5, 201, "unknown message type")]


def test_nothing_but_hello_comes_first() -> None:
    """A stranger that begins with a call is refused."""
    acceptor = Connection.acceptor(lambda _: m.Welcome({"proto": 1, "max_frame": MAX_FRAME}))
    with pytest.raises(RemoteProtocolError):
        acceptor.receive(encode(m.Cancel(1)))
