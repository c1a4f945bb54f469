"""One node: everything put together, and the tree of tasks (DESIGN §2, §3).

`run` owns every long-lived task. Connections are served in tasks that contain their own failures: a
hostile peer, a dead container or a broken bundle never reaches this nursery.
"""

import itertools
import logging
import os
import secrets
import socket
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import trio

from edged.config import Config
from edged.core import effects as fx
from edged.core.catalogue import Catalogue, Pointer
from edged.core.records import SessionKey
from edged.core.routing import Router
from edged_protocol import messages as m
from edged_protocol.codec import encode, pack, unpack
from edged_protocol.connection import Connection
from edged_protocol.errors import CallError, Code, RemoteProtocolError, call_error
from edged_protocol.limits import MAX_FRAME, MAX_FRAME_TRUSTED, MAX_INFLIGHT, PROTO

from . import verbs
from .bundles import Bundles, write_whole
from .host import Host, Spec, StartFailed
from .hub import Hub
from .link import Link
from .peers import Peers
from .relay import Relay
from .stores import Store, open_store
from .stores.mesh import serve
from .timers import Timers
from .workers import Workers

log = logging.getLogger(__name__)

MAX_LOG_LINES = 1000
"""Lines kept per function; journald has the rest."""

MAX_CONNECTIONS = 4096
"""Accepted at once; each costs a task and a file descriptor."""


