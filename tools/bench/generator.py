"""The one load generator, the same for the raw chains and for edged: K calls in flight on one connection.

Decides when a call counts as answered and what its latency was. A plain blocking socket: with a closed loop
on one connection there is nothing to select between, and it costs less than any loop would. Frames are
prepared up to their id, whose encoding always has the same width: a call costs less than 2 µs here.
A latency runs from just before the write that carried the call to just after the read that brought its answer.
Refuses to know what it measures.
"""

import os
import socket
import struct
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgpack  # type: ignore[import-untyped]

from edged_protocol import messages as m
from edged_protocol.codec import decode, encode, pack, unpack
from edged_protocol.connection import Connection
from edged_protocol.errors import call_error

FIRST_ID = 0x10000
"""From here on an id takes five bytes of msgpack, in a call and in its answer."""

PATIENCE = 10
"""Seconds without any answer after which a round has failed."""

_HEAD = struct.Struct(">IBBBI")  # length, array, type, "uint32 follows", id
_ID = struct.Struct(">I")
_RESULT, _UINT32 = 17, 0xCE


class Mismatch(Exception):
    """An answer came that nobody asked for, or none came."""


class Target(NamedTuple):
    """What to call. With `once` every call gets a call id of its own, as the client library does it."""

    function: str
    session: str | None = None
    method: str = ""
    args: tuple[Any, ...] = ()
    once: bool = False
    timeout_ms: int = 10_000

    def parts(self) -> tuple[bytes, ...]:
        """The frame without its id: `id.join(parts)` is the whole frame."""
        before = b"".join(
            msgpack.packb(part) for part in (self.function, self.session, self.method)
        )
        after = b"".join(
            msgpack.packb(part) for part in (self.timeout_ms, pack(list(self.args)), None)
        )
        head = b"\x99\x10\xce"
        if not self.once:
            length = len(head) + 4 + len(before) + 1 + len(after)
            return _ID.pack(length) + head, before + b"\xc0" + after
        length = len(head) + 4 + len(before) + 18 + len(after)
        call_id = b"\xc4\x10" + os.urandom(12)  # and the call's number
        return _ID.pack(length) + head, before + call_id, after


class Round(NamedTuple):
    """What one round of load showed; times in nanoseconds. `calls` counts RESULTs only."""

    calls: int
    failures: dict[int, int]
    elapsed: int
    latencies: list[int]

    @property
    def rate(self) -> float:
        """Calls answered with a RESULT per second."""
        return self.calls / self.elapsed * 1e9

    def percentile(self, share: float) -> float:
        """In microseconds."""
        if not self.latencies:
            return float("nan")
        return self.latencies[min(len(self.latencies) - 1, int(len(self.latencies) * share))] / 1000


class _Flight:
    """The calls under way, by id: a call's successor has its id plus `in_flight`, and so the same target."""

    def __init__(self, targets: Sequence[Target], in_flight: int, calls: int) -> None:
        parts = [target.parts() for target in targets]
        self._slots = [parts[n % len(parts)] for n in range(in_flight)]
        self._left = calls
        self.pending: dict[int, int] = {}
        self.latencies: list[int] = []

    def first(self, now: int) -> list[bytes]:
        """The frames to begin with."""
        numbers = range(FIRST_ID, FIRST_ID + min(len(self._slots), self._left))
        self._left -= len(numbers)
        self.pending = dict.fromkeys(numbers, now)
        return [_ID.pack(n).join(slot) for n, slot in zip(numbers, self._slots, strict=False)]

    def answered(self, numbers: list[int], stamp: int) -> None:
        """These were answered. Raises Mismatch."""
        try:
            for number in numbers:
                self.latencies.append(stamp - self.pending.pop(number))
        except KeyError:
            raise Mismatch("an answer to no call in flight") from None

    def successors(self, numbers: list[int]) -> list[bytes]:
        """The frames that follow those calls, as far as any are left to send."""
        slots, pending, frames = self._slots, self.pending, []
        width, now = len(slots), time.perf_counter_ns()
        for number in numbers[: self._left]:
            pending[number + width] = now
            frames.append(_ID.pack(number + width).join(slots[(number - FIRST_ID) % width]))
        self._left -= len(frames)
        return frames


