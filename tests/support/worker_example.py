"""A function with a method for everything a handler may do, and what is asked of its container again and again."""

import sys
import time
from typing import Any

from msgpack import ExtType  # type: ignore[import-untyped]

from edged.sdk import Function, Session
from edged_protocol import messages as m
from edged_protocol.codec import pack, unpack
from edged_protocol.errors import Code
from support.containers import Peer

LOCAL = {"mode": "local"}


def example() -> Function:
    """A function with a method for everything a handler may do."""
    fn = Function("f")

    @fn.handler
    def incr(s: Session, by: int = 1) -> int:
        s.state["n"] = s.state.get("n", 0) + by
        return int(s.state["n"])

    @fn.shared
    def peek(s: Session) -> Any:
        s.state["dirt"] = 1
        return s.state

    @fn.handler
    def spoil(s: Session) -> None:
        s.state["n"] = -1
        s.state.setdefault("list", []).append(1)
        raise ValueError("spoiled \N{SNOWMAN}")

    @fn.handler
    def facts(s: Session) -> list[Any]:
        return [s.mode, s.node, s.key, s.call_id, s.epoch, s.version, 0 < s.remaining < 6]

    @fn.handler
    def wish(s: Session, mode: Any) -> None:
        s.prefer(mode)

    @fn.handler
    def end(s: Session, fails: bool = False) -> int:
        s.state["n"] = 99
        s.end()
        if fails:
            raise ValueError
        return 99

    @fn.shared
    def end_by_reading(s: Session) -> None:
        s.end()

    @fn.handler
    def odd(s: Session) -> Any:
        return {1, 2}

    @fn.handler
    def unreadable(s: Session, which: str) -> Any:
        s.state["n"] = 1
        deep: Any = None
        for _ in range(65):
            deep = [deep]
        return {"number": {1: 2}, "below": [{"a": {b"b": 1}}], "extension": ExtType(1, b""), "deep": deep}[which]

    @fn.handler
    def big(s: Session, size: int) -> bytes:
        return bytes(size)

    @fn.handler
    def hoard(s: Session, size: int) -> None:
        s.state["hoard"] = bytes(size)

    @fn.handler
    def nap(s: Session, seconds: float) -> None:
        time.sleep(seconds)

    @fn.handler
    def leave(s: Session) -> None:
        s.state["n"] = -1
        sys.exit(3)

    @fn.handler
    def mumble(s: Session) -> None:
        class Odd(Exception):
            def __str__(self) -> str:
                raise RuntimeError

        raise Odd

    return fn


def load(peer: Peer, **state: Any) -> None:
    """Make the container hold session "k" at version 3 of epoch 2."""
    said = {"serial": 0, "bytes": len(pack(state))}
    assert peer.ask("worker.load", pack(state), session="k", epoch=2, version=3) == m.Reply(peer._id, said)


def snapshot(peer: Peer) -> Any:
    """The state of session "k" as the container holds it."""
    reply = peer.ask("worker.snapshot", session="k")
    assert isinstance(reply, m.Reply) and reply.blob is not None, reply
    return unpack(reply.blob)


def refused(answer: Any, code: Code) -> m.Error:
    """The ERROR with that code."""
    assert isinstance(answer, m.Error) and answer.code == code, answer
    return answer
