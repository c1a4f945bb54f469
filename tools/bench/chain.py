"""The yardstick: a framed echo server and a relay that do as little as such programs can (DESIGN §11).

`chain.py echo` answers every INVOKE with its own body; `chain.py relay HOST:PORT` passes frames on to the
next program of the chain under ids of its own. Both print their address and serve until they are killed.
They decode each frame (a broker has to know what it passes on) and know nothing else: no routing, no
deadlines, no limits, no function. What makes them fast, measured with 64 calls in flight and one relay:
everything of one wakeup is handled in the reader and leaves in one write (a write per frame: a third of the
calls/s; a task per frame: a ninth); bare sockets under `trio.lowlevel.wait_readable` (a `SocketStream`: 40 %,
for its checkpoints); no task, channel or cancel scope per call. Trying `recv` before waiting won nothing, and
a bare epoll loop in trio's place wins a tenth. Replacing the id's bytes without decoding would win 10 to 30 %;
it is not done, because a program that never looks into a frame is no measure for one that must.

Example: python tools/bench/chain.py echo
"""

import socket
import sys
from collections.abc import Callable

import msgpack  # type: ignore[import-untyped]
import trio

from edged_protocol import messages as m
from edged_protocol.codec import encode
from edged_protocol.limits import MAX_FRAME, MAX_INFLIGHT, PROTO

HELLO, WELCOME, INVOKE, RESULT = 1, 2, 16, 17
READ = 65536
Translate = Callable[[list[bytes]], list[bytes]]
_pack = msgpack.Packer(use_bin_type=True, autoreset=True).pack
_GREETING = encode(
    m.Welcome(
        {
            "proto": PROTO,
            "mesh": "raw",
            "node": "raw",
            "max_frame": MAX_FRAME,
            "max_inflight": MAX_INFLIGHT,
            "brokers": [],
        }
    )
)


def framed(fields: tuple[object, ...] | list[object]) -> bytes:
    """One frame with its length."""
    data: bytes = _pack(fields)
    return len(data).to_bytes(4, "big") + data


def cut(data: bytes) -> tuple[list[bytes], bytes]:
    """The whole frames at the head of `data`, and the rest."""
    frames: list[bytes] = []
    at, end = 0, len(data)
    while end - at >= 4:
        stop = at + 4 + int.from_bytes(data[at : at + 4], "big")
        if stop > end:
            break
        frames.append(data[at + 4 : stop])
        at = stop
    return frames, data[at:]


async def pump(source: socket.socket, sink: socket.socket, translate: Translate) -> None:
    """Read until the end of `source`; one write to `sink` per wakeup."""
    rest = b""
    while True:
        await trio.lowlevel.wait_readable(source)
        try:
            data = source.recv(READ)
        except BlockingIOError:
            continue
        if not data:
            return
        frames, rest = cut(rest + data if rest else data)
        if out := translate(frames):
            await write(sink, out[0] if len(out) == 1 else b"".join(out))


async def write(sink: socket.socket, data: bytes) -> None:
    """All of `data`; waits only when the socket's buffer is full."""
    while True:
        try:
            sent = sink.send(data)
        except BlockingIOError:
            sent = 0
        if sent == len(data):
            return
        data = data[sent:]
        await trio.lowlevel.wait_writable(sink)


def echo(frames: list[bytes]) -> list[bytes]:
    """Every body goes back."""
    out = []
    for frame in frames:
        fields = msgpack.unpackb(frame)
        if fields[0] == INVOKE:
            out.append(framed((RESULT, fields[1], fields[7])))
        elif fields[0] == HELLO:
            out.append(_GREETING)
    return out


class Relay:
    """The ids of one client's calls, here and at the next program."""

    def __init__(self) -> None:
        self._pending: dict[int, int] = {}
        self._last = 0

    def outward(self, frames: list[bytes]) -> list[bytes]:
        """Calls of the client, under new ids."""
        out = []
        for frame in frames:
            fields = msgpack.unpackb(frame)
            if fields[0] == INVOKE:
                self._last += 1
                self._pending[self._last] = fields[1]
                fields[1] = self._last
            out.append(framed(fields))
        return out

    def homeward(self, frames: list[bytes]) -> list[bytes]:
        """Answers of the next program, under the client's ids."""
        out = []
        for frame in frames:
            fields = msgpack.unpackb(frame)
            if fields[0] == RESULT:
                fields[1] = self._pending.pop(fields[1])
            out.append(framed(fields))
        return out


def prepared(sock: socket.socket) -> socket.socket:
    """`sock` as both programs want it."""
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


async def serve(client: socket.socket, target: tuple[str, int] | None) -> None:
    """One client, until either side ends."""
    try:
        if target is None:
            await pump(client, client, echo)
        else:
            await pass_on(client, target)
    except ConnectionError:
        pass
    finally:
        client.close()


async def pass_on(client: socket.socket, target: tuple[str, int]) -> None:
    """Both directions; the greetings pass like everything else."""
    relay = Relay()
    with prepared(socket.create_connection(target)) as onward:
        async with trio.open_nursery() as nursery:

            async def back() -> None:
                await pump(onward, client, relay.homeward)
                nursery.cancel_scope.cancel()

            nursery.start_soon(back)
            await pump(client, onward, relay.outward)
            nursery.cancel_scope.cancel()


async def main(target: tuple[str, int] | None) -> None:
    """Listen on loopback and serve."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        print("{}:{}".format(*listener.getsockname()), flush=True)
        async with trio.open_nursery() as nursery:
            while True:
                await trio.lowlevel.wait_readable(listener)
                client, _ = listener.accept()
                nursery.start_soon(serve, prepared(client), target)


if __name__ == "__main__":
    if sys.argv[1:] == ["echo"]:
        trio.run(main, None)
    elif sys.argv[1:2] == ["relay"] and len(sys.argv) == 3:
        host, _, port = sys.argv[2].rpartition(":")
        trio.run(main, (host, int(port)))
    else:
        sys.exit("usage: chain.py echo | relay HOST:PORT")
