"""One node: everything put together, and the tree of tasks (DESIGN §2, §3).

`run` owns every long-lived task. Connections are served in tasks that contain their own failures: a
hostile peer, a dead container or a broken bundle never reaches this nursery.
"""

import itertools
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from edged.config import Config
from edged.core.leases import Leases
from edged.core.regression import Guard, Regression
from edged.core.routing import Router
from edged_protocol import messages as m

from . import frozen_verbs, status
from .alarms import AlarmClock
from .brain import Brain
from .breakpoints import breakpoints
from .bundles import Bundles, write_whole
from .cgroups import Cgroups
from .claiming import Claiming
from .conflicts import Conflicts
from .connections import Connections
from .deadlines import Deadlines
from .deployments import Deployments
from .discovery import Discovery
from .drain import Drain
from .emptying import Emptying
from .events import Events
from .expiring import Expiring
from .fence import Fence
from .following import Follower
from .giving_way import GivingWay
from .gossip import Gossip
from .guarded_store import GuardedStore
from .host import Host
from .hub import Hub
from .idling import Idling
from .kept_logs import KeptLogs
from .leasing import Leasing
from .link import Link
from .listeners import Listeners
from .lives import past_of
from .locations import Locations
from .mesh_streams import Followed
from .moves import Moves
from .nested import Nested
from .peers import Peers
from .relay import Relay
from .renewal import Renewal
from .seating import Seating
from .spread import Spread
from .stopping import Stopping
from .stores import open_store
from .stores.schema import lock
from .timers import Timers
from .watched_store import WatchedStore
from .workers import Workers

if TYPE_CHECKING:
    from .web import Web


