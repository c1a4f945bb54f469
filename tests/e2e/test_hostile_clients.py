"""Clients that say what makes no sense: each loses its own connection, and a witness notices nothing."""

import socket
from contextlib import closing, suppress
from typing import Any

import msgpack
import pytest
from support.attacked import FLAT, HELLO, Node, dialled, frame, read_to_end, received, witness

from edged_protocol import messages as m
from edged_protocol.codec import encode, encode_invoke, pack


@pytest.mark.parametrize("greeted", [False, True])
def test_an_announced_frame_of_four_gigabytes(node: Node, greeted: bool) -> None:
    """Its length alone ends the connection, with GOAWAY, before any of it is kept."""
    before = node.rss
    with witness(node), closing(dialled(node, greeted=greeted)) as sock:
        sock.sendall(b"\xff\xff\xff\xff")
        answer = read_to_end(sock)
    assert msgpack.unpackb(answer[4:])[:2] == [3, "frame_too_large"]
    assert node.rss - before < FLAT


NESTED = b"\x91" * 100_000 + b"\xc0"


@pytest.mark.parametrize("greeted", [False, True])
@pytest.mark.parametrize(
    "data",
    [
        NESTED,
        b"\xdd\x00\x0f\x42\x40" + b"\x90" * 1_000_000,
        b"\xdf\x00\x01\x86\xa0" + b"".join(pack(n) + b"\xc0" for n in range(100_000)),
        b"\x92\x10" + NESTED,
    ],
    ids=["nested", "million-arrays", "large-map", "nested-field"],
)
def test_frames_that_blow_up_when_decoded(node: Node, data: bytes, greeted: bool) -> None:
    """A frame made to cost its reader stack or memory ends its own connection."""
    before = node.rss
    with witness(node), closing(dialled(node, greeted=greeted)) as sock:
        with suppress(ConnectionError):
            sock.sendall(frame(data))
        answer = read_to_end(sock)
    if answer:  # a reset may have overtaken it
        assert msgpack.unpackb(answer[4:])[0] == 3
    assert node.rss - before < FLAT


def test_a_nested_body_is_the_functions_own_affair(node: Node) -> None:
    """Bodies are opaque: the container refuses what it cannot decode, its connection goes on."""
    with witness(node), closing(dialled(node)) as sock:
        sock.sendall(encode_invoke(1, "echo", None, "", None, 5_000, NESTED))
        assert received(sock)[:3] == [18, 1, 201]
        sock.sendall(encode_invoke(2, "echo", None, "", None, 5_000, pack(["fine"])))
        assert received(sock)[:2] == [17, 2]


def test_one_byte_a_second(node: Node) -> None:
    """A greeting that dribbles in is cut before it is whole; a call that dribbles in holds nobody up."""
    with witness(node), closing(dialled(node, greeted=False)) as slow, closing(dialled(node)) as late:
        slow.settimeout(1)
        with suppress(ConnectionError):
            for n in range(len(HELLO) - 1):
                slow.sendall(HELLO[n : n + 1])
                late.sendall(frame(b"\x00" * 99)[n : n + 1])
                with suppress(TimeoutError):
                    slow.recv(1, socket.MSG_PEEK)
                    break
            else:
                pytest.fail("nobody minds how long it takes")
        answer = read_to_end(slow)
    assert not answer or msgpack.unpackb(answer[4:])[0] == 3


@pytest.mark.parametrize(
    ("sent", "reply"),
    [
        (HELLO, [3]),
        (encode(m.Cancel(77)), []),
        (encode(m.GoAway("bye")), []),
        (frame(msgpack.packb([99, 5])), [18]),
        (frame(msgpack.packb([99, -5])), []),
        (encode_invoke(5, "e" * 10_000, None, "", None, 1000, b""), [3]),
        (encode_invoke(5, "nosuch", None, "", None, 1 << 62, b""), [18]),
        (encode_invoke(5, "echo", None, "", None, 1000, b"\xc0", {"hops": 100, "attempt": -1}), [17]),
        (encode_invoke(5, "echo", "\x00\n", "", None, 1000, b""), [18]),
        (encode(m.Request(5, "node.status", {})), [18]),
        (encode(m.Ping(1)) * 5000, [5]),
    ],
    ids=[
        "second-hello", "cancel", "goaway", "unknown-type", "unknown-negative", "long-name",
        "long-timeout", "absurd-meta", "control-characters", "operator-verb", "pings",
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_answered_or_ends_its_connection(
    node: Node, sent: bytes, reply: list[int]
) -> None:
    """Each oddity has its answer, then a PING is answered too; or GOAWAY ends the connection."""
    with witness(node), closing(dialled(node)) as sock:
        sock.sendall(sent)
        if reply == [3]:
            assert msgpack.unpackb(read_to_end(sock)[4:])[0] == 3
            return
        sock.sendall(encode(m.Ping(b"last")))
        seen = [received(sock)]
        while [5, b"last"] not in seen or not set(reply) <= {one[0] for one in seen}:
            seen.append(received(sock))
    assert {one[0] for one in seen} == {5, *reply}


@pytest.mark.parametrize("wrong", [{"boot": None}, {"boot": ""}, {"name": "No Name"}, {"name": ""}])
def test_a_node_that_does_not_say_who_it_is(node: Node, wrong: dict[str, Any]) -> None:
    """Without a boot, or under what is no name, it is not let in: others would be told of it."""
    info = {"proto": 1, "role": "node", "mesh": "edged", "name": "n9", "boot": "b"} | wrong
    with witness(node), closing(dialled(node, greeted=False)) as sock:
        sock.sendall(encode(m.Hello(info)))
        assert received(sock)[:2] == [3, "bad_handshake"]
