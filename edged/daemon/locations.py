"""Asks the other nodes which sessions are local there, so that a call goes to the right one at once (DESIGN §6).

What they say are hints for the router; refuses to know what they are used for.
"""

import logging
from collections.abc import Callable

import trio

from edged.core.locations import BUCKETS, digests, page, rows_of
from edged.core.records import SessionKey
from edged.core.routing import Router
from edged_protocol import messages as m
from edged_protocol.codec import pack, unpack
from edged_protocol.errors import Code, RemoteProtocolError, call_error

from .peers import Peers
from .relay import Relay

log = logging.getLogger(__name__)

ASK_SECONDS = 10.0
"""Between two rounds; a page that was full is followed by the next one in the next round."""


class Locations:
    """`run` for ever."""

    def __init__(
        self, relay: Relay, router: Router, peers: Peers, seen: Callable[[SessionKey, int], None]
    ) -> None:
        self._relay = relay
        self._router = router
        self._peers = peers
        self._seen = seen

    async def run(self) -> None:
        """One verb to each connected node, now and then."""
        while True:
            await trio.sleep(ASK_SECONDS)
            for name, link in list(self._relay.peers.items()):
                params = {"known": digests(self._router.at(name))}
                self._peers.request(link, "node.sessions", params, None, lambda said, node=name: self._told(node, said))  # type: ignore[misc]
                link.flush()

    def _told(self, node: str, said: m.Reply | m.Error) -> None:
        if isinstance(said, m.Error):
            return  # an older version, or one that is busy
        try:
            rows = rows_of(unpack(said.blob or b""))
        except (RemoteProtocolError, ValueError, TypeError):
            rows = None
        for key, epoch in rows or ():
            self._router.located(key, node, epoch)
            self._seen(key, epoch)


def told(relay: Relay, known: object) -> bytes:
    """The answer of this node. Raises CallError."""
    if not isinstance(known, list) or [type(number) for number in known] != [int] * BUCKETS:
        raise call_error(Code.BAD_REQUEST, f"node.sessions: known has to be {BUCKETS} numbers")
    rows = [(key, seat.epoch) for key, seat in relay.seats.items() if seat.local]
    return pack(page(rows, known))
