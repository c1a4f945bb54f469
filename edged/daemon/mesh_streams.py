"""`function.logs` and `mesh.events`: what every node of the mesh has to tell, as one stream (DESIGN §9).

Decides in which order items are shown and when a node that says nothing is given up. The node that is asked
collects: its operator may reach no other. Refuses to know what the items are and how they are kept.

Nodes ask each other with `here`: then each item has its `serial`, one with nothing else says that all there was
has been sent, and `after` goes on behind a serial. Items are sorted by the nodes' wall clocks, which nobody
compares for anything that matters; within a node their order is the true one unless its clock was set back.
"""

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import trio

from edged_protocol import messages as m
from edged_protocol.codec import encode
from edged_protocol.errors import Code, call_error

from .kept_logs import MAX_LINES
from .link import Link
from .verb_params import text

if TYPE_CHECKING:
    from .node import Node

PEER_SECONDS = 2.0
"""For the other nodes' lines; one that takes longer is named, and with `follow` its lines come later."""

FOLLOW_SECONDS = 0.1
"""Between two looks for new lines: a person reads no faster, and a function may print without end."""

Followed = set[tuple[Link, int]]
"""The requests that go on until they are cancelled, by connection and id."""


class Source(NamedTuple):
    """What is streamed: the verb that peers are asked with, and what this node has behind a serial."""

    verb: str
    params: m.Map
    after: Callable[[int], list[tuple[int, m.Map]]]


async def function_logs(node: "Node", link: Link, request: m.Request) -> None:
    """What a function's containers printed. Raises CallError before the first item."""
    name = text(request, "name")
    known = name in node.deployments.catalogue.deployed()
    if not known and not request.params.get("here"):
        raise call_error(Code.NO_SUCH_FUNCTION, f"no function named {name} is deployed")
    source = Source(request.verb, {"name": name}, partial(node.logs.after, name))
    await _streamed(node, link, request, source)


async def mesh_events(node: "Node", link: Link, request: m.Request) -> None:
    """What happened, as far as the nodes remember it."""
    await _streamed(node, link, request, Source(request.verb, {}, node.events.after))


async def _streamed(node: "Node", link: Link, request: m.Request, source: Source) -> None:
    """The last items, then with `follow` what comes."""
    stream = _Stream(link, request.id, node.followed, bool(request.params.get("follow")))
    try:
        if request.params.get("here"):
            await _own_items(stream, source, request.params.get("after"))
        else:
            await _mesh_items(node, stream, source)
        stream.send([], last=True)
    finally:
        stream.end()


class _Stream:
    """The items of one request."""

    def __init__(self, link: Link, id_: int, followed: Followed, follow: bool) -> None:
        self._link = link
        self._id = id_
        self._followed = followed
        if follow:
            followed.add((link, id_))

    @property
    def goes_on(self) -> bool:
        """Whether somebody waits for more than there is."""
        return (self._link, self._id) in self._followed and not self._link.closed

    @property
    def has_room(self) -> bool:
        """Whether what was sent has been taken: a function that prints without end must not fill a
        connection that others use."""
        return self._link.unsent == 0

    def send(self, items: list[m.Map], *, last: bool = False) -> None:
        """Write items in one go."""
        for item in items:
            self._link.send(encode(m.Item(self._id, item, False)))
        if last:
            self._link.send(encode(m.Item(self._id, None, True)))
        self._link.flush()

    def end(self) -> None:
        """It is over."""
        self._followed.discard((self._link, self._id))


async def _own_items(stream: _Stream, source: Source, after: object) -> None:
    """For another node."""
    seen = after if type(after) is int else 0
    rows = source.after(seen)
    while True:
        seen = rows[-1][0] if rows else seen
        stream.send([*({**item, "serial": serial} for serial, item in rows), {"serial": seen}])
        rows = []
        while not rows:
            if not stream.goes_on:
                return
            await trio.sleep(FOLLOW_SECONDS)
            rows = source.after(seen) if stream.has_room else []


