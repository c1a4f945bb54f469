"""The state stores (DESIGN §5): which driver a URL of the configuration means."""

from collections.abc import Callable
from pathlib import Path

from edged_protocol.ids import valid_name

from .interface import Store, StoreStatistics, answer_soon, ask
from .mesh import MeshStore, Send, Timers
from .schema import StoreUnusable
from .sqlite import SqliteStore

__all__ = ["Store", "StoreStatistics", "StoreUnusable", "answer_soon", "ask", "open_store"]


def open_store(
    url: str,
    data_dir: Path,
    *,
    reach: Callable[[str], Send],
    timers: Timers,
) -> Store:
    """The store `url` names, opened by its `run`. Raises ValueError for a bad URL.

    `sqlite:` is a file in `data_dir`, `sqlite:PATH` another one; `mesh:NODE` is the store of that node,
    asked through `reach(NODE)`.
    """
    scheme, colon, rest = url.partition(":")
    if scheme == "sqlite" and colon:
        return SqliteStore(data_dir / (rest or "store.db"))
    if scheme == "mesh" and valid_name(rest):
        return MeshStore(reach(rest), timers)
    raise ValueError(f'"{url}" names no store: "sqlite:", "sqlite:PATH" or "mesh:NODE"')
