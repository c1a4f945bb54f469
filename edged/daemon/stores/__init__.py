"""The state store as the daemon sees it (DESIGN §5): one interface, a driver per kind of store.

Decides which driver a URL means. Refuses to know what is stored and why.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import trio

from edged.core.records import Op, Outcome

from .mesh import MeshStore, Send, Timers
from .schema import StoreUnusable
from .sqlite import SqliteStore

Done = Callable[[Outcome], None]


@dataclass(frozen=True, slots=True)
class StoreStatistics:
    """What the operator sees of a store; `problem` is why it answers nothing any more."""

    driver: str
    problem: str | None
    waiting: int
    waiting_bytes: int
    operations: int
    failed: int
    commits: int
    slowest: float
