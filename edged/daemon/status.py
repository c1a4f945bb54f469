"""What a node says of itself, to operators and to its peers (DESIGN §6, §9).

Decides which figures are shown. Refuses to know how they come about.
"""

from typing import TYPE_CHECKING

import trio

from edged.core.balancing import MAX_FIGURES
from edged.core.balancing import loads as figures_of
from edged.core.membership import MAX_BODY, Status
from edged.core.placement import Place, why_not
from edged.core.records import MAX_PAGE, Listed, ListSessions
from edged.core.store_url import shown
from edged_protocol import messages as m
from edged_protocol.codec import pack, unpack
from edged_protocol.errors import RemoteProtocolError

if TYPE_CHECKING:
    from .node import Node


def introduction(node: "Node") -> m.Map:
    """`node.sync`: what peers hear of this node. One that is stopping runs nothing for them any more."""
    workers = node.workers
    return {
        "node": node.name,
        "boot": node.boot,
        "address": node.gossip.core.record.address,
        "labels": list(node.config.node.labels),
        "containers": [workers.slots.used, workers.slots.total],
        "memory": [workers.slots.promised, workers.slots.memory],
        "places": workers.own.free(),
        "sessions": _local(node),
        "functions": [] if node.relay.draining else workers.offered,
        "state": state(node),
        "followed": node.deployments.followed,
    }


def body(node: "Node") -> bytes:
    """What the gossiped record says of this node: labels, slots, sessions, and of its busiest functions the
    figures, as many as fit."""
    workers = node.workers
    rows = {name: row for name in workers.offered if (row := workers.figures(name)) is not None}
    busiest = sorted(rows, key=lambda name: rows[name][4], reverse=True)[:MAX_FIGURES]
    said: m.Map = {
        "labels": list(node.config.node.labels),
        "containers": [workers.slots.used, workers.slots.total],
        "sessions": [_local(node), len(node.relay.seats)],
        "state": state(node),
        "functions": {name: rows[name] for name in busiest},
        **node.brain.told(),
    }
    while len(packed := pack(said)) > MAX_BODY and (fullest := max(_tables(said), key=len, default=None)):
        fullest.popitem()
    return packed if len(packed) <= MAX_BODY else b""


def _tables(said: m.Map) -> list[m.Map]:
    """What may be left out where it does not fit, a row at a time."""
    return [said[name] for name in ("functions", "sessions_of") if said.get(name)]


def loads(node: "Node") -> list[m.Map]:
    """`mesh.load`: what each node that is there says of its functions and sessions in its record."""
    said = [(node.name, body_of(body(node)))]
    said += [(one.record.node, body_of(one.record.body)) for one in node.gossip.core.members() if one.here]
    return [_load(name, about) for name, about in sorted(said)]


def _load(name: str, about: m.Map) -> m.Map:
    pools = {function: load._asdict() for function, load in figures_of(about.get("functions"), MAX_FIGURES).items()}
    counts = about.get("sessions")
    two = isinstance(counts, list) and [type(count) for count in counts] == [int, int]
    sessions = dict(zip(("local", "active"), counts if two and counts else (0, 0), strict=True))
    return {"node": name, "functions": pools, "sessions": sessions}


def body_of(packed: bytes) -> m.Map:
    """What a node says of itself in its record; nothing when that makes no sense."""
    try:
        said = unpack(packed) if packed else {}
    except (RemoteProtocolError, ValueError, TypeError):
        return {}
    return said if isinstance(said, dict) else {}


def placement(node: "Node", function: str) -> list[m.Map]:
    """Which rule keeps `function` off which node."""
    require, memory = node.deployments.required(function)
    said = [introduction(node), *(link.info.get("sync") for link in node.relay.peers.values())]
    known = {row["node"]: row for row in said if row}
    places = [_place(node.name, "alive", known[node.name])]
    for member in node.gossip.core.members():
        name = member.record.node
        places.append(_place(name, member.status.name.lower(), known.get(name)))
    rules = [{"node": place.node, "rule": why_not(require, place, memory)} for place in places]
    return [row if row["rule"] else {**row, "rule": "it does not serve it yet"} for row in rules]


