"""Superseded copies on disk: whole, bounded, there again after a restart."""

from pathlib import Path
from typing import Any

import pytest
import trio

from edged.core import effects as fx
from edged.core.records import Entry, SessionKey
from edged.daemon import conflicts as module
from edged.daemon.conflicts import Conflicts
from edged_protocol.errors import CallError

KEY = SessionKey("counter", "arm-7")
ENTRY = Entry(bytes(16), 0, b"\x07", 7)


class Desk:
    """A node's copies, and what was noted of them."""

    def __init__(self, root: Path) -> None:
        self.noted: list[str] = []
        self.conflicts = Conflicts("n1", root, self._note)
        self._more = trio.Event()

    def _note(self, event: str, **about: Any) -> None:
        self.noted.append(event)
        self._more.set()
        self._more = trio.Event()

    def events(self, name: str) -> int:
        return self.noted.count(name)

    async def until(self, name: str, count: int) -> None:
        """Wait until something has happened so often."""
        with trio.fail_after(60):
            while self.events(name) < count:
                await self._more.wait()


async def kept(desk: Desk, count: int) -> None:
    """Wait until so many were written."""
    await desk.until("session.set_aside", count)


def copy(version: int, state: bytes = b"state") -> fx.Aside:
    return fx.Aside(3, version, 2, state, (ENTRY,))


async def test_a_copy_is_there_again_after_a_restart(tmp_path: Path, nursery: trio.Nursery) -> None:
    """Its state, what it remembers and how far the store was; a discarded one is gone."""
    first = Desk(tmp_path)
    await nursery.start(first.conflicts.run)
    first.conflicts.keep(KEY, copy(7, b"x" * 100_000))
    first.conflicts.keep(SessionKey("other", "s"), copy(1))
    await kept(first, 2)
    second = Desk(tmp_path)
    await nursery.start(second.conflicts.run)
    [row] = second.conflicts.copies("counter")
    assert (row.key, row.epoch, row.version, row.stored) == (KEY, 3, 7, 2)
    assert row.id.startswith("n1:")
    _, found = await second.conflicts.read(row.id)
    assert found == copy(7, b"x" * 100_000)
    await second.conflicts.discard(row.id)
    assert [row.key.function for row in second.conflicts.copies(None)] == ["other"]
    with pytest.raises(CallError, match="no superseded copy"):
        await second.conflicts.read(row.id)


async def test_copies_are_bounded_and_the_oldest_goes_with_an_event(
    tmp_path: Path, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither their number nor their bytes grow without end."""
    monkeypatch.setattr(module, "MAX_COPIES", 3)
    desk = Desk(tmp_path)
    await nursery.start(desk.conflicts.run)
    for version in range(5):
        desk.conflicts.keep(KEY, copy(version))
        await kept(desk, version + 1)
    await desk.until("session.copy_lost", 2)
    assert len(desk.conflicts.copies(None)) == 3
    assert len(list((tmp_path / "conflicts").glob("*.copy"))) == 3
    assert desk.conflicts.copies(None)[-1].version == 4


async def test_more_at_once_than_the_disk_takes_are_told_as_lost(tmp_path: Path, nursery: trio.Nursery) -> None:
    """A queue that is full refuses the newest, and says so; nothing waits without bound."""
    desk = Desk(tmp_path)
    for version in range(module.MAX_WAITING + 5):
        desk.conflicts.keep(KEY, copy(version))
    assert desk.events("session.copy_lost") == 5
    await nursery.start(desk.conflicts.run)
    await kept(desk, module.MAX_WAITING)
    assert len(desk.conflicts.copies(None)) == module.MAX_WAITING


@pytest.mark.parametrize("content", [b"", b"\0\0", b"\xff\xff\xff\xff", b"\0\0\0\x02\xc1\xc1", b"\0\0\0\x01\x90"])
async def test_a_file_that_is_no_copy_is_left_alone(tmp_path: Path, nursery: trio.Nursery, content: bytes) -> None:
    """A damaged one keeps neither the node from starting nor the others from being listed."""
    (tmp_path / "conflicts").mkdir()
    (tmp_path / "conflicts" / "abc.copy").write_bytes(content)
    desk = Desk(tmp_path)
    await nursery.start(desk.conflicts.run)
    assert desk.conflicts.copies(None) == []
    assert (tmp_path / "conflicts" / "abc.copy").exists()
