"""The state stores (DESIGN §5): which driver a URL of the configuration means."""

from collections.abc import Callable
from pathlib import Path

from edged.core.store_url import MeshUrl, SqliteUrl, parse_store_url

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
    asked through `reach(NODE)`; `redis://…` a Redis or Valkey server.
    """
    parsed = parse_store_url(url)
    if isinstance(parsed, SqliteUrl):
        return SqliteStore(data_dir / (parsed.path or "store.db"))
    if isinstance(parsed, MeshUrl):
        return MeshStore(reach(parsed.node), timers)
    # 17 MiB and 0.1 s: only who asks for it pays.
    from .redis import RedisStore

    return RedisStore(parsed)
