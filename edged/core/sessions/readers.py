"""Readers of a remote-state session: calls that change nothing, beside the one that may (DESIGN §5.2).

Decides what a reader sees: the record as the store has it after the reader came, so never less than what was
acknowledged before, and never a half-run call's state. It waits for no writer and no writer waits for it; so a caller that
sends a reader behind a writer without waiting for the answer may be told of the state before. To keep such pairs in order
was the alternative: it makes every reader wait for the longest call, which is what readers are there to avoid.
Of a session that is local the container decides (`sdk`): it holds the state.
"""

from typing import Any

from ..calls import Call
from ..effects import Answer, Ask, Effect, Forward, Located, RunPool
from ..records import Load, StoreFailed
from .actor import Actor
from .answers import queue_full, said
from .remote_calls import enqueue
from .takeover import lost_node
from .writes import NO_RECORD


def begin(actor: Actor, call: Call) -> list[Effect]:
    """A reader came: the record first."""
    if len(actor.readers) >= actor.rules.queue:
        return [queue_full(call)]
    token = actor.fresh()
    actor.readers[token] = call
    return [Ask(Load(actor.key, ()), token)]


def has_read(actor: Actor, token: int, outcome: Any) -> list[Effect]:
    """The record: a container of the pool reads it."""
    call = actor.readers[token]
    record = None if isinstance(outcome, StoreFailed) else outcome.record or NO_RECORD
    if record is not None and record.mode == "remote" and not call.answered and not actor.state_lost:
        call.mode, call.state, call.deltas, call.form = "remote", record.state or None, record.deltas, record.form
        call.entry = (record.epoch, record.version)
        return [RunPool(call)]
    del actor.readers[token]
    if call.answered:
        return [Answer(call, 401, b"", "the deadline has passed", {"ran": False})]
    if record is None:
        return [Answer(call, 106, b"", f"state store: {outcome.reason}", None)]
    if record.mode == "local" and record.owner != actor.node and lost_node(actor, record.owner) is None:
        owner = record.owner or ""
        return [Located(owner, record.epoch), Forward(call, owner)]
    return enqueue(actor, call)  # whoever had it is lost, and perhaps its state: the writers' way tells


def token_of(actor: Actor, call: Call) -> int | None:
    """Of a call that is a reader here."""
    return next((token for token, reader in actor.readers.items() if reader is call), None)


def answered(
    actor: Actor, token: int, code: int, body: bytes, message: str, meta: dict[str, Any]
) -> list[Effect]:
    """A container of the pool ran it. One that says that it was no reader has another version: it runs as a writer."""
    call = actor.readers.pop(token)
    if code == 0 and not meta.get("shared"):
        call.container, call.state, call.deltas = None, None, ()
        return enqueue(actor, call)
    says = said(actor, call, meta) if code in (0, 301) else meta
    if code in (0, 301):
        says["epoch"], says["version"] = call.entry
    return [Answer(call, code, body, message, says)]


def lost(actor: Actor, token: int, code: int, message: str) -> list[Effect]:
    """The pool could not run it, or its container died."""
    return [Answer(actor.readers.pop(token), code, b"", message, None)]
