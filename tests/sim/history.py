"""What must hold, whatever happened: checked while it happens, from outside the sessions.

The state of the session is the list of the calls that took effect in it, two bytes each, so that every
copy of it tells its whole past: a call in it twice took effect twice, and its length is its version.
"""

from typing import Any

from edged.core.effects import Answer
from edged.core.records import Record

TOKEN = 2


def tokens(state: bytes | None) -> list[bytes]:
    """The calls that took effect in `state`, in order."""
    blob = state or b""
    return [blob[at : at + TOKEN] for at in range(0, len(blob), TOKEN)]


def whole(record: Record | None) -> bytes:
    """The state of a record: what it was written with, and the deltas on it."""
    return b"".join((record.state or b"", *record.deltas)) if record is not None else b""


class History:
    """The acknowledgements of one session, and what they promise."""

    def __init__(self, durability: str) -> None:
        self.sync = durability == "sync"
        self.acked: dict[bytes, int] = {}
        self.raised: set[bytes] = set()
        self.losses = 0
        self._owners: dict[int, tuple[str, str | None, str | None]] = {}

    def committed(self, old: Record | None, new: Record) -> None:
        """The store applied a write."""
        before, after = whole(old), whole(new)
        assert after.startswith(before), "what the store had is gone"
        assert len(after) == new.version * TOKEN, "the version does not count the calls"
        once = tokens(after)
        assert len(set(once)) == len(once), "a call took effect twice"
        owner = (new.mode, new.owner, new.owner_boot)
        assert self._owners.setdefault(new.epoch, owner) == owner, "two owners in one epoch"
        assert new.epoch in (0, old.epoch if old else 0, old.epoch + 1 if old else 1)

    def answered(
        self, token: bytes, shared: bool, answer: Answer, store: bytes, memory: bytes
    ) -> None:
        """A node answered a call itself; `store` and `memory` are the states it may rest on."""
        tried_again = answer.call.alarm is not None  # under another id: it may fail first and succeed then
        if answer.code == 301 and not tried_again:
            assert token not in self.acked, "a call that succeeded was said to have failed"
            self.raised.add(token)
        if shared and answer.code == 0 and answer.call.alarm is None:
            assert int(answer.body) == (answer.meta or {})["version"], "a reader saw another version than it was told"
        if answer.code not in (0, 302) or shared:
            return
        assert token not in self.raised, "a call that failed was said to have succeeded"
        meta: dict[str, Any] = answer.meta or {}
        version = meta["version"]
        if answer.code == 0:
            assert int(answer.body) == version, "the answer is of another version"
        known = self.acked.setdefault(token, version)
        assert known == version, "a retry got another answer"
        rests = store if self.sync or len(store) >= version * TOKEN else memory
        assert tokens(rests)[version - 1 : version] == [token], "acknowledged before it was safe"

    def lost(self, store: bytes, memory: bytes) -> None:
        """The only copy beyond the store's is gone; what that promised is void."""
        beyond = set(tokens(memory)) - set(tokens(store))
        if self.sync:
            assert not beyond & self.acked.keys(), "an acknowledged call was lost"
        for token in beyond:
            self.losses += self.acked.pop(token, None) is not None
        # What raised changed nothing, but that it raised may have been known to the lost copy alone.
        if not self.sync:
            self.raised.clear()

    def ended(self, store: bytes) -> None:
        """All is quiet and the store has everything."""
        final = tokens(store)
        for token, version in self.acked.items():
            assert final[version - 1 : version] == [token], "an acknowledged call is gone"
        assert not self.raised & set(final), "a call that failed took effect"