class Line:
    """One connection, greeted and ready."""

    def __init__(self, address: str, role: str = "device") -> None:
        host, _, port = address.rpartition(":")
        self._sock = socket.create_connection((host, int(port)), PATIENCE)
        self._sock.setblocking(True)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock.setsockopt(
            socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", PATIENCE, 0)
        )
        self._rest = b""
        self._stamp = 0
        self._failures: Counter[int] = Counter()
        try:
            self._greet(role)
        except BaseException:
            self.close()
            raise

    def _greet(self, role: str) -> None:
        connection = Connection.dialer({"role": role, "name": "bench"})
        self._sock.sendall(connection.outgoing())
        while not connection.established:
            connection.receive(self._read())

    def close(self) -> None:
        """End the connection."""
        self._sock.close()

    def __enter__(self) -> "Line":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> bytes:
        try:
            data = self._sock.recv(262_144)
        except BlockingIOError:
            raise Mismatch(f"no answer in {PATIENCE} s") from None
        if not data:
            raise ConnectionError("closed by the other end")
        return data

    # One at a time, decoded whole

    def call(self, target: Target) -> tuple[Any, dict[str, Any]]:
        """One call; its value and meta. Raises CallError."""
        self._sock.sendall(_ID.pack(FIRST_ID).join(target.parts()))
        answer = self._answer()
        if not isinstance(answer, m.Result):
            raise Mismatch(f"a RESULT was expected, not {answer}")
        return unpack(answer.body), answer.meta or {}

    def request(self, verb: str, params: dict[str, Any], blob: bytes | None = None) -> Any:
        """One control verb; its result. Raises CallError."""
        self._sock.sendall(encode(m.Request(FIRST_ID, verb, params, blob)))
        answer = self._answer()
        if not isinstance(answer, m.Reply):
            raise Mismatch(f"a REPLY was expected, not {answer}")
        return answer.result

    def _answer(self) -> m.Message:
        data = self._rest
        while len(data) < 4 or len(data) < 4 + _ID.unpack_from(data)[0]:
            data += self._read()
        stop = 4 + _ID.unpack_from(data)[0]
        self._rest = data[stop:]
        answer = decode(data[4:stop])
        if isinstance(answer, m.Ping):
            self._sock.sendall(encode(m.Pong(answer.nonce)))
            return self._answer()
        if isinstance(answer, m.Error) and answer.id == FIRST_ID:
            raise call_error(answer.code, answer.message, answer.meta)
        if getattr(answer, "id", None) != FIRST_ID:
            raise Mismatch(f"an answer to {FIRST_ID} was expected, not {answer}")
        return answer

    # Many at once

    def drive(
        self,
        targets: Sequence[Target],
        in_flight: int,
        *,
        calls: int = 1 << 40,
        seconds: float = 3600.0,
    ) -> Round:
        """Keep `in_flight` calls going, spread evenly over `targets`, until `calls` were sent or
        `seconds` have passed; then wait for the rest. Raises Mismatch."""
        flight = _Flight(targets, in_flight, calls)
        self._failures = Counter()
        began = time.perf_counter_ns()
        stop = began + int(seconds * 1e9)
        self._send(flight.first(began))
        while flight.pending:
            numbers = self._results()
            flight.answered(numbers, self._stamp)
            if self._stamp < stop and (frames := flight.successors(numbers)):
                self._send(frames)
        elapsed = self._stamp - began
        good = len(flight.latencies) - sum(self._failures.values())
        return Round(good, dict(self._failures), elapsed, sorted(flight.latencies))

    def _send(self, frames: list[bytes]) -> None:
        self._sock.sendall(frames[0] if len(frames) == 1 else b"".join(frames))

    def _results(self) -> list[int]:
        """The ids answered by one read; waits for at least one."""
        numbers: list[int] = []
        unpack_head = _HEAD.unpack_from
        while not numbers:
            data = self._read()
            self._stamp = time.perf_counter_ns()
            data = self._rest + data if self._rest else data
            at, end = 0, len(data)
            while end - at >= 11:
                length, _, kind, width, number = unpack_head(data, at)
                stop = at + 4 + length
                if stop > end:
                    break
                if kind != _RESULT or width != _UINT32:
                    number = self._unusual(data[at + 4 : stop])
                if number is not None:
                    numbers.append(number)
                at = stop
            self._rest = data[at:]
        return numbers

    def _unusual(self, frame: bytes) -> int | None:
        """Anything but a RESULT: the id of the call it ends, if it ends one."""
        message = decode(frame)
        if isinstance(message, m.Error):
            self._failures[message.code] += 1
            return message.id
        if isinstance(message, m.Ping):
            self._sock.sendall(encode(m.Pong(message.nonce)))
            return None
        raise Mismatch(f"RESULT or ERROR was expected, not {message}")
