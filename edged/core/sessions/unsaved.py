"""The changes of a local session that the store does not have yet (DESIGN §5.4).

Decides what the next write of the session carries, and what the store has when a write's outcome was not
told. Every change has a mark, one higher than the last; a write always carries all changes up to a mark.
Bounded like the window: a session may go for hours without a checkpoint.
"""

from collections import deque
from typing import Any, NamedTuple

from ..records import MAX_ASK, Entry


class Change(NamedTuple):
    """What one call did: the version it led to, and its entry. Calls without an id share one change."""

    mark: int
    version: int
    entry: Entry | None


class Unsaved:
    """Changes up to `mark` were made, those up to `saved` are in the store."""

    def __init__(self, keep: int) -> None:
        self._changes: deque[Change] = deque()
        # One more than the store keeps, so that it too learns that something was forgotten.
        self._room = self._most = keep + 1
        self.mark = 0
        self.saved = 0

    @property
    def all_saved(self) -> bool:
        """Whether the store has everything."""
        return self.saved == self.mark

    def note(self, version: int, entry: Entry | None) -> None:
        """A call changed something; if only that it has an outcome now."""
        self.mark += 1
        changes = self._changes
        if entry is not None:
            self._room -= 1
        elif changes and changes[-1].entry is None:
            changes.pop()
        changes.append(Change(self.mark, version, entry))
        while self._room < 0:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        self._room += self._changes.popleft().entry is not None

    def entries(self) -> tuple[Entry, ...]:
        """The outcomes that the next write carries."""
        return tuple(change.entry for change in self._changes if change.entry is not None)

    def listed(self) -> list[list[Any]]:
        """All changes the store does not have, for another owner."""
        return [[change.version, change.entry and list(change.entry)] for change in self._changes]

    def ids(self) -> tuple[bytes, ...]:
        """The call ids to ask for, to learn what the store has."""
        return tuple(entry.call_id for entry in self.entries()[-MAX_ASK:])

    def save(self, mark: int) -> None:
        """The store has everything up to `mark`."""
        self.saved = mark
        while self._changes and self._changes[0].mark <= mark:
            self._drop_oldest()

    def found(self, version: int, entries: tuple[Entry, ...]) -> None:
        """The store has `version`, and of the ids asked for these: an earlier write was applied after all."""
        known = {entry.call_id: entry for entry in entries}
        covered = self.saved
        for number, (mark, reached, entry) in enumerate(self._changes):
            theirs = known.get(entry.call_id) if entry is not None else None
            if theirs is not None and entry != theirs:
                # An older outcome of that id, long forgotten here, would have every write refused.
                self._changes[number] = Change(mark, reached, None)
                self._room += 1
            elif theirs is not None or (reached <= version and (entry is None or entry.code == 0)):
                covered = mark
        self.save(covered)

    def clear(self) -> None:
        """Nothing is known of any change."""
        self._changes.clear()
        self._room = self._most
        self.saved = self.mark