class Node:
    """A broker and worker host. `run` serves until it is cancelled."""

    boot: str
    store: WatchedStore
    claiming: Claiming
    relay: Relay
    seating: Seating
    spread: Spread
    workers: Workers
    deployments: Deployments
    moves: Moves
    connections: Connections
    deadlines: Deadlines
    alarms: AlarmClock
    drain: Drain
    gossip: Gossip
    brain: Brain
    giving_way: GivingWay
    leasing: Leasing
    conflicts: Conflicts
    fence: Fence

    def __init__(self, config: Config, hub: Hub | None = None) -> None:
        self.config = config
        self.hub = hub or Hub()
        self.name = config.node.name
        self.data_dir = Path(config.node.data_dir).absolute()  # containers work elsewhere
        self.serials = itertools.count(1 << 16)
        self.timers = Timers()
        self.router = Router(self.name)
        self.guard = Guard()
        self.logs = KeptLogs(self.name)
        self.events = Events(self.name)
        self.followed: Followed = set()
        self.cgroups = Cgroups()
        self.host = Host(self.logs.keep, self.cgroups)
        self.bundles = Bundles(self.data_dir)
        self.listeners = Listeners(config.listen, self.data_dir)
        self.peers = Peers(self)
        self.started = 0.0
        self.http = ""
        """Where it tells its figures, if it does."""

    @property
    def address(self) -> str:
        """Where others find it, once it serves."""
        return self.listeners.address

    @property
    def admin(self) -> str:
        """The path of its admin socket."""
        return self.listeners.admin

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve. Started when the listeners accept and the store is open."""
        self.started = trio.current_time()
        alone, self.boot, past = await trio.to_thread.run_sync(_claimed, self.data_dir)
        self.claiming = Claiming(self.config, self.data_dir, self.boot, past)
        web = None
        try:
            async with trio.open_nursery() as nursery:
                await self._claim_name(nursery)
                web = _web(self)
                await self.cgroups.open()
                self.listeners.open()
                self._assemble(nursery)
                await self._serve(nursery)
                if web is not None:
                    self.http = web.address
                    nursery.start_soon(web.run)
                task_status.started()
        finally:
            self.listeners.close()
            if web is not None:
                web.close()
            self.cgroups.close()
            os.close(alone)

    async def _claim_name(self, nursery: trio.Nursery) -> None:
        """Open the store, and be known to nobody before the name is this node's. Raises NameTaken, StoreUnusable."""
        sender, url = self.peers.store_sender, self.config.store.url
        store = open_store(url, self.data_dir, reach=sender, timers=self.timers)
        self.store = WatchedStore(GuardedStore(store, self.guard, self._frozen))
        nursery.start_soon(self.timers.run)
        await nursery.start(self.store.run)
        await self.claiming.begin(self.store)

    def _assemble(self, nursery: trio.Nursery) -> None:
        """Make what needs the boot and the address; nothing of it runs yet."""
        self.relay = Relay(self.name, self.router, self.serials)
        leases = Leases(self.name, self.boot, self.config.mesh.lease)
        self.seating = Seating(self.name, leases, self.relay, self.store, self.timers, self.serials)
        self.relay.seating = self.seating
        self.relay.frozen = self.guard.frozen
        self.fence = Fence(self.relay)
        self.leasing = Leasing(leases, self.store, self.claiming, self.fence.ended, self.fence.good_again)
        self.seating.look_at_lease = self.leasing.look
        self.conflicts = Conflicts(self.name, self.data_dir, self.events.note)
        self.seating.set_aside = self.conflicts.keep
        self.workers = self.relay.workers = self._workers()
        self.relay.entrance.served = self.workers.served
        self.relay.answers.figures = self.workers.figures
        self.spread = self.relay.spread = self.relay.answers.spread = Spread(self.name, self.router, self.workers, self.relay.seats)
        self.relay.explain = partial(status.placement, self)
        self.moves = Moves(
            self.name, self.relay, self.workers, self.peers, self.timers, self.serials
        )
        self.seating.tell = self.moves.tell
        self.seating.note = self.events.note
        self.seating.reached = breakpoints()
        self.moves.lease = self.leasing.wait
        labels = self.config.node.labels
        self.deployments = Deployments(
            self.name, labels, self.bundles, self.workers, self.router, self.peers, self.spread.balancer
        )
        emptying = Emptying(self.relay, self.moves, self.peers)
        self.drain = Drain(emptying, self.deployments.rest, self.events.note)
        self.gossip = Gossip(self)
        self.brain = Brain(self, self.relay.measuring.ledger)
        self.relay.measuring.grants = self.brain.grants
        self.alarms = AlarmClock(self.name, self.relay, self.store, self.timers)
        self.seating.alarm_due = self.alarms.due
        self.deadlines = Deadlines(self.relay, self.workers)
        self.hub.settle, self.hub.sweep, self.hub.in_flight = self.relay.settle, self.deadlines.sweep, self.relay.calls
        self.workers.nested = Nested(self.relay, self.workers, self.deadlines)
        self.giving_way = GivingWay(self.relay, self.workers, self.moves, self.brain.keeps_local, self.events.note)
        self.workers.slot_wanted = self.giving_way.wanted
        self.connections = Connections(self, self.relay, self.hub, nursery)
        self.hub.returned = self.connections.returned

    def _workers(self) -> Workers:
        return Workers(
            self.host,
            self.config.capacity.containers,
            self.config.capacity.memory,
            {"mesh": self.config.mesh.name, "node": self.name},
            self.serials,
            self.relay.touch,
            self.relay.answers.worker_answers,
            self.relay.call_lost,
            self.seating.container_lost,
            self.relay.settle,
            self.hub,
        )

    async def _serve(self, nursery: trio.Nursery) -> None:
        """Start the tasks: what others need first, the outside world last."""
        nursery.start_soon(self.hub.run)
        await nursery.start(self.conflicts.run)
        if self.claiming.far:
            nursery.start_soon(self.leasing.run)  # no peer is there yet to ask
        else:
            await nursery.start(self.leasing.run)
        await nursery.start(self.host.run)
        await nursery.start(self.workers.run)
        await nursery.start(self.deployments.run)
        await nursery.start(self.drain.run)
        await nursery.start(self.gossip.run)
        nursery.start_soon(self.alarms.run)
        nursery.start_soon(self.connections.keep_alive)
        nursery.start_soon(self._housekeeping)
        nursery.start_soon(self.brain.run)
        nursery.start_soon(self.giving_way.run)
        nursery.start_soon(Idling(self.relay, self.workers, self.moves, self.brain.held).run)
        nursery.start_soon(Expiring(self).run)
        nursery.start_soon(Renewal(self.relay, self.workers, self.moves).run)
        nursery.start_soon(Follower(self.relay, self.moves, self.peers, self.events.note).run)
        nursery.start_soon(Locations(self.relay, self.router, self.peers, self.fence.epoch_seen).run)
        nursery.start_soon(self.listeners.accept, self.connections.take)
        nursery.start_soon(self.peers.run)
        if "mdns" in self.config.mesh.discovery:
            names = self.config.mesh.name, self.name
            nursery.start_soon(Discovery(*names, self.listeners.bound, self.peers.heard).run)

    async def _housekeeping(self) -> None:
        while True:
            await trio.sleep(1)
            self.workers.look_after(trio.current_time())
            self.gossip.tell(status.body(self))

    def _frozen(self, found: Regression) -> None:
        """Calls are told at `Relay`; who looks after the mesh, and the other nodes, here."""
        self.events.note("session.frozen", **frozen_verbs.found(found))
        self.peers.tell("session.freeze", frozen_verbs.found(found))

    def introduction(self) -> m.Map:
        """What peers hear of this node."""
        return status.introduction(self)

    def peer_said(self, link: Link, params: m.Map, pointers: bytes) -> None:
        """A peer introduced itself. Raises CallError for what is no introduction."""
        self.peers.introduced(link, params)
        self.deployments.told(link.name, pointers)

    async def stop(self) -> None:
        """Take no new connection and no new call, finish what runs, save local sessions.

        Cancelled when that takes too long, it logs what could not be saved.
        """
        self.relay.entrance.draining = True
        self.listeners.close()
        self.connections.send_away()
        self.peers.sync_soon()
        await Stopping(self.relay, self.workers, self.moves, self.peers).finish()
        await self.workers.stop()
        self.gossip.leave()
        await self.connections.emptied()