def _place(name: str, status: str, row: m.Map | None) -> Place:
    if row is None:
        return Place(name, status, "", (), 0)
    return Place(name, status, row["state"], tuple(row["labels"]), row["containers"][1], _promised(row)["total"])


def state(node: "Node") -> str:
    """`alive`; `draining` while sessions are here that have to leave, `drained` when none is left."""
    if node.relay.draining:
        return "stopping"
    if not node.workers.resting:
        return "alive"
    return "draining" if node.drain.left() else "drained"


def _local(node: "Node") -> int:
    return sum(seat.local for seat in node.relay.seats.values())


def nodes(node: "Node") -> list[m.Map]:
    """`mesh.nodes`: this node, then the others by name, as gossip sees them and as they introduced themselves."""
    said = {name: link.info.get("sync") for name, link in node.relay.peers.items()}
    rows = [_row(introduction(node))]
    for member in sorted(node.gossip.core.members(), key=lambda member: member.record.node):
        name = member.record.node
        row = _row(said.get(name) or _unconnected(name, member.record.address))
        rows.append(row if member.status is Status.ALIVE else {**row, "state": member.status.name.lower()})
    return rows


def _unconnected(name: str, address: str) -> m.Map:
    """What is known of a node that has not introduced itself, or has gone."""
    unknown = {"labels": [], "containers": [0, 0], "sessions": 0, "state": "unconnected"}
    return {"node": name, "address": address, **unknown}


def _promised(said: m.Map) -> m.Map:
    """Bytes promised to containers; older nodes do not say it."""
    used, total = said.get("memory") or (0, 0)
    return {"used": used, "total": total}


def _row(said: m.Map) -> m.Map:
    return {
        "name": said["node"],
        "address": said["address"],
        "state": said["state"],
        "labels": said["labels"],
        "containers": {"used": said["containers"][0], "total": said["containers"][1]},
        "memory": _promised(said),
        "sessions": said["sessions"],
    }


async def status(node: "Node") -> m.Map:
    """`node.status`. Remote-state sessions belong to no node: counted in the store, as far as one page goes."""
    outcome, trouble = await node.store.probe(ListSessions(limit=MAX_PAGE))
    rows = outcome.rows if isinstance(outcome, Listed) else None
    store = node.store.statistics()
    return {
        "name": node.name,
        "address": node.gossip.core.record.address,
        "mesh": node.config.mesh.name,
        "boot": node.boot,
        "state": state(node),
        "uptime_s": round(trio.current_time() - node.started, 1),
        "insecure": node.config.security.insecure,
        "containers": {"used": node.workers.slots.used, "total": node.workers.slots.total},
        "memory": {"used": node.workers.slots.promised, "total": node.workers.slots.memory},
        "cpu_limit": "enforced" if not node.cgroups.trouble else f"no effect: {node.cgroups.trouble}",
        "sessions": {
            "local": _local(node),
            "active": len(node.relay.seats),
            "remote": None if rows is None else sum(row.mode == "remote" and not row.ended for _, row in rows),
            "more": rows is not None and len(rows) == MAX_PAGE,
        },
        "functions": len(node.workers.served.functions),
        "calls": node.relay.answers.served,
        "connections": len(node.connections.links),
        "gossip": {
            "health": node.gossip.core.health,
            "refused": node.gossip.refused,
            "deaf": node.gossip.deaf,
        },
        "lease": {"good": node.leasing.core.good, "lost": sorted(node.leasing.core.lost)},
        "peers": [row for row in nodes(node) if row["name"] != node.name],
        "store": {
            "url": shown(node.config.store.url),
            "driver": store.driver,
            "ok": trouble is None,
            "state": "ok" if trouble is None else f"failing: {trouble}",
            "durability": store.durability,
        },
    }
