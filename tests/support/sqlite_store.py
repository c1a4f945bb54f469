"""Writes to a store in a file, and whether the file has those that were acknowledged."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edged.core.records import Entry, Load, Loaded, SessionKey, Write
from edged.daemon.stores.database import Database


def write(session: str, version: int, durable: bool = False, state: bytes = b"s") -> Write:
    """The commit of `version` on top of the one before, with one result."""
    call = Entry(version.to_bytes(16, "big"), 0, b"", version)
    epoch = 1 if version > 1 else 0
    rest = (1, version, "remote", None, None, None, state, (call,), 8, 4096, durable)
    return Write(SessionKey("f", session), epoch, version - 1, *rest)  # type: ignore[arg-type]


def check_acknowledged(directory: Path, acknowledged: Sequence[Sequence[Any]]) -> None:
    """Every acknowledged write is in the file, with the result it brought."""
    highest: dict[str, int] = {}
    for session, version in acknowledged:
        highest[session] = max(version, highest.get(session, 0))
    assert highest
    database = Database(directory / "store.db")
    for session, version in highest.items():
        outcome = database.apply([Load(SessionKey("f", session))])[0]
        assert isinstance(outcome, Loaded)
        assert outcome.record is not None
        assert outcome.record.version >= version
        assert [e.version for e in outcome.results][-1] == outcome.record.version
    database.close()
