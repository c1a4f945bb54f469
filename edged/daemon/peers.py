"""Connections to the other nodes: one dialler for all candidates, one link per peer, requests over it (DESIGN §2, §6).

Either end may dial; the link is used both ways. When two nodes dial each other at once, the connection
dialled by the lower name stays.
"""

import logging
import random
import socket
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import trio

from edged.core.candidates import Candidates
from edged.core.catalogue import Pointer
from edged.core.membership import Status
from edged_protocol import messages as m
from edged_protocol.announcement import Announced
from edged_protocol.codec import encode, pack
from edged_protocol.errors import CallError, Code, call_error
from edged_protocol.forms import FromNode

from . import packing
from .link import Link
from .remembered import Remembered

if TYPE_CHECKING:
    from .node import Node

log = logging.getLogger(__name__)

DIAL_SECONDS = 2.0
"""A node on the same site answers in milliseconds."""

REMEMBER_SECONDS = 5.0
"""Between two looks at who is connected."""

MOST_NAMED = 8
"""Nodes named to who asked for one that is not there."""

ASK_SECONDS = 35.0
"""A verb relayed for an operator; moves take up to 30 s."""


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _two_counts(value: object) -> bool:
    return isinstance(value, list) and [type(item) for item in value] == [int, int]


def _counts(value: object) -> bool:
    return isinstance(value, dict) and all(type(item) is int for item in value.values())


def _free(row: m.Map) -> int:
    used, total = row["containers"]
    return int(total - used)


INTRODUCTION: dict[str, Callable[[Any], bool]] = {
    "node": lambda value: isinstance(value, str),
    "address": lambda value: isinstance(value, str),
    "labels": _texts,
    "containers": _two_counts,
    "memory": lambda value: value is None or _two_counts(value),
    "places": lambda value: value is None or _counts(value),
    "sessions": lambda value: type(value) is int,
    "functions": _texts,
    "state": lambda value: isinstance(value, str),
    "followed": _counts,
}
"""What the elements of `node.sync` must be: WELCOME and `mesh.nodes` show them to others."""


