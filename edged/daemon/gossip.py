"""The membership over the network: datagrams, its clock, and exchanges over connections (DESIGN §6).

Decides what a node's being alive, suspect or down means here: a suspect gets no new work, a node that is down loses
its connection, one that is not connected is dialled (`peers`). Refuses to know how any of that is found out.
"""

import hashlib
import logging
import random
import socket
from collections.abc import Iterable
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import trio

from edged.core.membership import (
    DEAF,
    Carry,
    Changed,
    Deaf,
    Effect,
    Membership,
    Namesake,
    Send,
    Status,
    Sync,
    Told,
)
from edged_protocol import messages as m
from edged_protocol.codec import pack, unpack
from edged_protocol.errors import Code, RemoteProtocolError, call_error

from .link import MAPPED, Link
from .sealing import MAX_DATAGRAM, Sealer
from .status import body_of

if TYPE_CHECKING:
    from .node import Node

log = logging.getLogger(__name__)

BURST = 64
"""Datagrams read before other tasks have their turn."""

MAX_HOSTS = 1024

TELL_SECONDS = 1.0
"""Between two versions of this node's record."""

TELL_MEMBERS = 25
"""Members up to which that is so; then in proportion."""


class Gossip:
    """`run` owns the socket; `core` may be asked at any time."""

    def __init__(self, node: "Node") -> None:
        config = node.config
        self._node = node
        self._sealer = Sealer(config.mesh.name, node.name, _keys(config.security.gossip_keys, config.mesh.name))
        self.core = Membership(
            node.name, node.boot, node.address, random.SystemRandom(), trio.current_time()
        )
        self._socket: trio.socket.SocketType | None = None
        self._hosts: dict[str, str | None] = {}
        self._nursery: trio.Nursery | None = None
        self._sooner = trio.Event()
        self._until = 0.0
        self._told = 0.0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen where the node does, with datagrams. Started when the port is bound. Raises OSError."""
        address = self._node.listeners.bound
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        with trio.socket.socket(family, socket.SOCK_DGRAM) as self._socket:
            if address[0] == "::" and socket.has_dualstack_ipv6():
                self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            try:
                await self._socket.bind(address)
            except OSError as error:
                raise OSError(error.errno, f"{error.strerror}, for datagrams of nodes: UDP {address[0]}, port {address[1]}") from error
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._receive, self._socket)
                nursery.start_soon(self._tick)
                task_status.started()

    @property
    def deaf(self) -> list[str]:
        """Nodes that live, and that no datagram gets to and back."""
        return [one.record.node for one in self.core.members() if one.here and one.deaf >= DEAF]

    @property
    def refused(self) -> dict[str, int]:
        """Datagrams that were none of this mesh's, by why."""
        return dict(self._sealer.refused)

    # In

    async def _receive(self, sock: trio.socket.SocketType) -> None:
        while True:
            try:
                datagram = await sock.recv(MAX_DATAGRAM + 1)
                self._take(datagram)
            except OSError as error:
                log.debug("datagram: %s", error)  # what an earlier one met on its way comes back here

    def _take(self, datagram: bytes) -> None:
        opened = self._sealer.open(datagram)
        if opened is not None:
            self._do(self.core.receive(opened.payload, trio.current_time()))

    async def _tick(self) -> None:
        while True:
            self._until = self.core.next_deadline()
            with trio.move_on_at(self._until):
                await self._sooner.wait()
            self._sooner = trio.Event()
            now = trio.current_time()
            if self.core.next_deadline() <= now:
                self._do(self.core.on_deadline(now))

    # What the core wants

    def _do(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Send):
                self._send(effect)
            elif isinstance(effect, Sync):
                self._exchange(effect.node)
            elif isinstance(effect, Carry):
                self._carry(effect)
            elif isinstance(effect, Deaf):
                log.warning("node %s answers over its connection only: do datagrams (UDP) reach it?", effect.node)
            elif isinstance(effect, Namesake):
                who = effect.record
                log.error("another node calls itself %s, at %s: one of the two needs another [node] name", who.node, who.address)
            elif isinstance(effect, Told):
                self._node.spread.all_reported(effect.record.node, body_of(effect.record.body).get("functions"))
            else:
                self._changed(effect)
        if self.core.next_deadline() < self._until:
            self._sooner.set()

    def _send(self, send: Send) -> None:
        """At once or not at all: a datagram that cannot leave is a datagram lost."""
        host, _, port = send.address.rpartition(":")
        where = self._resolved(host.strip("[]"))
        if where is not None and self._socket is not None:
            try:
                sock = self._socket._sock  # type: ignore[attr-defined]
                if self._socket.family == socket.AF_INET6 and ":" not in where:
                    where = MAPPED + where
                sock.sendto(self._sealer.seal(send.payload), (where, int(port)))
            except OSError as error:
                log.debug("datagram to %s: %s", send.address, error)

    def _resolved(self, host: str) -> str | None:
        """The address of a host; of a name, once it was looked up."""
        try:
            return str(ip_address(host))
        except ValueError:
            pass
        if host not in self._hosts and self._nursery is not None and len(self._hosts) < MAX_HOSTS:
            self._hosts[host] = None
            self._nursery.start_soon(self._look_up, host)
        return self._hosts.get(host)

    async def _look_up(self, host: str) -> None:
        try:
            found = await trio.socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)
            self._hosts[host] = str(found[0][4][0])
        except OSError as error:
            log.debug("%s: %s", host, error)
            await trio.sleep(5)
            del self._hosts[host]

    def _changed(self, change: Changed) -> None:
        """A node is seen otherwise than before."""
        status, node = change.status, change.node
        self._node.events.note(f"node.{status.name.lower()}", peer=node)
        self._node.router.doubt(node, status is Status.SUSPECT)
        member, now = self.core.member(node), trio.current_time()
        if member is not None and member.wary_until > now:
            self._node.spread.balancer.be_wary(node, member.wary_until, now)
        link = self._node.relay.peers.get(node)
        if status is Status.DOWN and link is not None and link.info.get("boot") == change.record.boot:
            link.cut("it does not answer any more")

    # Connections

    def connected(self, link: Link) -> None:
        """A connection to a node is there: both tell each other all they know."""
        self.core.set_address(self.own_address(link))
        self._exchange(link.name)

    def own_address(self, link: Link) -> str:
        """Where others find this node; of one that listens everywhere, the address that has just been used."""
        host, _, port = self._node.address.rpartition(":")
        if host not in ("0.0.0.0", "[::]"):  # noqa: S104 - compared, not bound
            return self._node.address
        used = link.local_host
        if not used:
            return self.core.record.address
        return f"[{used}]:{port}" if ":" in used else f"{used}:{port}"

    def lost(self, node: str) -> None:
        """The connection to a node ended."""
        self._do(self.core.refused(node, trio.current_time()))

    def _exchange(self, node: str) -> None:
        link = self._node.relay.peers.get(node)
        if link is None or link.closed:
            return

        def done(message: Any) -> None:
            if isinstance(message, m.Reply):
                self._merge(message.blob or b"")

        self._node.peers.request(link, "node.exchange", {}, pack(self.core.state()), done)
        link.flush()

    def _carry(self, carry: Carry) -> None:
        """The same as a datagram, where those may not pass; a node without a connection is not asked."""
        link = self._node.relay.peers.get(carry.node)
        if link is None or link.closed:
            return

        def done(message: Any) -> None:
            if isinstance(message, m.Reply):
                self._carried(message.blob or b"")

        self._node.peers.request(link, "node.ping", {}, self._sealer.seal(carry.payload), done)
        link.flush()

    def pinged(self, datagram: bytes) -> bytes | None:
        """A datagram that another node sent over the connection; the one that goes back."""
        answer = self._carried(datagram)
        return self._sealer.seal(answer) if answer else None

    def _carried(self, datagram: bytes) -> bytes:
        """Sealed like any other: who has no key of the mesh is not believed over a connection either."""
        opened = self._sealer.open(datagram)
        if opened is None:
            return b""
        answer, effects = self.core.carried(opened.payload, trio.current_time())
        self._do(effects)
        return answer

    def exchanged(self, theirs: bytes) -> bytes:
        """Another node tells all it knows; what this one knows then. Raises CallError."""
        if not self._merge(theirs):
            raise call_error(Code.BAD_REQUEST, "node.exchange: the blob is no list of byte strings")
        return pack(self.core.state())

    def _merge(self, data: bytes) -> bool:
        try:
            items = unpack(data)
        except (RemoteProtocolError, ValueError, TypeError):
            return False
        if not isinstance(items, list) or not all(isinstance(item, bytes) for item in items):
            return False
        self._do(self.core.merge(items, trio.current_time()))
        return True

    def tell(self, body: bytes) -> None:
        """What this node says of itself, if that is news; less often in a large mesh, where all of it has to
        go through everybody's line."""
        now = trio.current_time()
        pause = TELL_SECONDS * max(1.0, len(self.core.members()) / TELL_MEMBERS)
        if body != self.core.record.body and now - self._told >= pause * 0.9:
            self._told = now
            self.core.set_body(body)
            self._do([])

    def leave(self) -> None:
        """Tell some others that this node goes; they tell the rest."""
        self._do(self.core.leave(trio.current_time()))


def _keys(given: tuple[str, ...], mesh: str) -> list[bytes]:
    """The mesh's keys. Without any, one that is no secret: it keeps meshes apart, and no attacker out."""
    if given:
        return [bytes.fromhex(key) for key in given]
    return [hashlib.sha256(f"edged mesh {mesh}".encode()).digest()]
