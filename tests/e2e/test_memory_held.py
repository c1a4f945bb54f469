"""What clients can make a node hold, and that it has it no longer when they are gone."""

import socket
import time
from contextlib import ExitStack, closing, suppress

from support.attacked import FLAT, MIB, Node, dialled, wait_for, witness

from edged_protocol.codec import encode_invoke, pack

PATIENCE = 60.0
"""Seconds for anything, on a machine with other work."""


def test_a_client_that_never_reads_is_cut(node: Node) -> None:
    """Its large answers are held up to a bound, then its connection ends; memory stays flat."""
    body = pack(["x" * 500_000])
    call = encode_invoke(1, "echo", None, "", None, 20_000, body)

    def is_cut() -> bool:
        """Not one whose calls are refused with few words, because the node was without a processor for a second."""
        with closing(dialled(node)) as sock, suppress(TimeoutError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.settimeout(5)
            try:
                for _ in range(2_000):  # a gigabyte
                    sock.sendall(call)
            except ConnectionError:
                return True
        return False

    with witness(node):
        before = node.rss
        wait_for(is_cut, "it is cut")
        assert node.rss - before < FLAT


def test_what_is_begun_and_left_is_not_kept(node: Node) -> None:
    """Two hundred clients send all but the end of a frame of a megabyte and hang up: nothing of it stays."""
    unfinished = MIB.to_bytes(4, "big") + bytes(MIB - 1)
    with witness(node):
        before, descriptors = node.rss, node.descriptors
        for _ in range(200):
            with closing(dialled(node)) as sock:
                sock.sendall(unfinished)
        wait_for(lambda: node.descriptors <= descriptors + 5, "all of them are closed")
        assert node.rss - before < FLAT


def test_a_burst_of_large_bodies_leaves_no_large_node(node: Node) -> None:
    """Clients that read nothing make it hold much; when they are gone, the machine has that memory again."""
    call = encode_invoke(1, "echo", None, "", None, 20_000, pack([b"x" * 1_000_000]))
    with witness(node):
        before = node.rss
        with ExitStack() as stack:
            deaf = [stack.enter_context(closing(dialled(node))) for _ in range(24)]
            until = time.monotonic() + PATIENCE
            while node.rss - before < 2 * FLAT:
                assert time.monotonic() < until
                deaf = [sock if took(sock, call) else stack.enter_context(closing(dialled(node))) for sock in deaf]
        wait_for(lambda: node.rss - before < FLAT / 2, "the memory is given back")


def took(sock: socket.socket, data: bytes) -> bool:
    """Whether the node has not cut this one yet."""
    try:
        sock.sendall(data)
    except ConnectionError:
        return False
    return True
