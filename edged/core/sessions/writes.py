"""The compare-and-sets of a session, each built in one place (DESIGN §5, reliability §2.2).

Decides what each of them expects and changes. All but a commit and a checkpoint raise the epoch, and carry
the id of the move, by which the record tells later whose they were. A session that ends leaves a record: to remove it
was the alternative, and one begun again would have had an epoch that somebody had seen already.
"""

from ..alarms import Alarms
from ..records import ENDED, MAX_ASK, Entry, Record, SessionKey, Write
from ..window import MAX_WINDOW_BYTES
from .actor import Actor
from .basis import Part

NO_RECORD = Record(
    epoch=0,
    mode="remote",
    owner=None,
    owner_boot=None,
    version=0,
    move=None,
    state=None,
    floor=False,
    schema=1,
    updated=0.0,
    alarms=None,
)
"""A session that the store has never heard of."""


def commit(
    actor: Actor,
    record: Record,
    version: int,
    state: bytes | None,
    entry: Entry | None,
    alarms: Alarms | None = None,
    schema: int = 1,
) -> Write:
    """A remote-state call's effect: the state after it and its outcome, and its alarms if they changed."""
    write = Write(
        actor.key,
        record.epoch,
        record.version,
        record.epoch,
        version,
        "remote",
        None,
        None,
        None,
        state,
        (entry,) if entry is not None else (),
        actor.rules.dedup,
        MAX_WINDOW_BYTES,
        True,
        schema,
    )
    if alarms is None:
        return write
    return write._replace(alarms=alarms.packed(), due=alarms.due, had_alarms=record.alarms or b"")


def claim(actor: Actor, record: Record) -> Write:
    """This node owns the session from now on."""
    return Write(
        key=actor.key,
        expect_epoch=record.epoch,
        expect_version=record.version,
        epoch=record.epoch + 1,
        version=record.version,
        mode="local",
        owner=actor.node,
        owner_boot=actor.boot,
        move=actor.move,
        state=None,
        results=(),
        keep=actor.rules.dedup,
        keep_bytes=MAX_WINDOW_BYTES,
        durable=True,
    )


def reclaim(actor: Actor, record: Record, anew: bool) -> Write:
    """Back to remote-state, at what the store has: nothing that lives holds the session. `anew`: at nothing."""
    # Apart from every counted move of `wishes`, so that neither passes for the other.
    move = (b"\xff" * 4 + actor.boot.encode()[-12:]).ljust(16, b"\0")
    write = claim(actor, record)._replace(mode="remote", owner=None, owner_boot=None, move=move)
    return write._replace(version=0, state=b"", keep=0) if anew else write


def checkpoint(actor: Actor, part: Part) -> Write:
    """The state as it is now, or what changed in it, and the outcomes since the last one."""
    return Write(
        key=actor.key,
        expect_epoch=actor.epoch,
        expect_version=actor.stored,
        epoch=actor.epoch,
        version=actor.version,
        mode="local",
        owner=actor.node,
        owner_boot=actor.boot,
        move=None,
        state=part.state,
        delta=part.delta,
        results=actor.changes.entries(),
        keep=actor.rules.dedup,
        keep_bytes=MAX_WINDOW_BYTES,
        durable=actor.rules.durability == "sync",
        schema=actor.takes.schema,
        alarms=actor.alarms.packed() if actor.alarmed else None,
        due=actor.alarms.due if actor.alarmed else None,
    )


def release(actor: Actor) -> Write:
    """To the target of a migration, or without one to remote-state.

    Of a session that is not `complete` in the store the record keeps the version, outcomes and alarms that it has: its
    target has the others.
    """
    target, _, boot = actor.target.partition("/")
    write = checkpoint(actor, actor.part)
    if actor.closing or actor.over:
        return close(write, actor.move)
    if not actor.complete:
        write = write._replace(version=actor.stored, state=None, delta=None, results=(), alarms=None, due=None)
    return write._replace(
        epoch=actor.epoch + 1,
        mode="local" if target else "remote",
        owner=target or None,
        owner_boot=boot or None,
        move=actor.move,
        durable=True,
    )


def close(write: Write, move: bytes) -> Write:
    """The session ends with this write: remote-state, of no version and without state and alarms. Its outcomes stay, for
    whoever asks again."""
    return write._replace(
        epoch=write.expect_epoch + 1,
        version=0,
        mode="remote",
        owner=None,
        owner_boot=None,
        move=move,
        state=b"",
        delta=None,
        alarms=b"",
        due=None,
        schema=ENDED,
        durable=True,
    )


def close_at(key: SessionKey, record: Record, move: bytes, *, outcomes: bool = True) -> Write:
    """The same for a session that nobody holds, by whoever has read its record; without its `outcomes` too, which a retry
    then is told are forgotten."""
    write = Write(
        key=key,
        expect_epoch=record.epoch,
        expect_version=record.version,
        epoch=record.epoch,
        version=record.version,
        mode="remote",
        owner=None,
        owner_boot=None,
        move=None,
        state=None,
        results=(),
        keep=MAX_ASK if outcomes else 0,
        keep_bytes=MAX_WINDOW_BYTES,
        durable=True,
        had_alarms=record.alarms or b"",
    )
    return close(write, move)
