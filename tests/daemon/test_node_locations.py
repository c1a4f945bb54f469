"""What other nodes say of their sessions reaches the router, and nonsense does not."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio

from edged.core.locations import BUCKETS, digests
from edged.core.records import SessionKey
from edged.core.routing import Router, There
from edged.daemon.locations import ASK_SECONDS, Locations, told
from edged_protocol import messages as m
from edged_protocol.codec import pack, unpack
from edged_protocol.errors import CallError


class FakePeers:
    """Answers every question with `blob`."""

    def __init__(self, blob: bytes) -> None:
        self.blob = blob
        self.asked: list[m.Map] = []

    def request(self, link: object, verb: str, params: m.Map, blob: bytes | None, done: Any) -> None:
        self.asked.append(params)
        done(m.Reply(1, {}, self.blob))


async def asked(blob: bytes, router: Router, seen: Any = lambda *_: None) -> list[m.Map]:
    """Two rounds of questions to n2, which answers with `blob`; `seen` is told of each session."""
    relay = SimpleNamespace(peers={"n2": SimpleNamespace(flush=lambda: None)})
    peers = FakePeers(blob)
    with trio.move_on_after(2.5 * ASK_SECONDS):
        await Locations(cast(Any, relay), router, cast(Any, peers), seen).run()
    return peers.asked


async def test_a_page_makes_hints(autojump_clock: trio.testing.MockClock) -> None:
    """A call goes to the node that told of its session; the next question says that it is known."""
    router = Router("n1")
    router.serves(["f"], ["f"])
    router.peer("n2", ["f"])
    seen: list[object] = []
    rounds = await asked(pack([["f", "s", 7]]), router, lambda *row: seen.append(row))
    assert seen[0] == (SessionKey("f", "s"), 7)
    assert router.route("f", "s", 0) == There("n2")
    assert rounds[0]["known"] == [0] * BUCKETS
    assert rounds[1]["known"] == digests([(SessionKey("f", "s"), 7)])


@pytest.mark.parametrize("blob", [b"", b"\xc1", pack({"f": 1}), pack([["f", "s"]]), pack([["f", 1, 1]])])
async def test_nonsense_is_no_hint(autojump_clock: trio.testing.MockClock, blob: bytes) -> None:
    """Whatever comes, nothing is believed and the asking goes on."""
    router = Router("n1")
    assert len(await asked(blob, router)) == 2
    assert router.at("n2") == []


def test_only_local_sessions_are_told() -> None:
    """Of those that are here the local ones; a question that makes no sense is refused."""
    seats = {SessionKey("f", name): SimpleNamespace(local=name == "a", epoch=3) for name in ("a", "b")}
    relay = cast(Any, SimpleNamespace(seats=seats))
    assert unpack(told(relay, [0] * BUCKETS)) == [["f", "a", 3]]
    for known in (None, [0] * 3, ["x"] * BUCKETS):
        with pytest.raises(CallError):
            told(relay, known)
