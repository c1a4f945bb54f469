"""Every connection of a node, from its first byte to its last (DESIGN §2, §4, §10).

Decides who is admitted in which role, and to which part of the node a message belongs. Refuses to know what
those parts do with it. A connection's failure ends that connection only.

A role is what the dialer says of itself: until there are TLS and keys it is a claim and no proof, it keeps
mistakes apart and not attackers. What stands between a stranger and the operator's verbs is that a node
listens on loopback, or that its configuration says `insecure` in so many words (`config`).
"""

import logging
import socket
from collections.abc import Iterable
from itertools import groupby
from typing import TYPE_CHECKING, Any, cast

import trio

from edged.core.calls import Call
from edged_protocol import messages as m
from edged_protocol.codec import encode
from edged_protocol.connection import Connection
from edged_protocol.errors import Code, RemoteProtocolError
from edged_protocol.forms import FromClient
from edged_protocol.ids import valid_name
from edged_protocol.limits import MAX_FRAME, MAX_FRAME_TRUSTED, MAX_INFLIGHT, PROTO
from edged_protocol.plain import opened

from . import packing, session_verbs, verbs
from .descriptors import connections_allowed
from .hub import Hub
from .link import Link
from .relay import Relay
from .stores.mesh import serve

if TYPE_CHECKING:
    from .node import Node

log = logging.getLogger(__name__)

PING_SECONDS = 30.0
"""Between two looks at who is silent."""

MAX_UNHEARD = 2
"""PINGs in a row without a byte from the other end."""

PING = encode(m.Ping(0))

STALE_SECONDS = 5.0
"""For the answer to the PING after the node was away; whoever never answers PING is believed again then."""

AGAIN = {"retry_after_ms": 20}

BESIDE_DEVICES = 16
"""Connections for operators, nodes and whoever has not said who it is, when devices have all others."""


