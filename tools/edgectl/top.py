"""`edgectl top`: nodes, pools, queues, sessions by mode and the last moves, as a picture that renews itself.

Decides what is shown in how many lines. Refuses to know how it is asked for.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from .render import cell, printable

EVENTS = 8
"""The last moves that are shown."""

BAR = 12
"""Characters of a full bar."""


class Picture(NamedTuple):
    """What the mesh said: rows of `mesh.nodes` and `mesh.load`, items of `mesh.events`."""

    nodes: list[dict[str, Any]]
    load: list[dict[str, Any]]
    events: list[dict[str, Any]]

    def document(self) -> dict[str, Any]:
        """For programs."""
        return self._asdict()


def draw(picture: Picture) -> Group:
    """All of it."""
    return Group(_nodes(picture), _pools(picture.load), _moves(picture.events))


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="left" if column in ("node", "function", "state", "slots") else "right")
    return table


def _nodes(picture: Picture) -> Table:
    table = _table("nodes", "node", "state", "slots", "local", "in use", "calls/s")
    load = {row.get("node"): row for row in picture.load}
    for row in picture.nodes:
        said = load.get(row.get("name"), {})
        rate = sum(pool.get("rate", 0) for pool in _functions(said).values())
        sessions = _map(said.get("sessions"))
        slots = _map(row.get("containers"))
        table.add_row(
            _text(row.get("name")),
            _state(str(row.get("state"))),
            f"{_bar(slots.get('used'), slots.get('total'))} {cell(slots)}",
            cell(sessions.get("local")),
            cell(sessions.get("active")),
            f"{rate / 1000:.1f}",
        )
    return table


def _pools(load: Iterable[Mapping[str, Any]]) -> Table:
    table = _table("pools", "function", "node", "busy", "of", "queued", "service ms", "calls/s")
    rows = [(name, row, pool) for row in load for name, pool in _functions(row).items()]
    for name, row, pool in sorted(rows, key=lambda entry: (entry[0], str(entry[1].get("node")))):
        queued = pool.get("queued", 0)
        table.add_row(
            _text(name),
            _text(row.get("node")),
            cell(pool.get("busy")),
            cell(pool.get("room")),
            Text(cell(queued), style="yellow" if queued else ""),
            f"{pool.get('service_us', 0) / 1000:.2f}",
            f"{pool.get('rate', 0) / 1000:.1f}",
        )
    return table


def _moves(events: list[dict[str, Any]]) -> Text:
    lines = []
    for item in events[-EVENTS:]:
        about = {key: value for key, value in item.items() if key not in ("at", "node", "event")}
        lines.append(f"{item.get('at')}  {item.get('node')}  {item.get('event')}  {cell(about)}")
    return Text("\n".join(map(printable, ["last events", *lines])))


def _functions(row: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    pools = _map(row.get("functions"))
    return {name: pool for name, pool in pools.items() if isinstance(pool, dict)}


def _map(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> Text:
    return Text(printable(str(value)))


def _state(state: str) -> Text:
    return Text(printable(state), style={"alive": "green", "down": "red"}.get(state, "yellow"))


def _bar(used: object, total: object) -> str:
    if not isinstance(used, int) or not isinstance(total, int) or total <= 0:
        return "·" * BAR
    full = min(BAR, -(-used * BAR // total))
    return "█" * full + "·" * (BAR - full)
