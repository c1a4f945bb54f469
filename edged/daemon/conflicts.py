"""Superseded copies of sessions, kept on disk until an operator decides (DESIGN §5.3 `keep`, reliability §2.2).

Decides how many are kept and which one goes when there are too many: the oldest, with an event. Each is one file, written
whole and off the loop's thread: a header that is read at every start, then the state. Refuses to know when a copy is
superseded (`core.sessions.aside`), and never merges anything.
"""

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import trio

from edged.core import effects as fx
from edged.core.records import Entry, SessionKey
from edged_protocol.codec import pack, unpack
from edged_protocol.errors import Code, RemoteProtocolError, call_error

from .bundles import write_whole

log = logging.getLogger(__name__)

MAX_COPIES = 256
MAX_BYTES = 256 * 1024 * 1024
"""Of all copies of a node: what an SD card can spare."""

MAX_WAITING = 32
"""Copies on their way to the disk; they come when a partition heals, all at once."""

MAX_HEADER = 1024 * 1024
"""The remembered results are 256 KiB at most."""


class Copy(NamedTuple):
    """One that is kept; the store had `stored` of its `version` when it was superseded."""

    id: str
    key: SessionKey
    epoch: int
    version: int
    stored: int
    at: str
    size: int


class Conflicts:
    """`keep` from anywhere on the loop; `run` writes. Raises CallError for an id that is not there."""

    def __init__(self, node: str, data_dir: Path, note: Callable[..., None]) -> None:
        self._node = node
        self._root = data_dir / "conflicts"
        self._note = note
        self._disk = trio.CapacityLimiter(1)
        self._copies: dict[str, Copy] = {}
        self._send, self._receive = trio.open_memory_channel[tuple[Copy, bytes]](MAX_WAITING)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Read what is there, then write what comes."""
        found = await trio.to_thread.run_sync(_read_all, self._root, self._node, limiter=self._disk)
        self._copies = {copy.id: copy for copy in found}
        task_status.started()
        async for copy, data in self._receive:
            try:
                await self._write(copy, data)
            except OSError as error:
                self._lost(copy, str(error))

    async def _write(self, copy: Copy, data: bytes) -> None:
        await trio.to_thread.run_sync(write_whole, self._path(copy.id), data, limiter=self._disk)
        self._copies[copy.id] = copy
        self._note("session.set_aside", id=copy.id, **_about(copy))
        await self._bound()

    async def _bound(self) -> None:
        copies = sorted(self._copies.values(), key=lambda copy: copy.at)
        while len(copies) > MAX_COPIES or (len(copies) > 1 and sum(c.size for c in copies) > MAX_BYTES):
            oldest = copies.pop(0)
            await self.discard(oldest.id)
            self._lost(oldest, "there are too many")

    def _lost(self, copy: Copy, reason: str) -> None:
        log.error("%s/%s: its superseded copy is not kept: %s", *copy.key, reason)
        self._note("session.copy_lost", reason=reason, **_about(copy))

    def keep(self, key: SessionKey, aside: fx.Aside) -> None:
        """Set a superseded copy aside."""
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        header = pack([*key, *aside[:3], at, [list(entry) for entry in aside.results], aside.schema])
        data = len(header).to_bytes(4) + header + aside.state
        number = blake2b(data, digest_size=6).hexdigest()
        copy = Copy(f"{self._node}:{number}", key, *aside[:3], at, len(data))
        try:
            self._send.send_nowait((copy, data))
        except trio.WouldBlock:
            self._lost(copy, f"{MAX_WAITING} others are on their way to the disk")

    def copies(self, function: str | None) -> list[Copy]:
        """Those of all functions, or of one; the oldest first."""
        found = (copy for copy in self._copies.values() if function in (None, copy.key.function))
        return sorted(found, key=lambda copy: copy.at)

    async def read(self, id_: str) -> tuple[Copy, fx.Aside]:
        """One copy with its state."""
        copy = self._found(id_)
        header, state = await trio.to_thread.run_sync(_read, self._path(id_), limiter=self._disk)
        results = tuple(Entry(*entry) for entry in header[6])
        return copy, fx.Aside(copy.epoch, copy.version, copy.stored, state, results, *header[7:8])

    async def discard(self, id_: str) -> Copy:
        """Forget one."""
        copy = self._found(id_)
        await trio.to_thread.run_sync(self._path(id_).unlink, True, limiter=self._disk)
        self._copies.pop(id_, None)
        return copy

    def _found(self, id_: str) -> Copy:
        copy = self._copies.get(id_)
        if copy is None:
            raise call_error(Code.BAD_REQUEST, f"no superseded copy {id_}", {"not_found": True})
        return copy

    def _path(self, id_: str) -> Path:
        return self._root / (id_.rpartition(":")[2] + ".copy")


def _about(copy: Copy) -> dict[str, Any]:
    function, session = copy.key
    return {"function": function, "session": session, "epoch": copy.epoch, "version": copy.version}


def _read_all(root: Path, node: str) -> list[Copy]:
    """What is kept; a file that is not one of ours is left alone, and said."""
    root.mkdir(parents=True, exist_ok=True)
    found: list[Copy] = []
    for path in sorted(root.glob("*.copy")):
        try:
            header, _ = _read(path, with_state=False)
            function, session, epoch, version, stored, at, _results = header[:7]  # older ones say no schema
        except (OSError, RemoteProtocolError, ValueError, TypeError) as error:
            log.warning("%s is no superseded copy: %s", path, error)
            continue
        key, size = SessionKey(function, session), path.stat().st_size
        found.append(Copy(f"{node}:{path.stem}", key, epoch, version, stored, at, size))
    return found


def _read(path: Path, with_state: bool = True) -> tuple[list[Any], bytes]:
    with path.open("rb") as file:
        size = int.from_bytes(file.read(4))
        if size > MAX_HEADER:
            raise ValueError("its header is too long")
        header = unpack(file.read(size))
        return header, file.read() if with_state else b""
