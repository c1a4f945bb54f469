"""Figures and health of real nodes over HTTP, as `edged dev` says where they are."""

import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from support.dev_mesh import dev_mesh
from support.nodes import COUNTER, edgectl, until
from support.wire_client import WireClient


def got(address: str, path: str) -> tuple[int, str]:
    """Status and text."""
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def figures(address: str) -> dict[tuple[str, ...], float]:
    """By name and label values, as Prometheus would read them."""
    status, text = got(address, "/metrics")
    assert status == 200
    families = text_string_to_metric_families(text)
    return {(row.name, *row.labels.values()): row.value for family in families for row in family.samples}


def test_nodes_tell_their_figures_and_whether_they_are_ready(tmp_path: Path) -> None:
    """Calls and sessions are counted, a drained node is not ready and lives, and what is not there is 404."""
    with dev_mesh(2, data=tmp_path) as nodes, closing(WireClient(nodes[0]["address"], "operator")) as operator:
        first, second = (node["http"] for node in nodes)
        assert all(address.startswith("127.0.0.1:") for address in (first, second))
        operator.deploy(COUNTER)
        until(lambda: got(first, "/readyz") == (200, "ready\n"))
        operator.request("session.localize", {"function": "counter", "session": "here", "to": "dev-1"})
        before = figures(first)
        with closing(WireClient(nodes[0]["address"])) as client:
            for _ in range(5):
                client.call("counter", "here", "incr")
        calls, seen = ("edged_calls_answered_total",), figures(first)
        assert seen[calls] >= before[calls] + 5
        assert ("edged_pool_queued", "counter") in seen
        names = ("edged_sessions_local", "edged_store_up", "edged_lease_good", "edged_peers")
        until(lambda: [figures(first)[name,] for name in names] == [1, 1, 1, 1])
        assert [figures(first)["edged_state", state] for state in ("alive", "drained")] == [1, 0]
        edgectl(nodes[0]["address"], "drain", "dev-2")
        until(lambda: got(second, "/readyz") == (503, "the node is drained\n"))
        assert got(second, "/healthz") == (200, "ok\n")
        assert got(second, "/")[0] == 404
