"""Plain frames: what is read by its places means what it means decoded, whatever bytes come."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged_protocol import messages as m
from edged_protocol.codec import decode, encode
from edged_protocol.errors import RemoteProtocolError
from edged_protocol.forms import MAX_FORMS, MAX_FORMS_OF_CLIENT, FromClient, FromNode, decode_ran
from edged_protocol.plain import (
    MAX_KNOWN,
    ONCE,
    PlainAnswers,
    PlainCalls,
    encode_ran,
    hand_over,
    opened,
    pass_on,
)

IDS = [0, 127, 65_536, 2**32 - 1, 2**32, 2**64 - 1]
SIZES = [0, 1, 255, 256]
TIMES = [0, 127, 65_536, 2**32 - 1, 2**32]


def plainly(id_: int, body: bytes, run: int, queue: int, node: str) -> bytes:
    """An answer as a node writes it, without its length."""
    frame = encode_ran(1, body, run)
    plain = decode_ran(frame[4:]) if frame else None
    if type(plain) is m.Plain:
        return PlainAnswers(node).encode(id_, plain, queue)[4:]
    return encode(m.Result(id_, body, {"node": node, "run_us": run, "queue_us": queue}))[4:]


def called(id_: int, function: str, method: str, call_id: bytes | None, timeout: int, body: bytes) -> bytes:
    """A forwarded call, without its length."""
    return PlainCalls().encode(id_, function, method, call_id, timeout, body)[4:]


FRAMES = [
    *(encode_ran(id_, b"x" * size, run) for id_ in IDS for size in SIZES for run in TIMES),
    *(encode(m.Result(id_, b"x" * size, {"run_us": run})) for id_ in IDS for size in SIZES for run in TIMES),
    encode(m.Result(65_536, b"x", {"run_us": -1})),
    encode(m.Result(65_536, b"x", {"run_us": 1, "shared": True})),
    encode(m.Result(65_536, b"x", None)),
    encode(m.Result(65_536, b"x", {"run_us": 1, "load": [1, 2, 3]})),
    encode(m.Result(65_536, b"x", {"recovered": {"version": 1}})),
    encode(m.Result(65_536, b"x", {"a": 1, "b": 2})).replace(b"\xa1b", b"\xa1a"),
    encode(m.Result(65_536, b"x", {"a": 1, "b": 2})).replace(b"\xa1b", b"\xc4\0"),
    encode(m.Error(65_536, 301, "x", {"run_us": 1})),
]
ANSWERS = [frame[4:] for frame in FRAMES if frame is not None]
PASSED = [plainly(id_, b"x" * size, run, 9, "far") for id_ in IDS for size in SIZES for run in (0, 2**32 - 1)]
CALLS = [
    called(id_, name, name, key, 9_998, b"x" * size)
    for id_ in IDS
    for name in ("", "echo", "x" * 31, "y" * 32, "\u00e4")
    for key in (None, b"k" * 16)
    for size in SIZES
]

ASKED = [
    encode(m.Invoke(id_, name, session, name, key, timeout, b"x" * size, meta))[4:]
    for id_ in (255, 256, *IDS)
    for name in ("", "echo", "y" * 32, "\u00e4")
    for session in (None, "s")
    for key in (None, b"k" * 16)
    for timeout in (0, 256, 65_536)
    for size in (1, 255)
    for meta in (None, {"attempt": 1})
]


def outcome(attempt: Callable[[bytes], m.Message], frame: bytes) -> str:
    """What comes of it, as text: NaN is not equal to itself."""
    try:
        message = attempt(frame)
        if type(message) is m.Plain:
            message = opened(message)
        if type(message) is m.Invoke and message.meta is ONCE:
            assert decode(hand_over(message.id, message.blob or b"")[4:]) == message._replace(meta=None, blob=None)
            message = message._replace(blob=None)
        return repr(message)
    except RemoteProtocolError as error:
        return repr(error)


def reader() -> FromNode:
    """One that has seen a call of each method before."""
    known = FromNode("far")
    for frame in CALLS:
        known.decode(frame)
    return known


KNOWN = reader()
OF_CLIENTS = FromClient()
for frame in ASKED[-200:]:
    OF_CLIENTS.decode(frame)


@given(
    st.sampled_from([*ANSWERS, *PASSED, *CALLS, *ASKED]), st.integers(0, 60), st.binary(max_size=3), st.integers(0, 3), st.booleans()
)
def test_a_plain_frame_means_what_it_means_decoded(frame: bytes, at: int, put: bytes, out: int, behind: bool) -> None:
    """Whole, or with some of its bytes changed, at its head or its end."""
    at = max(0, len(frame) - at) if behind else at
    for one in (frame, frame[:at] + put + frame[at + out :] or b"\0", frame[: len(frame) - out] + put or b"\0"):
        assert outcome(decode_ran, one) == outcome(decode, one)
        assert outcome(KNOWN.decode, one) == outcome(decode, one)
        assert outcome(OF_CLIENTS.decode, one) == outcome(decode, one)


@pytest.mark.parametrize("frame", [PASSED[0], PASSED[4], CALLS[0], CALLS[10]])
def test_no_part_of_a_plain_frame_breaks_its_reader(frame: bytes) -> None:
    """However it is cut, it is a message or a protocol error, as ever."""
    for stop in range(1, len(frame)):
        assert outcome(KNOWN.decode, frame[:stop]) == outcome(OF_CLIENTS.decode, frame[:stop]) == outcome(decode, frame[:stop])


def test_usual_frames_are_plain() -> None:
    """A container's and a node's answer, and a call seen before, are read without being decoded."""
    frame = encode_ran(65_536, b"x" * 130, 7)
    assert frame is not None
    answer = decode_ran(frame[4:])
    assert answer == m.Plain(65_536, b"\xc4\x82" + b"x" * 130, 7, 0)
    assert type(FromNode("far").decode(plainly(9, b"x", 7, 31, "far"))) is m.Plain
    once = KNOWN.decode(called(9, "echo", "echo", None, 100, b"x"))
    assert type(once) is m.Invoke
    assert once.meta is ONCE


@given(st.sampled_from(IDS), st.binary(max_size=255), st.integers(0, 2**32 - 1), st.integers(0, 2**40), st.text(max_size=40))
def test_a_plain_answer_reaches_who_asked(id_: int, body: bytes, run: int, queue: int, node: str) -> None:
    """From container over two nodes to the caller nothing is lost but the id of the way; a longer wait is told as the longest."""
    frame = encode_ran(1, body, run)
    assert frame is not None
    plain = decode_ran(frame[4:])
    assert type(plain) is m.Plain
    meta = {"node": node, "run_us": run, "queue_us": min(queue, 2**32 - 1)}
    assert decode(PlainAnswers(node).encode(id_, plain, queue)[4:]) == m.Result(id_, body, meta)
    passed = FromNode(node).decode(PlainAnswers(node).encode(5, plain, queue)[4:])
    assert type(passed) is m.Plain
    assert decode(pass_on(id_, passed)[4:]) == m.Result(id_, body, meta)


@given(
    st.sampled_from(IDS), st.text(max_size=70), st.text(max_size=70), st.none() | st.binary(min_size=16, max_size=16),
    st.sampled_from(TIMES), st.binary(max_size=300),
)  # fmt: skip
def test_a_plain_call_is_the_call(
    id_: int, function: str, method: str, call_id: bytes | None, timeout: int, body: bytes
) -> None:
    """As the other node has it, for the first time and the second."""
    frame = called(id_, function, method, call_id, timeout, body)
    expected = m.Invoke(id_, function, None, method, call_id, timeout, body, {"hops": 1})
    fresh = FromNode("near")
    assert outcome(decode, frame) == outcome(fresh.decode, frame) == outcome(fresh.decode, frame) == repr(expected)


def test_a_clients_call_is_read_by_its_form() -> None:
    """One that was seen before, of any id and time that are as wide; another method in its place is another call."""
    known = FromClient()
    for key in (None, b"k" * 16):
        calls = [m.Invoke(id_, name, None, "m", key, 2000, b"x", None) for id_ in (300, 65_000) for name in ("one", "two")]
        for call in calls:
            assert known.decode(encode(call)[4:]) == call
    assert len(known._calls) == 2


def test_what_is_kept_of_methods_is_bounded() -> None:
    """A node or a client that calls a thousand of them, of many lengths, is understood and fills no memory."""
    writer, node, client = PlainCalls(), FromNode("near"), FromClient()
    for number in range(1000):
        name = "m" * (number // 250) + str(number)
        frame = writer.encode(1, "f", name, None, 5, b"x" * (number % 250))[4:]
        call = m.Invoke(1, "f", None, name, None, 5, b"x" * (number % 250), {"hops": 1})
        assert outcome(node.decode, frame) == repr(call)
        asked = call._replace(id=300, timeout_ms=300, meta=None)
        assert client.decode(encode(asked)[4:]) == asked
    assert len(writer._forms) <= MAX_KNOWN
    assert len(node._calls) <= MAX_FORMS
    assert len(client._calls) <= MAX_FORMS_OF_CLIENT