def _web(node: Node) -> "Web | None":
    """Its HTTP listener, if it has one. Raises OSError."""
    if not node.config.listen.http:
        return None
    # 3 MiB and 0.05 s: only who asks for it pays.
    from .health import healthz, readyz
    from .metrics import Metrics
    from .web import Show, Web

    pages: dict[str, Show] = {"/healthz": healthz, "/readyz": partial(readyz, node), "/metrics": Metrics(node).page}
    return Web(node.config.listen.http, pages)


def _claimed(data_dir: Path) -> tuple[int, str, frozenset[str]]:
    """Its lock, this life's boot and those that may have left a lease, before anything else is begun. Whatever the node's store is: two processes would be one
    node with two boots, and write the same files. Raises StoreInUse, OSError."""
    alone = -1
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        alone = lock(data_dir, "lock")
        return alone, next_boot(data_dir), past_of(data_dir)
    except OSError as error:
        if alone >= 0:
            os.close(alone)
        raise OSError(f"[node] data_dir: nothing can be kept in {data_dir}: {error.strerror}") from error


def next_boot(data_dir: Path) -> str:
    """A new life of this node: a counter kept on disk, and chance for a disk that was copied."""
    path = data_dir / "boot"
    try:
        count = int(path.read_text())
    except (FileNotFoundError, ValueError):
        count = 0
    write_whole(path, str(count + 1).encode())
    return f"{count + 1:08d}-{os.urandom(4).hex()}"