async def _mesh_items(node: "Node", stream: _Stream, source: Source) -> None:
    """For an operator."""
    collection = _Collection(node, source, stream)
    try:
        collection.ask_peers()
        with trio.move_on_after(PEER_SECONDS):
            await collection.all_there.wait()
        stream.send(sorted(collection.take(), key=_when)[-MAX_LINES:])
        stream.send(collection.silent())
        while stream.goes_on:
            await trio.sleep(FOLLOW_SECONDS)
            collection.ask_peers()
            if stream.has_room:
                stream.send(collection.take())
    finally:
        collection.close()


def _when(item: m.Map) -> str:
    return str(item.get("at", ""))


class _Collection:
    """What this node and its peers have to tell, as it arrives."""

    def __init__(self, node: "Node", source: Source, stream: _Stream) -> None:
        self._node = node
        self._source = source
        self._stream = stream
        self._own = 0
        self._items: deque[m.Map] = deque(maxlen=MAX_LINES)
        self._asked: dict[str, _Asked] = {}
        self.all_there = trio.Event()

    def ask_peers(self) -> None:
        """Ask those that are connected, once over each connection.

        One that was lost and is back goes on behind what it had said, unless this is another life of it.
        """
        for name, link in self._node.relay.peers.items():
            old = self._asked.get(name)
            if old is None or (old.link is not link and not link.closed):
                same = old is not None and old.boot == link.info.get("boot")
                self._asked[name] = self._ask(name, link, old.seen if old and same else 0)
        self._look()

    def _ask(self, name: str, link: Link, after: int) -> "_Asked":
        asked = _Asked(name, link, after)
        params: m.Map = {**self._source.params, "here": True, "after": after}
        params["follow"] = self._stream.goes_on
        asked.serial = self._node.peers.request(
            link, self._source.verb, params, None, lambda message: self._came(asked, message)
        )
        link.flush()
        return asked

    def _came(self, asked: "_Asked", message: m.Reply | m.Error | m.Item) -> None:
        if isinstance(message, m.Item) and isinstance(message.item, dict):
            self._one(asked, message.item)
        elif isinstance(message, m.Error):
            self._items.append({"node": asked.name, "missing": message.message})
        asked.over = not isinstance(message, m.Item) or message.last
        asked.there = asked.there or asked.over
        self._look()

    def _one(self, asked: "_Asked", item: m.Map) -> None:
        serial = item.pop("serial", 0)
        asked.seen = max(asked.seen, serial) if type(serial) is int else asked.seen
        if item:
            self._items.append(item)
        else:
            asked.there = True

    def _look(self) -> None:
        if all(asked.there for asked in self._asked.values()):
            self.all_there.set()

    def take(self) -> list[m.Map]:
        """All that has come since the last time, own ones first."""
        rows = self._source.after(self._own)
        self._own = rows[-1][0] if rows else self._own
        items = [*(item for _, item in rows), *self._items]
        self._items.clear()
        return items

    def silent(self) -> list[m.Map]:
        """An item for each node that has not answered yet."""
        late = f"no answer in {PEER_SECONDS:g} s"
        names = [name for name, asked in self._asked.items() if not asked.there]
        return [{"node": name, "missing": late} for name in sorted(names)]

    def close(self) -> None:
        """Tell the peers that nobody listens."""
        for asked in self._asked.values():
            if not asked.over and not asked.link.closed:
                asked.link.waiting.pop(asked.serial, None)
                asked.link.send(encode(m.Cancel(asked.serial)))
                asked.link.flush()


class _Asked:
    """A peer's stream."""

    def __init__(self, name: str, link: Link, after: int) -> None:
        self.name = name
        self.link = link
        self.boot = link.info.get("boot")
        self.seen = after
        self.serial = 0
        self.there = False
        self.over = False