class Peers:
    """Everything this node knows of its connections to others."""

    def __init__(self, node: "Node") -> None:
        self._node = node
        self.candidates = Candidates(node.name)
        self._remembered = Remembered(node.data_dir)

    async def run(self) -> None:
        """Be connected to every node there is."""
        for seed in self._node.config.mesh.seeds:
            self.candidates.seed(seed)
        for row in await self._remembered.load():
            self.candidates.remembered(*row)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._refresh)
            nursery.start_soon(self._dial_all, nursery)
            nursery.start_soon(self._remember)

    def heard(self, rows: list[Announced]) -> None:
        """What is announced on the LAN; another mesh is none of ours."""
        now = trio.current_time()
        for row in rows:
            if row.mesh == self._node.config.mesh.name:
                self.candidates.announced(row.node, row.address, now)

    async def _dial_all(self, nursery: trio.Nursery) -> None:
        while True:
            members = self._node.gossip.core.members()
            here = ((one.record.node, one.record.address, one.since) for one in members if one.here)
            away = (one.record.address for one in members if one.status is Status.DOWN)
            self.candidates.members(here, away)
            for address in self.candidates.due(trio.current_time(), self._node.relay.peers):
                nursery.start_soon(self._meet, address)
            await trio.sleep(random.uniform(0.05, 0.15))  # noqa: S311 - jitter, not a secret

    async def _meet(self, address: str) -> None:
        """One dial, and the connection it leads to."""
        began = trio.current_time()
        try:
            await self._dial(address)
        except (OSError, ValueError) as error:
            log.debug("%s: %s", address, error)
        now = trio.current_time()
        self.candidates.ended(address, now - began, random.uniform(0.8, 1.2), now)  # noqa: S311 - as above

    async def _remember(self) -> None:
        """Keep on disk who is connected."""
        while True:
            await trio.sleep(REMEMBER_SECONDS)
            members = map(self._node.gossip.core.member, self.names())
            try:
                await self._remembered.keep([(one.record.node, one.record.address) for one in members if one])
            except OSError as error:
                log.warning("peers cannot be remembered: %s", error)

    async def _dial(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        with trio.move_on_after(DIAL_SECONDS) as scope:
            stream = await trio.open_tcp_stream(host.strip("[]"), int(port))
        if scope.cancelled_caught:
            return
        sock = socket.socket(fileno=socket.dup(stream.socket.fileno()))
        await stream.aclose()
        node = self._node
        hello = {
            "role": "node",
            "name": node.name,
            "mesh": node.config.mesh.name,
            "boot": node.boot,
            "packs": [packing.NAME],
        }
        link = node.connections.dialled(sock, hello)
        link.info["address"] = address
        await node.connections.serve(link)

    def greeted(self, link: Link, message: m.Hello | m.Welcome) -> None:
        """The handshake of a node's connection is done."""
        info = message.info
        link.name = str(info.get("node" if isinstance(message, m.Welcome) else "name"))
        link.reads(FromNode(link.name).decode)
        link.info["boot"] = str(info.get("boot", ""))
        if info.get("quiet") is True:
            return  # it asks before it is part of the mesh, and may have to end (`claiming`)
        packs = info.get("packs")
        link.info["packs"] = isinstance(packs, list) and packing.NAME in packs
        if "address" in link.info:
            self.candidates.is_node(link.info["address"], link.name)
        old = self._node.relay.peers.get(link.name)
        if link.name == self._node.name:
            link.cut("this is myself")
            return
        if old is not None and not old.closed and not self._replaces(link, old):
            link.goaway("duplicate")
            return
        self._node.relay.peers[link.name] = link
        if old is None:
            self._node.events.note("peer.connected", peer=link.name)
        self._node.gossip.connected(link)
        self._send_sync(link)
        if old is not None:
            old.goaway("duplicate")

    def _replaces(self, new: Link, old: Link) -> bool:
        if new.info.get("boot") != old.info.get("boot"):
            return True
        dialler = self._node.name if new.info.get("dialled") else new.name
        return dialler == min(self._node.name, new.name) and bool(new.info.get("dialled")) != bool(
            old.info.get("dialled")
        )

    def introduced(self, link: Link, params: m.Map) -> None:
        """A peer said what it is and runs; over a connection that was lost meanwhile, or replaced, that is no news.
        Raises CallError for what is no introduction."""
        wrong = [name for name, right in INTRODUCTION.items() if not right(params.get(name))]
        if wrong:
            raise call_error(Code.BAD_REQUEST, f"node.sync: {', '.join(wrong)} make no sense")
        if self._node.relay.peers.get(link.name) is link:
            link.info["sync"] = params
            self._node.router.peer(link.name, params["functions"])

    def lost(self, link: Link) -> None:
        """A connection ended."""
        peers = self._node.relay.peers
        if link.role == "node" and peers.get(link.name) is link:
            del peers[link.name]
            self._node.router.peer(link.name, None)
            self._node.spread.balancer.forget(link.name)
            log.info("peer %s is gone: %s", link.name, link.reason)
            self._node.events.note("peer.lost", peer=link.name, reason=link.reason)
            self._node.gossip.lost(link.name)
        for serial, waiting in list(link.waiting.items()):
            if callable(waiting):
                del link.waiting[serial]
                waiting(m.Error(serial, Code.NODE_LOST, f"node {link.name} was lost"))

    def brokers(self) -> list[list[str]]:
        """The peers a client may turn to instead."""
        rows = [link.info.get("sync") for link in self._node.relay.peers.values()]
        return [[row["node"], row["address"]] for row in rows if row]

    def names(self) -> list[str]:
        """All that are connected."""
        return list(self._node.relay.peers)

    def with_room_for(self, function: str) -> list[str]:
        """Peers that run `function` and have a container slot free, most of them first, or room in a container that its
        sessions share; those of a node that comes and goes count half."""
        rows = [link.info.get("sync") for link in self._node.relay.peers.values()]
        room = [
            (max(_free(row), (row.get("places") or {}).get(function, 0) > 0) / self._caution(row["node"]), row["node"])
            for row in rows
            if row and function in row["functions"] and not self._node.router.doubted(row["node"])
        ]
        return [name for free, name in sorted(room, reverse=True) if free > 0]

    def _caution(self, name: str) -> int:
        member = self._node.gossip.core.member(name)
        return 2 if member is not None and member.wary_until > trio.current_time() else 1

    def boot_of(self, name: str) -> str:
        """Which life of a peer this node talks to. Raises CallError."""
        link = self._node.relay.peers.get(name)
        if link is None:
            raise self.absent(name)
        return str(link.info.get("boot", ""))

    def absent(self, name: str) -> CallError:
        """Why there is no connection to a node: nobody has heard of it, or it is away."""
        core = self._node.gossip.core
        if core.member(name) is not None:
            return call_error(Code.OWNER_UNREACHABLE, f"node {name} is not reachable from here")
        there = sorted([self._node.name, *(one.record.node for one in core.members())])
        more = ", ..." if len(there) > MOST_NAMED else ""
        text = f"no node named {name}; there are {', '.join(there[:MOST_NAMED])}{more}"
        return call_error(Code.BAD_REQUEST, text, {"not_found": True, "node": name})

    def request(
        self, link: Link, verb: str, params: m.Map, blob: bytes | None, done: Callable[[Any], None]
    ) -> int:
        """Send a verb with the next write; `done` gets its REPLY, its ERROR or each ITEM. Its id."""
        serial = next(self._node.serials)
        link.waiting[serial] = done
        link.send(encode(m.Request(serial, verb, params, blob)))
        self._node.relay.touch(link)
        return serial

    def store_sender(self, node: str) -> Callable[..., bool]:
        """How the mesh store reaches the node that serves it; False when it is not connected."""

        def send(verb: str, params: m.Map, blob: bytes | None, done: Callable[[Any], None]) -> bool:
            link = self._node.relay.peers.get(node)
            if link is None or link.closed:
                return False
            self.request(link, verb, params, blob, done)
            link.flush()
            return True

        return send

    async def ask(self, peer: str, verb: str, params: m.Map, seconds: float = ASK_SECONDS) -> m.Reply:
        """One verb for a peer. Raises CallError."""
        link = self._node.relay.peers.get(peer)
        if link is None:
            raise self.absent(peer)
        answer: list[m.Reply | m.Error] = []
        came = trio.Event()

        def done(message: m.Reply | m.Error) -> None:
            answer.append(message)
            came.set()

        self.request(link, verb, params, None, done)
        link.flush()
        with trio.move_on_after(seconds):
            await came.wait()
        if not answer:
            raise call_error(Code.DEADLINE_EXCEEDED, f"node {peer} did not answer {verb}")
        if isinstance(answer[0], m.Error):
            raise call_error(answer[0].code, answer[0].message, answer[0].meta)
        return answer[0]

    def _send_sync(self, link: Link) -> None:
        pointers = pack(self._node.deployments.catalogue.all())
        self.request(link, "node.sync", self._node.introduction(), pointers, lambda _: None)

    def tell(self, verb: str, params: m.Map) -> None:
        """All peers, at once; who is away is not told."""
        for link in self._node.relay.peers.values():
            self.request(link, verb, params, None, lambda _: None)
            link.flush()

    def sync_soon(self) -> None:
        """Tell all peers what this node runs."""
        for link in self._node.relay.peers.values():
            self._send_sync(link)
            link.flush()

    async def sync_all(self, wanted: Iterable[Pointer]) -> None:
        """Tell all peers and wait, within reason, until they have followed `wanted`."""
        self.sync_soon()
        versions = {pointer.name: pointer.version for pointer in wanted}
        with trio.move_on_after(5):
            while not self._all_followed(versions):  # noqa: ASYNC110 - a rare verb, five seconds at most
                await trio.sleep(0.01)

    def _all_followed(self, wanted: dict[str, int]) -> bool:
        told = [followed for name in self.names() if (followed := self.followed(name)) is not None]
        return all(followed.get(name, 0) >= version for followed in told for name, version in wanted.items())

    def followed(self, name: str) -> dict[str, int] | None:
        """Which pointers a peer has made true; None when it is not connected, or has not said."""
        link = self._node.relay.peers.get(name)
        row = None if link is None else link.info.get("sync")
        return None if row is None else dict(row["followed"])

    async def _refresh(self) -> None:
        """Figures for the operator age: repeat them."""
        while True:
            await trio.sleep(1)
            self.sync_soon()
