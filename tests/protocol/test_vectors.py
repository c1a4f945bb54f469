"""The vectors that other implementations test themselves with, against ours (SPEC "Vectors")."""

from typing import Any

import pytest
from support.vectors import MESSAGES, data_of, load, message_of

from edged_protocol import messages as m
from edged_protocol.codec import decode, encode
from edged_protocol.connection import Connection
from edged_protocol.errors import RemoteProtocolError
from edged_protocol.framing import FrameReader
from edged_protocol.limits import MAX_FRAME_TRUSTED

VALID = load("valid.json")
INVALID = load("invalid.json")
FRAMING = load("framing.json")
HANDSHAKE = load("handshake.json")
WELCOME = {
    "proto": 1,
    "mesh": "dev",
    "node": "dev-1",
    "max_frame": 1114112,
    "max_inflight": 256,
    "brokers": [],
}


def named(entry: dict[str, Any]) -> str:
    return str(entry["name"])


def only_frame(entry: dict[str, Any]) -> bytes:
    """The one frame of an entry, cut out by the reader of a dialer."""
    [frame] = FrameReader(MAX_FRAME_TRUSTED).feed(data_of(entry["frame"]))
    return frame


@pytest.mark.parametrize("entry", VALID, ids=named)
def test_a_valid_frame_is_the_message_it_says(entry: dict[str, Any]) -> None:
    """Decoding gives these values and types; where the bytes are canonical, encoding gives them back."""
    expected = message_of(entry["message"])
    message = decode(only_frame(entry))
    assert type(message) is type(expected)
    assert repr(message) == repr(expected)  # tells True from 1, and 1.0 from 1
    if entry.get("canonical"):
        assert encode(expected) == data_of(entry["frame"])


@pytest.mark.parametrize("entry", INVALID, ids=named)
def test_an_invalid_frame_is_refused_with_its_reason(entry: dict[str, Any]) -> None:
    """The frame is refused by the framing or the codec with the word GOAWAY carries."""
    with pytest.raises(RemoteProtocolError) as caught:
        decode(only_frame(entry))
    assert caught.value.reason == entry["error"]


@pytest.mark.parametrize("entry", FRAMING, ids=named)
def test_frames_are_cut_as_the_reads_come(entry: dict[str, Any]) -> None:
    """The reads give these frames, and the last one the error."""
    reader, frames = FrameReader(entry["max_frame"]), []
    *chunks, last = map(data_of, entry["chunks"])
    for chunk in chunks:
        frames += reader.feed(chunk)
    if "error" in entry:
        with pytest.raises(RemoteProtocolError) as caught:
            reader.feed(last)
        assert caught.value.reason == entry["error"]
    else:
        frames += reader.feed(last)
    assert [frame.hex() for frame in frames] == entry["frames"]


@pytest.mark.parametrize("entry", HANDSHAKE, ids=named)
def test_a_handshake_goes_as_written(entry: dict[str, Any]) -> None:
    """Each read gives these messages and this answer; the last one may end the connection."""
    if entry["side"] == "acceptor":
        connection = Connection.acceptor(lambda _: m.Welcome(WELCOME))
    else:
        connection = Connection.dialer({"role": "device", "name": "arm-7"})
        connection.outgoing()
    steps = entry["steps"]
    for step in steps[:-1] if "error" in entry else steps:
        messages = connection.receive(data_of(step["receive"]))
        assert [type(message) for message in messages] == [MESSAGES[n] for n in step["messages"]]
        assert connection.outgoing() == data_of(step["send"])
        assert connection.established is step["established"]
    if "error" in entry:
        with pytest.raises(RemoteProtocolError) as caught:
            connection.receive(data_of(steps[-1]["receive"]))
        assert caught.value.reason == entry["error"]


def test_the_vectors_leave_no_message_and_no_reason_out() -> None:
    """Every message has a valid and an invalid vector; no name stands twice."""
    assert {entry["message"]["type"] for entry in VALID} == set(MESSAGES)
    begins = {entry["name"].partition("_")[0].upper() for entry in INVALID}
    assert begins >= set(MESSAGES)
    for entries in (VALID, INVALID, FRAMING, HANDSHAKE):
        assert len({named(entry) for entry in entries}) == len(entries)
