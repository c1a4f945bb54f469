"""What must hold, whatever happened: checked while it happens, from outside the sessions.

The state of the session is the list of the calls that took effect in it, two bytes each, so that every
copy of it tells its whole past: a call in it twice took effect twice, and its length is its version.
"""

from typing import Any

from edged.core.effects import Answer, Aside
from edged.core.records import Record
from edged.core.transition import S

TOKEN = 2
ALARMS = b"\x01\x00"
"""The first call that an alarm makes."""

LETTING_GO = frozenset({S.RELEASING, S.DOUBT})
KEPT = LETTING_GO | {S.KEEPING, S.REGAINING}
"""Where the source of a migration may have what nobody else has, though the record names the target."""


def tokens(state: bytes | None) -> list[bytes]:
    """The calls that took effect in `state`, in order."""
    blob = state or b""
    return [blob[at : at + TOKEN] for at in range(0, len(blob), TOKEN)]


def whole(record: Record | None) -> bytes:
    """The state of a record: what it was written with, and the deltas on it."""
    return b"".join((record.state or b"", *record.deltas)) if record is not None else b""


class History:
    """The acknowledgements of one session, and what they promise."""

    def __init__(self, durability: str, on_partition: str) -> None:
        self.sync = durability == "sync"
        self.none = durability == "none"
        self.keeps = on_partition == "keep"
        self.acked: dict[bytes, int] = {}
        self.raised: set[bytes] = set()
        self.losses = 0
        self.overtaken = 0
        """Acknowledged calls in the copy of a migration's source that nobody goes on from."""
        self.takeovers = 0
        self.asides = 0
        self.ends = 0
        self.superseded: dict[int, set[bytes]] = {}
        """By epoch, acknowledged calls that the record did not have when another node took over: in a copy set aside,
        unless the memory of that owner was lost."""
        self.past: dict[bytes, int] = {}
        """Calls of sessions that have ended, with the version that each led to as far as anybody was told."""
        self._over: set[int] = set()
        self.ids: dict[bytes, bytes] = {}
        """By call its id, of those that have one."""
        self._gone: set[int] = set()
        self._owners: dict[int, tuple[str, str | None, str | None]] = {}

    def committed(self, old: Record | None, new: Record, by: str, kept: dict[str, bytes]) -> None:
        """The store applied a write of the life `by`. `kept`: by life, the copies of those that had moved the session on."""
        before, after = whole(old), whole(new)
        took = old is not None and old.mode == "local" and old.owner_boot != by and new.epoch > old.epoch
        if new.ended and (old is None or new.epoch != old.epoch):
            self._ended(old, new)
            return
        anew = self.none and not after and new.epoch > (old.epoch if old else 0)
        assert anew or after.startswith(before), "what the store had is gone"
        assert len(after) == new.version * TOKEN, "the version does not count the calls"
        once = tokens(after)
        assert len(set(once)) == len(once), "a call took effect twice"
        assert not set(once) & self.past.keys(), "a call of a session that has ended took effect again"
        owner = (new.mode, new.owner, new.owner_boot)
        assert self._owners.setdefault(new.epoch, owner) == owner, "two owners in one epoch"
        assert new.epoch in (0, old.epoch if old else 0, old.epoch + 1 if old else 1)
        if old is not None and (took or anew):
            mine = kept.get(by, b"")
            others = set(tokens(b"".join(kept.values()))) - set(tokens(after + mine))
            self.overtaken += len(others & self.acked.keys())
            self._taken_over(old.epoch, after + mine, anew)

    def _ended(self, old: Record | None, new: Record) -> None:
        """What was acknowledged was of the session that has ended; the next has nothing of it but its call ids."""
        assert (new.mode, new.owner, new.version, whole(new)) == ("remote", None, 0, b""), "something of it is left"
        assert not new.alarms, "its alarms are left"
        assert new.epoch == (old.epoch if old else 0) + 1, "it ended without a new epoch"
        self.ends += 1
        self._over.add(new.epoch - 1)
        stored = {token: at for at, token in enumerate(tokens(whole(old)), 1)}
        self.past |= stored | self.acked
        self.acked.clear()

    def remembered(self, record: Record, ids: set[bytes]) -> None:
        """The store has this record, and these ids in its window."""
        if not record.floor:
            took_effect = {self.ids[token] for token in tokens(whole(record)) if token in self.ids}
            assert took_effect <= ids, "a call id was forgotten without a word"

    def _taken_over(self, epoch: int, store: bytes, anew: bool) -> None:
        """Another life goes on from what the store has, or from its own copy: what only the owner of `epoch` had is its copy's."""
        self.takeovers += 1
        beyond = self.acked.keys() - set(tokens(store))
        assert not (self.sync and beyond), "an acknowledged call was lost"
        if not anew:
            self.superseded.setdefault(epoch, set()).update(beyond)
        for token in beyond:
            del self.acked[token]
        if not self.sync:
            self.raised.clear()

    def answered(
        self, token: bytes, shared: bool, answer: Answer, record: Record | None, memory: bytes
    ) -> None:
        """A node answered a call itself; the record and `memory` are what it may rest on."""
        store = whole(record)
        meta: dict[str, Any] = answer.meta or {}
        current = record is not None and meta.get("epoch", 0) >= record.epoch
        if meta.get("mode") == "local" and answer.code in (0, 301):
            assert current or self.keeps or self.sync, "an owner that was superseded answered"
        tried_again = token >= ALARMS  # under another id: it may fail first and succeed then
        if answer.code == 301 and not tried_again and (current or not self.keeps):
            assert token not in self.acked, "a call that succeeded was said to have failed"
            self.raised.add(token)
        if shared and answer.code == 0 and answer.call.alarm is None:
            assert int(answer.body) == (answer.meta or {})["version"], "a reader saw another version than it was told"
        if answer.code not in (0, 302) or shared:
            return
        beside = self.keeps and not current  # by the other of two histories
        assert beside or token not in self.raised, "a call that failed was said to have succeeded"
        version = meta["version"]
        if answer.code == 0:
            assert int(answer.body) == version, "the answer is of another version"
        if self._of_the_past(token, meta, (store, memory)):
            assert beside or self.past.setdefault(token, version) == version, "a retry got another answer"
            return
        if not current and tokens(store)[version - 1 : version] != [token]:
            if self.none and not memory:
                return  # read before the state was lost
            self._answered_beside(token, meta["epoch"])
            return
        known = self.acked.setdefault(token, version)
        assert known == version, "a retry got another answer"
        rests = store if self.sync or len(store) >= version * TOKEN else memory
        assert tokens(rests)[version - 1 : version] == [token], "acknowledged before it was safe"

    def _of_the_past(self, token: bytes, meta: dict[str, Any], states: tuple[bytes, ...]) -> bool:
        """Whether the call took effect in a session that has ended. One whose answer nobody got is known by its retry."""
        if token in self.past or meta["epoch"] in self._over:
            return True
        nowhere = token not in self.acked and not any(token in tokens(state) for state in states)
        return bool(self.ends) and bool(meta.get("remembered")) and nowhere

    def _answered_beside(self, token: bytes, epoch: int) -> None:
        """With `keep`: the other of two histories."""
        assert self.keeps, "an owner that was superseded answered"
        self.superseded.setdefault(epoch, set()).add(token)

    def set_aside(self, copy: Aside) -> None:
        """A superseded copy is kept."""
        self.asides += 1
        missing = self.superseded.pop(copy.epoch, set()) - set(tokens(copy.state))
        assert not missing, "a copy that was set aside lacks acknowledged calls"

    def memory_lost(self, epoch: int) -> None:
        """A container that held the session is gone."""
        self._gone.add(epoch)

    def lost(self, left: bytes, memory: bytes) -> None:
        """A copy is gone; what it promised beyond what is left, in the store and in other memories, is void."""
        beyond = set(tokens(memory)) - set(tokens(left))
        if self.sync:
            assert not beyond & self.acked.keys(), "an acknowledged call was lost"
        for token in beyond:
            self.losses += self.acked.pop(token, None) is not None
        # What raised changed nothing, but that it raised may have been known to the lost copy alone.
        if not self.sync:
            self.raised.clear()

    def let_go(self, left: bytes, copy: bytes) -> None:
        """The source of a migration keeps its copy no longer."""
        self.overtaken += len((set(tokens(copy)) - set(tokens(left))) & self.acked.keys())
        self.lost(left, copy)

    def ended(self, store: bytes) -> None:
        """All is quiet and the store has everything."""
        final = tokens(store)
        for token, version in self.acked.items():
            assert final[version - 1 : version] == [token], "an acknowledged call is gone"
        assert not self.raised & set(final), "a call that failed took effect"
        for epoch, left in self.superseded.items():
            assert not left or epoch in self._gone, "acknowledged calls are in no copy"
