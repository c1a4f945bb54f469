"""The nodes that were part of the mesh, on disk: where to look for it after a restart (DESIGN §6, reliability §2.9).

Decides which are kept: the last that were connected, `MOST` of them. A file that makes no sense is as good as none.
"""

import logging
from pathlib import Path
from typing import Any

import trio

from edged.core.membership import valid_address
from edged_protocol.codec import pack, unpack
from edged_protocol.errors import RemoteProtocolError
from edged_protocol.ids import valid_name

from .bundles import write_whole

log = logging.getLogger(__name__)

MOST = 256
MAX_FILE = 128 * 1024

Row = tuple[str, str]
"""Node and address."""


class Remembered:
    """`load` once, then `keep` whenever somebody is connected."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / "peers"
        self._rows: dict[str, str] = {}

    async def load(self) -> list[Row]:
        """Those of the former life."""
        self._rows = dict(await trio.to_thread.run_sync(self._read))
        return list(self._rows.items())

    def _read(self) -> list[Row]:
        try:
            data = self._path.read_bytes()[: MAX_FILE + 1]
        except FileNotFoundError:
            return []
        except OSError as error:
            log.warning("%s: %s", self._path, error)
            return []
        rows = _rows(data)
        if rows is None:
            log.warning("%s makes no sense and is not used", self._path)
        return rows or []

    async def keep(self, connected: list[Row]) -> None:
        """The latest first; written when there is news. Raises OSError."""
        fresh = {**dict(connected), **{n: a for n, a in self._rows.items() if n not in dict(connected)}}
        fresh = dict(list(fresh.items())[:MOST])
        if fresh.items() != self._rows.items():
            await trio.to_thread.run_sync(write_whole, self._path, pack([*map(list, fresh.items())]))
        self._rows = fresh


def _rows(data: bytes) -> list[Row] | None:
    try:
        rows: Any = unpack(data)
    except (RemoteProtocolError, ValueError, TypeError):
        return None
    return [(row[0], row[1]) for row in rows if is_row(row)] if isinstance(rows, list) else None


def is_row(row: object) -> bool:
    """Whether it is a node and its address."""
    texts = isinstance(row, list) and len(row) == 2 and all(isinstance(text, str) for text in row)
    return texts and valid_name(row[0]) and valid_address(row[1])  # type: ignore[index]
