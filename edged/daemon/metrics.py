"""A node's figures for Prometheus: `/metrics` (DESIGN §9).

Decides their names and labels: one of a function at most, so that there are as many rows as functions, whatever callers send.
All are read when they are asked for, from what the node counts anyway; a call costs nothing for it. Metrics that are
counted up beside each call were the alternative, at a microsecond or two for each. Refuses to know HTTP.
"""

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from .status import state
from .web import Page

if TYPE_CHECKING:
    from .node import Node

STATES = ("alive", "draining", "drained", "stopping")


class Figures(Collector):
    """Of one node."""

    def __init__(self, node: "Node") -> None:
        self._node = node

    def collect(self) -> Iterator[Metric]:
        """All of them, as they are now."""
        yield from self._of_the_node()
        yield from self._of_sessions()
        yield from self._of_functions()
        yield from self._of_the_store()
        yield from self._of_the_mesh()

    def _of_the_node(self) -> Iterator[Metric]:
        node, slots = self._node, self._node.workers.slots
        about = GaugeMetricFamily("edged_node", "1, with who it is.", labels=("node", "mesh", "boot"))
        about.add_metric((node.name, node.config.mesh.name, node.boot), 1)
        yield about
        states, now = GaugeMetricFamily("edged_state", "1 for the state it is in.", labels=("state",)), state(node)
        for one in STATES:
            states.add_metric((one,), one == now)
        yield states
        yield CounterMetricFamily("edged_calls_answered", "Calls answered.", value=node.relay.answers.served)
        yield GaugeMetricFamily("edged_calls_in_hand", "Calls not answered yet.", value=len(node.relay.calls))
        roles = Counter(link.role or "unknown" for link in node.connections.links)
        yield _by("edged_connections", "Open connections.", "role", roles)
        yield GaugeMetricFamily("edged_containers", "Containers that run or start.", value=slots.used)
        yield GaugeMetricFamily("edged_container_slots", "Containers that may run.", value=slots.total)
        used = node.brain.memory_used
        yield GaugeMetricFamily("edged_container_memory_bytes", "Memory of all containers.", value=used)

    def _of_sessions(self) -> Iterator[Metric]:
        seats = self._node.relay.seats.values()
        local = [seat for seat in seats if seat.local]
        yield GaugeMetricFamily("edged_sessions_local", "Local-state sessions here.", value=len(local))
        yield GaugeMetricFamily("edged_sessions_active", "Sessions with something under way here.", value=len(seats))
        unsaved = sum(seat.unsaved for seat in seats)
        yield GaugeMetricFamily("edged_unsaved_calls", "Answered calls that a crash would lose.", value=unsaved)
        frozen = len(self._node.guard.frozen)
        yield GaugeMetricFamily("edged_sessions_frozen", "Sessions whose record went back.", value=frozen)

    def _of_functions(self) -> Iterator[Metric]:
        pools = {name: deployed.pool.statistics() for name, deployed in sorted(self._node.workers.served.functions.items())}
        for name, about in (
            ("containers", "Containers of the function's pool."),
            ("busy", "Containers of the pool that run a call."),
            ("queued", "Calls that wait for a container."),
        ):
            rows = {function: getattr(pool, name) for function, pool in pools.items()}
            yield _by(f"edged_pool_{name}", about, "function", rows)
        service = {function: pool.service for function, pool in pools.items()}
        yield _by("edged_pool_service_seconds", "About what a call of late took.", "function", service)

    def _of_the_store(self) -> Iterator[Metric]:
        store, lease = self._node.store.statistics(), self._node.leasing.core.good
        yield GaugeMetricFamily("edged_store_up", "Whether the store answers.", value=store.problem is None)
        yield CounterMetricFamily("edged_store_operations", "Operations answered.", value=store.operations)
        yield CounterMetricFamily("edged_store_failed", "Operations that failed.", value=store.failed)
        yield GaugeMetricFamily("edged_store_waiting", "Operations under way.", value=store.waiting)
        yield GaugeMetricFamily("edged_store_waiting_bytes", "Their bytes.", value=store.waiting_bytes)
        yield GaugeMetricFamily("edged_lease_good", "Whether the node's lease is good.", value=lease)

    def _of_the_mesh(self) -> Iterator[Metric]:
        gossip = self._node.gossip
        members = Counter(member.status.name.lower() for member in gossip.core.members())
        yield _by("edged_members", "Other nodes, by what is known of them.", "status", members)
        yield GaugeMetricFamily("edged_peers", "Nodes that are connected.", value=len(self._node.relay.peers))
        yield GaugeMetricFamily("edged_gossip_health", "0 (well) to 8.", value=gossip.core.health)


def _by(name: str, about: str, label: str, rows: dict[str, int] | dict[str, float]) -> Metric:
    family = GaugeMetricFamily(name, about, labels=(label,))
    for value, count in sorted(rows.items()):
        family.add_metric((value,), count)
    return family


class Metrics:
    """`page` whenever somebody asks."""

    def __init__(self, node: "Node") -> None:
        self._registry = CollectorRegistry()
        self._registry.register(Figures(node))

    async def page(self) -> Page:
        """The text format."""
        return Page(200, generate_latest(self._registry), CONTENT_TYPE_LATEST)