class Node:
    """A broker and worker host. `run` serves until it is cancelled."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.name = config.node.name
        self.data_dir = Path(config.node.data_dir).absolute()  # containers work elsewhere
        self.address = ""
        self.boot = ""
        self.serials = itertools.count(1)
        self.timers = Timers()
        self.logs: dict[str, deque[tuple[int, m.Map]]] = {}
        self.log_serial = 0
        self.log_changed = trio.Event()
        self.catalogue = Catalogue()
        self.bundles = Bundles(self.data_dir)
        self.router = Router(self.name)
        self.host = Host(self._log_line)
        self.links: set[Link] = set()
        self.peers = Peers(self)
        self._listening: list[socket.socket] = []
        self._installing: set[str] = set()
        self._started = 0.0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve. Started when the listeners accept and the store is open."""
        self._started = trio.current_time()
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self.boot = await trio.to_thread.run_sync(next_boot, self.data_dir)
        self.catalogue = await self.bundles.load()
        self._listen()
        self.store: Store = self._open_store()
        self.relay = Relay(self.name, self.boot, self.router, self.store, self.timers, self.serials)
        self.relay.tell = self._tell
        self.hub = Hub(self.relay.settle)
        self.workers = self.relay.workers = self._workers()
        async with trio.open_nursery() as nursery:
            self.nursery = nursery
            nursery.start_soon(self.timers.run)
            nursery.start_soon(self.hub.run)
            await nursery.start(self.store.run)
            await nursery.start(self.host.run)
            await nursery.start(self.workers.run)
            await self._serve_catalogue()
            nursery.start_soon(self.relay.sweep)
            nursery.start_soon(self._housekeeping)
            for listener, trusted in zip(self._listening, (False, True), strict=False):
                nursery.start_soon(self._accept, listener, trusted)
            nursery.start_soon(self.peers.run)
            task_status.started()

    def _workers(self) -> Workers:
        return Workers(
            self.host,
            self.config.capacity.containers,
            {"mesh": self.config.mesh.name, "node": self.name},
            self.serials,
            self.relay.touch,
            self.relay.worker_answer,
            self.relay.call_lost,
            self.relay.seat_lost,
            self.relay.settle,
            self.hub,
        )

    def _open_store(self) -> Store:
        reach = self.peers.store_sender
        return open_store(self.config.store.url, self.data_dir, reach=reach, timers=self.timers)

    # Listening

    def _listen(self) -> None:
        host, _, port = self.config.listen.address.rpartition(":")
        host = host.strip("[]")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, int(port)), family=family, backlog=512)
        bound = listener.getsockname()[1]
        shown = f"[{host}]" if family == socket.AF_INET6 else host
        self.address = self.config.listen.advertise or f"{shown}:{bound}"
        admin = Path(self.config.listen.admin or self.data_dir / "admin.sock")
        self.admin = str(admin)
        admin.parent.mkdir(parents=True, exist_ok=True)
        admin.unlink(missing_ok=True)
        unix = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        unix.bind(self.admin)
        admin.chmod(0o660)
        unix.listen(64)
        self._listening = [listener, unix]
        for one in self._listening:
            one.setblocking(False)

    async def _accept(self, listener: socket.socket, trusted: bool) -> None:
        while True:
            try:
                await trio.lowlevel.wait_readable(listener)
            except (trio.ClosedResourceError, OSError, ValueError):
                return  # `stop` closed it
            for _ in range(64):
                try:
                    sock, _ = listener.accept()
                except BlockingIOError:
                    break
                except OSError as error:
                    log.error("cannot accept: %s", error)
                    await trio.sleep(1)
                    break
                if len(self.links) >= MAX_CONNECTIONS:
                    sock.close()
                    continue
                self.nursery.start_soon(self._serve_stranger, sock, trusted)

    async def _serve_stranger(self, sock: socket.socket, trusted: bool) -> None:
        link: Link

        def welcome(hello: m.Hello) -> m.Welcome:
            return self._welcome(link, hello, trusted)

        link = Link(sock, Connection.acceptor(welcome), self.received, self.hub)
        await self.serve_link(link)

    def _welcome(self, link: Link, hello: m.Hello, trusted: bool) -> m.Welcome:
        role = hello.info["role"]
        if role == "worker":
            raise RemoteProtocolError("forbidden", "containers have a socket of their own")
        if role == "node" and hello.info.get("mesh") != self.config.mesh.name:
            raise RemoteProtocolError("wrong_mesh", f"this is mesh {self.config.mesh.name}")
        link.role, link.name, link.info = role, hello.info["name"][:63], hello.info
        return m.Welcome(self.greeting(MAX_FRAME if role == "device" else MAX_FRAME_TRUSTED))

    def greeting(self, max_frame: int) -> m.Map:
        """What WELCOME says."""
        return {
            "proto": PROTO,
            "mesh": self.config.mesh.name,
            "node": self.name,
            "boot": self.boot,
            "max_frame": max_frame,
            "max_inflight": MAX_INFLIGHT,
            "brokers": [[self.name, self.address], *self.peers.brokers()],
        }

    async def serve_link(self, link: Link) -> None:
        """One connection from first to last byte; its failures end here."""
        self.links.add(link)
        try:
            await link.run()
        except* Exception:
            log.exception("connection %s failed", link.name)
        finally:
            self.links.discard(link)
            self.peers.lost(link)
            self.relay.link_lost(link)

    def received(self, link: Link, messages: list[m.Message]) -> None:
        """Everything one read brought on a connection; the hub writes what comes of it."""
        now = trio.current_time()
        for message in messages:
            if type(message) is m.Invoke:
                self.relay.invoke(link, message, now)
            elif type(message) is m.Result or type(message) is m.Error:
                self._answered(link, message, now)
            else:
                self._received_rare(link, message)

    def _answered(self, link: Link, message: m.Result | m.Error, now: float) -> None:
        waiting = link.waiting.get(message.id)
        if callable(waiting):
            del link.waiting[message.id]
            waiting(message)
        else:
            self.relay.peer_answer(link, message, now)

    def _received_rare(self, link: Link, message: m.Message) -> None:
        if isinstance(message, m.Request):
            self._requested(link, message)
        elif isinstance(message, m.Reply):
            waiting = link.waiting.pop(message.id, None)
            if callable(waiting):
                waiting(message)
        elif isinstance(message, m.Ping):
            link.send(encode(m.Pong(message.nonce)))
            self.relay.touch(link)
        elif isinstance(message, m.Hello | m.Welcome) and link.role == "node":
            self.peers.greeted(link, message)

    def _requested(self, link: Link, message: m.Request) -> None:
        if message.verb.startswith("store.") and link.role == "node":
            serve(
                self.store,
                message.verb,
                message.params,
                message.blob,
                lambda reply: self._send_now(link, reply._replace(id=message.id)),
            )
        elif message.verb in verbs.AT_ONCE and link.role == "node":
            self._send_now(link, verbs.AT_ONCE[message.verb](self, message))
        elif link.inflight >= MAX_INFLIGHT:
            busy = m.Error(message.id, Code.OVERLOADED, "too many requests in flight")
            link.send(encode(busy))
            self.relay.touch(link)
        else:
            link.inflight += 1
            self.nursery.start_soon(verbs.answer, self, link, message)

    def _send_now(self, link: Link, message: m.Message) -> None:
        link.send(encode(message))
        link.flush()

    # Peers

    def sync_params(self) -> m.Map:
        """What peers hear of this node."""
        return {
            "node": self.name,
            "boot": self.boot,
            "address": self.address,
            "labels": list(self.config.node.labels),
            "containers": [self.workers.used, self.workers.total],
            "sessions": sum(seat.local for seat in self.relay.seats.values()),
            "functions": sorted(self.workers.functions),
            "pointers": [list(pointer) for pointer in self.catalogue.all()],
        }

    def peer_said(self, link: Link, params: m.Map) -> None:
        """A peer described itself."""
        link.info["sync"] = params
        self.router.peer(link.name, [f for f in params.get("functions", []) if isinstance(f, str)])
        for row in params.get("pointers", []):
            if isinstance(row, list) and len(row) == 4:
                pointer = Pointer(*row)
                if self.catalogue.merge(pointer):
                    self.nursery.start_soon(self._follow, pointer, link.name)
        self._announce_routes()

    async def _follow(self, pointer: Pointer, peer: str) -> None:
        """Make a pointer of another node true here."""
        try:
            await self.bundles.save(self.catalogue)
            if not pointer.hash:
                await self.workers.remove(pointer.name)
            else:
                await self._fetch(pointer.hash, peer)
                spec = await self.bundles.spec(pointer.hash)
                if spec is not None:
                    await self._serve_spec(spec)
        except (CallError, ValueError, OSError, StartFailed) as error:
            log.error("cannot follow %s to %s: %s", pointer.name, pointer.hash[:12], error)
        self._announce_routes()
        self.peers.sync_soon()

    async def _fetch(self, hash_: str, peer: str) -> None:
        if await self.bundles.spec(hash_) is not None or hash_ in self._installing:
            return
        self._installing.add(hash_)
        try:
            offset, total = 0, 1
            while offset < total:
                reply = await self.ask_peer(
                    peer, "function.fetch", {"hash": hash_, "offset": offset}
                )
                total = int(reply.result["total"])
                offset = self.bundles.upload(hash_, offset, total, reply.blob or b"")
            await self.bundles.install(hash_)
        finally:
            self._installing.discard(hash_)

    async def ask_peer(self, peer: str | None, verb: str, params: m.Map) -> m.Reply:
        """One verb for another node. Raises CallError."""
        return await self.peers.ask(peer or "", verb, params)

    def _tell(self, effect: fx.Tell, done: Any) -> None:
        link = self.relay.peers.get(effect.node)
        if link is None or link.closed:
            if effect.token:
                self.timers.call_at(trio.current_time(), lambda: done(105, "it is not reachable"))
            return
        serial = next(self.serials)

        def answered(message: m.Reply | m.Error) -> None:
            if isinstance(message, m.Error):
                done(message.code, message.message)
            else:
                done(0, "")

        link.waiting[serial] = answered
        params, blob = effect.params, effect.blob
        if effect.verb == "session.offer":
            # Remembered answers may be larger than anything outside a blob may be.
            blob = pack([blob, params["results"]])
            params = {name: value for name, value in params.items() if name != "results"}
        link.send(encode(m.Request(serial, effect.verb, params, blob)))
        self.relay.touch(link)

    # Functions

    async def _serve_catalogue(self) -> None:
        for hash_ in self.catalogue.deployed().values():
            try:
                spec = await self.bundles.spec(hash_)
                if spec is not None:
                    await self._serve_spec(spec)
            except (ValueError, OSError, StartFailed) as error:
                log.error("function %s cannot be served: %s", hash_[:12], error)
        self._announce_routes()

    async def _serve_spec(self, spec: Spec) -> None:
        if self.config.capacity.containers and self._placed(spec):
            await self.workers.deploy(spec)

    def _placed(self, spec: Spec) -> bool:
        labels = set(self.config.node.labels)
        return all(need in labels for need in spec.manifest.placement.require)

    async def deploy(self, spec: Spec) -> None:
        """An operator deployed `spec` here."""
        await self._serve_spec(spec)
        self.catalogue.point(spec.manifest.name, spec.hash, self.name)
        await self.bundles.save(self.catalogue)
        self._announce_routes()
        await self.peers.sync_all()

    async def remove(self, name: str) -> None:
        """An operator removed `name`."""
        self.catalogue.point(name, "", self.name)
        await self.bundles.save(self.catalogue)
        await self.workers.remove(name)
        self._announce_routes()
        await self.peers.sync_all()

    def _announce_routes(self) -> None:
        self.router.serves(self.workers.functions, self.catalogue.deployed())

    def _log_line(self, function: str, container: str, line: bytes) -> None:
        self.log_serial += 1
        item = {
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "node": self.name,
            "container": container,
            "line": line.decode(errors="replace"),
        }
        kept = self.logs.setdefault(function, deque(maxlen=MAX_LOG_LINES))
        kept.append((self.log_serial, item))
        self.log_changed.set()
        self.log_changed = trio.Event()

    async def _housekeeping(self) -> None:
        while True:
            await trio.sleep(1)
            self.workers.reap_idle(trio.current_time())

    # Sessions

    async def move(self, key: SessionKey, move: str, to: str) -> m.Map:
        """Run one move of a session here and wait for its end. Raises CallError."""
        if key.function not in self.workers.functions:
            raise call_error(Code.NO_CAPACITY, f"{self.name} does not run {key.function}")
        if to and move == "migrate":
            to = f"{to}/{self.peers.boot_of(to)}" if to != self.name else to
        ended, answer = trio.Event(), []

        def asker(code: int, message: str, result: m.Map) -> None:
            answer.append((code, message, result, trio.current_time()))
            ended.set()

        now = trio.current_time()
        move_id = secrets.token_bytes(16)
        seat = self.relay.seat(key)
        self.relay.perform(seat, lambda s: s.want(move, asker, to, move_id, now))
        self.relay.settle()
        with trio.move_on_after(30):
            await ended.wait()
        if not answer:
            raise call_error(Code.DEADLINE_EXCEEDED, "the move did not end in 30 s")
        code, message, result, at = answer[0]
        if code:
            raise call_error(code, message)
        mode = "remote" if move == "externalize" else "local"
        return {
            "function": key.function,
            "session": key.session,
            "mode": mode,
            "node": to.partition("/")[0] or self.name if mode == "local" else None,
            "epoch": seat.epoch,
            "version": seat.version,
            "pause_ms": round((at - result.get("began", at)) * 1000, 3),
            "bytes": result.get("size", 0),
        }

    async def _consent(self, key: SessionKey, step: Any) -> m.Map:
        """Let a session's actor answer another node; its `Done` is the answer."""
        if key.function not in self.workers.functions:
            raise call_error(Code.NO_SUCH_FUNCTION, f"{self.name} does not run {key.function}")
        ended, answer = trio.Event(), []

        def asker(code: int, message: str, result: m.Map) -> None:
            answer.append((code, message))
            ended.set()

        self.relay.perform(self.relay.seat(key), lambda s: step(s, asker))
        self.relay.settle()
        await ended.wait()
        code, message = answer[0]
        if code:
            raise call_error(code, message)
        return {}

    async def invited(self, key: SessionKey, params: m.Map) -> m.Map:
        """A session wants to move here."""
        move, now = bytes(params["move"]), trio.current_time()
        return await self._consent(key, lambda s, asker: s.invited(asker, move, now))

    async def offered(self, key: SessionKey, params: m.Map, blob: bytes | None) -> m.Map:
        """Its state is here, with the answers it remembers."""
        now = trio.current_time()
        try:
            state, results = unpack(blob or b"")
        except (RemoteProtocolError, ValueError, TypeError) as error:
            raise call_error(Code.BAD_REQUEST, f"not a state with its results: {error}") from error
        whole = {**params, "results": results}
        return await self._consent(key, lambda s, asker: s.offered(asker, whole, state, now))

    def committed(self, key: SessionKey, params: m.Map) -> None:
        """The record names this node."""
        seat = self.relay.seats.get(key)
        if seat is not None:
            move = bytes(params["move"])
            self.relay.perform(seat, lambda s: s.committed(move, trio.current_time()))
            self.relay.settle()

    async def stop(self) -> None:
        """Take no new connection and no new call, finish what runs, save local sessions."""
        self.relay.draining = True
        for listener in self._listening:
            trio.lowlevel.notify_closing(listener)
            listener.close()
        for link in list(self.links):
            link.send(encode(m.GoAway("draining", {"brokers": self.peers.brokers()})))
            link.flush()
        while self.relay.busy:  # noqa: ASYNC110 - once, at the end, under the caller's deadline
            await trio.sleep(0.01)
        for key, seat in list(self.relay.seats.items()):
            if seat.local:
                try:
                    await self.move(key, "externalize", "")
                except CallError as error:
                    log.error("%s/%s could not be saved: %s", *key, error)

    # What operators see

    def status(self) -> m.Map:
        """`node.status`."""
        seats = self.relay.seats.values()
        return {
            "name": self.name,
            "address": self.address,
            "mesh": self.config.mesh.name,
            "boot": self.boot,
            "uptime_s": round(trio.current_time() - self._started, 1),
            "insecure": self.config.security.insecure,
            "containers": {"used": self.workers.used, "total": self.workers.total},
            "sessions": {"local": sum(seat.local for seat in seats), "active": len(seats)},
            "functions": len(self.workers.functions),
            "calls": self.relay.served,
            "connections": len(self.links),
            "peers": [row for row in self.nodes() if row["name"] != self.name],
            "store": {"url": self.config.store.url},
        }

    def nodes(self) -> list[m.Map]:
        """`mesh.nodes`."""
        mine = self.sync_params()
        rows = [mine, *(link.info.get("sync", {}) for link in self.relay.peers.values())]
        return [
            {
                "name": row["node"],
                "address": row["address"],
                "state": "alive",
                "labels": row["labels"],
                "containers": {"used": row["containers"][0], "total": row["containers"][1]},
                "sessions": row["sessions"],
            }
            for row in rows
            if row
        ]


def next_boot(data_dir: Path) -> str:
    """A new life of this node: a counter kept on disk, and chance for a disk that was copied."""
    path = data_dir / "boot"
    try:
        count = int(path.read_text())
    except (FileNotFoundError, ValueError):
        count = 0
    write_whole(path, str(count + 1).encode())
    return f"{count + 1:08d}-{os.urandom(4).hex()}"