class Connections:
    """`take` what listeners accept, `serve` what was dialled; `received` sorts what is said."""

    def __init__(self, node: "Node", relay: Relay, hub: Hub, nursery: trio.Nursery):
        self._node = node
        self._relay = relay
        self._hub = hub
        self._nursery = nursery
        self._most = connections_allowed(node.config.capacity.containers)
        self.links: set[Link] = set()
        self._returns = 0

    def take(self, sock: socket.socket) -> None:
        """A stranger's connection, served by a task of its own; beyond all bounds it is closed."""
        if len(self.links) >= self._most + BESIDE_DEVICES:
            sock.close()
        else:
            self._nursery.start_soon(self._serve_stranger, sock)

    async def _serve_stranger(self, sock: socket.socket) -> None:
        link: Link

        def welcome(hello: m.Hello) -> m.Welcome:
            return self._welcome(link, hello)

        link = Link(sock, Connection.acceptor(welcome), self.received, self._hub)
        await self.serve(link)

    def dialled(self, sock: socket.socket, hello: m.Map) -> Link:
        """The link of a connection to another node, made by this one."""
        link = Link(sock, Connection.dialer(hello), self.received, self._hub)
        link.role, link.info = "node", {"dialled": True}
        return link

    async def serve(self, link: Link) -> None:
        """One connection from first to last byte; its failures end here."""
        self.links.add(link)
        try:
            await link.run()
        except* Exception:
            log.exception("connection %s failed", link.name)
        finally:
            self.links.discard(link)
            self._node.peers.lost(link)
            self._relay.link_lost(link)

    # The handshake

    def _welcome(self, link: Link, hello: m.Hello) -> m.Welcome:
        role, mesh = hello.info["role"], self._node.config.mesh.name
        if role == "worker":
            raise RemoteProtocolError("forbidden", "containers have a socket of their own")
        if role == "node" and hello.info.get("mesh") != mesh:
            raise RemoteProtocolError("wrong_mesh", f"this is mesh {mesh}")
        if role == "node" and not _says_who(hello.info):
            raise RemoteProtocolError("bad_handshake", "a node says its name and its boot")
        if role == "device" and len(self.links) > self._most:
            raise RemoteProtocolError("full", "this node has as many connections as it can hold")
        link.role, link.name = role, hello.info["name"][:63]
        if role == "device":
            link.reads(FromClient().decode)
        return m.Welcome(self._greeting(link, MAX_FRAME if role == "device" else MAX_FRAME_TRUSTED))

    def _greeting(self, link: Link, max_frame: int) -> m.Map:
        node = self._node
        return {
            "proto": PROTO,
            "mesh": node.config.mesh.name,
            "node": node.name,
            "boot": node.boot,
            "packs": [packing.NAME],
            "max_frame": max_frame,
            "max_inflight": MAX_INFLIGHT,
            "brokers": [[node.name, node.gossip.own_address(link)], *node.peers.brokers()],
        }

    def send_away(self, besides: Link | None = None) -> None:
        """GOAWAY to all clients but one: finish what is in flight, then go elsewhere.

        Other nodes get none. Their connections carry the store's operations and the moves of sessions,
        which a stopping node needs to the end; `status.introduction` tells them not to send calls.
        """
        farewell = encode(m.GoAway("draining", {"brokers": self._node.peers.brokers()}))
        for link in list(self.links):
            if link.role != "node" and link is not besides:
                link.send(farewell)
                link.flush()

    async def keep_alive(self) -> None:
        """Ask those that say nothing whether they are there, and cut who does not answer."""
        while True:
            await trio.sleep(PING_SECONDS)
            for link in list(self.links):
                if link.heard:
                    link.heard, link.unheard = False, 0
                elif link.unheard == MAX_UNHEARD:
                    link.goaway("idle")
                else:
                    link.unheard += 1
                    link.send(PING)
                    link.flush()

    def returned(self) -> None:
        """The node was away. A call that lies in its sockets since then may have been repeated elsewhere, run, and been
        forgotten: such a first try would run again. Whatever was sent before a connection's other end has heard of the
        node again is refused; who still waits for it says it again."""
        log.warning("the node was away for a while: calls that were sent meanwhile are refused")
        self._returns += 1
        until, ping = trio.current_time() + STALE_SECONDS, encode(m.Ping(self._returns))
        for link in list(self.links):
            if link.established:
                link.stale_until = until
                link.send(ping)
                link.flush()

    async def emptied(self) -> None:
        """Until everybody has taken what was sent; who takes nothing is cut in time (`link`)."""
        while any(link.unsent for link in self.links):  # noqa: ASYNC110 - once, at the end
            await trio.sleep(0.01)

    # What is said

    def received(self, link: Link, messages: list[m.Message]) -> None:
        """Everything one read brought on a connection; the hub writes what comes of it."""
        now = trio.current_time()
        if link.stale_until:
            messages = self._fresh(link, messages, now)
        for kind, run in groupby(messages, type):
            if kind is m.Invoke:
                self._relay.entrance.take(link, cast("Iterable[m.Invoke]", run), now)
            elif kind is m.Plain:
                self._passed(link, cast("Iterable[m.Plain]", run), now)
            else:
                for message in run:
                    self._received_rare(link, message, now)

    def _passed(self, link: Link, answers: Iterable[m.Plain], now: float) -> None:
        for waiting, answer in self._relay.answers.pass_on(link.waiting, answers, now):
            if waiting is not None:
                self._answered(link, waiting, opened(answer), now)

    def _answered(self, link: Link, waiting: Any, message: m.Result | m.Error, now: float) -> None:
        if type(waiting) is Call:
            self._relay.peer_answer(link, waiting, message, now)
        else:
            waiting(message)

    def _fresh(self, link: Link, messages: list[m.Message], now: float) -> list[m.Message]:
        """All but the calls that were sent before the PONG."""
        taken: list[m.Message] = []
        for message in messages:
            if now >= link.stale_until or (isinstance(message, m.Pong) and message.nonce == self._returns):
                link.stale_until = 0.0
            if link.stale_until and isinstance(message, m.Invoke):
                link.send(encode(m.Error(message.id, Code.MOVING, "the node was away since this call was sent", AGAIN)))
                self._relay.touch(link)
            else:
                taken.append(message)
        return taken

    def _received_rare(self, link: Link, message: m.Message, now: float) -> None:
        if isinstance(message, m.Result | m.Error):
            waiting = link.waiting.pop(message.id, None)
            if waiting is not None:
                self._answered(link, waiting, message, now)
        elif isinstance(message, m.Request):
            self._requested(link, message)
        elif isinstance(message, m.Reply | m.Item):
            self._replied(link, message)
        elif isinstance(message, m.Ping):
            link.send(encode(m.Pong(message.nonce)))
            self._relay.touch(link)
        elif isinstance(message, m.Cancel):
            self._node.followed.discard((link, message.id))
            self._node.deadlines.cancel(link, message.id, now)
        elif isinstance(message, m.Hello | m.Welcome) and link.role == "node":
            self._node.peers.greeted(link, message)

    def _replied(self, link: Link, message: m.Reply | m.Item) -> None:
        waiting = link.waiting.get(message.id)
        if callable(waiting):
            if isinstance(message, m.Reply) or message.last:
                del link.waiting[message.id]
            waiting(message)

    def _requested(self, link: Link, message: m.Request) -> None:
        if message.verb.startswith("store.") and link.role == "node":
            serve(
                self._node.store,
                message.verb,
                message.params,
                message.blob,
                lambda reply: _send_now(link, reply._replace(id=message.id)),
            )
        elif message.verb in verbs.AT_ONCE and link.role == "node":
            _send_now(link, verbs.AT_ONCE[message.verb](self._node, message))
        elif message.verb in session_verbs.STEPS and link.role == "node":
            session_verbs.session_step(self._node, link, message)
        elif link.inflight >= MAX_INFLIGHT:
            busy = m.Error(message.id, Code.OVERLOADED, "too many requests in flight")
            link.send(encode(busy))
            self._relay.touch(link)
        else:
            link.inflight += 1
            self._nursery.start_soon(verbs.answer, self._node, link, message)


def _says_who(info: m.Map) -> bool:
    """Whether a node's HELLO can be answered: others are told its name, and its boot tells its lives apart."""
    boot = info.get("boot")
    return valid_name(info["name"]) and isinstance(boot, str) and boot != ""


def _send_now(link: Link, message: m.Message) -> None:
    link.send(encode(message))
    link.flush()
