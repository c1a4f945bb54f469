"""A bundle from other nodes: several give it at the same time, and what has come is kept (DESIGN §6).

Decides who is asked for which part and when it is given up. Its hash names it, so it does not matter who gives
which part, and nothing of it is believed before all of it has that hash.
"""

from collections.abc import Awaitable, Callable, Iterable

import trio

from edged_protocol import messages as m
from edged_protocol.errors import CallError, Code, call_error

from .bundles import CHUNK, MAX_BUNDLE, Bundles

GIVERS = 4
"""Nodes asked at the same time; more would take turns on the same network."""

Ask = Callable[[str, str, m.Map], Awaitable[m.Reply]]


class Fetch:
    """`run` once."""

    def __init__(self, hash_: str, bundles: Bundles, ask: Ask) -> None:
        self._hash = hash_
        self._bundles = bundles
        self._ask = ask
        self._total = 0
        self._missing: list[int] = []
        self._failed: set[str] = set()
        self._failure: CallError | None = None
        self._unkept: OSError | None = None

    async def run(self, peers: list[str]) -> None:
        """Fetch what is missing from `peers`, the likeliest first, and install it. Raises CallError when none
        of them can go on, ValueError when it is not what its hash says, OSError when this disk does not take it."""
        await self._begin(peers)
        givers = list(peers)
        while self._missing and givers:
            async with trio.open_nursery() as nursery:
                for peer in givers[:GIVERS]:
                    nursery.start_soon(self._take_from, peer)
            # What a failing one had taken may be left when the others saw nothing missing any more: it is theirs now.
            givers = [peer for peer in givers if peer not in self._failed]
        if self._unkept is not None:
            raise self._unkept
        if self._missing:
            raise self._failure or call_error(Code.NODE_LOST, "no node has the bundle")
        await self._bundles.install_parts(self._hash)

    async def _begin(self, peers: Iterable[str]) -> None:
        """Learn the size from the first that has it. Raises CallError."""
        have = await self._bundles.parts(self._hash)
        for peer in peers:
            try:
                await self._piece(peer, 0)
            except CallError as error:
                self._failure = error
            else:
                break
        else:
            raise self._failure or call_error(Code.NODE_LOST, "no node has the bundle")
        offsets = range(0, self._total, CHUNK)
        self._missing = [at for at in reversed(offsets) if have.get(at) != self._length(at)]

    def _length(self, offset: int) -> int:
        return min(CHUNK, self._total - offset)

    async def _take_from(self, peer: str) -> None:
        """Until nothing is missing, or this one fails; then its part is for the others."""
        while self._missing:
            offset = self._missing.pop()
            try:
                part = await self._part(peer, offset)
            except CallError as error:
                self._missing.append(offset)
                self._failed.add(peer)
                self._failure = error
                return
            await self._keep(offset, part)

    async def _keep(self, offset: int, part: bytes) -> None:
        """What the disk does not take is no peer's failure, and none can help: it ends all of them."""
        try:
            await self._bundles.keep_part(self._hash, offset, part)
        except OSError as error:
            self._unkept = error
            self._missing.clear()

    async def _part(self, peer: str, offset: int) -> bytes:
        """All bytes of one part, in as many pieces as the peer likes. Raises CallError."""
        data = b""
        while len(data) < self._length(offset):
            data += await self._piece(peer, offset + len(data))
        return data[: self._length(offset)]

    async def _piece(self, peer: str, offset: int) -> bytes:
        reply = await self._ask(peer, "function.fetch", {"hash": self._hash, "offset": offset})
        total, data = reply.result.get("total"), reply.blob or b""
        if type(total) is not int or not 0 < total <= MAX_BUNDLE:
            total = 0
        if not total or not data or total != (self._total or total):
            raise call_error(Code.INTERNAL, f"node {peer} gives a piece that makes no sense")
        self._total = total
        return data
