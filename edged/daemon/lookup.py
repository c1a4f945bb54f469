"""What the state store says, for verbs: an answer, or the error that the asker gets.

Decides what of the store's answers is an error. Refuses to know verbs.
"""

from typing import TYPE_CHECKING

from edged.core.records import Entry, Load, Loaded, Op, Outcome, Record, SessionKey, StoreFailed
from edged_protocol.errors import CallError, Code, call_error

from .stores import ask

if TYPE_CHECKING:
    from .node import Node


async def asked(node: "Node", op: Op) -> Outcome:
    """What the store answers. Raises CallError when it does not."""
    outcome = await ask(node.store, op)
    if isinstance(outcome, StoreFailed):
        raise call_error(Code.STORE_UNAVAILABLE, outcome.reason)
    return outcome


def check_deployed(node: "Node", function: str) -> None:
    """Raises CallError. Sessions of a function that was removed are still there; one that never was is a mistake."""
    if function not in node.deployments.catalogue.deployed():
        raise call_error(Code.NO_SUCH_FUNCTION, f"no function named {function} is deployed")


async def loaded(node: "Node", key: SessionKey, results: tuple[bytes, ...] | None) -> tuple[Record, tuple[Entry, ...]]:
    """The record of a session that there is, and what it remembers. Raises CallError."""
    outcome = await asked(node, Load(key, results))
    record = outcome.record if isinstance(outcome, Loaded) else None
    if not isinstance(outcome, Loaded) or record is None or record.ended:
        raise CallError(Code.BAD_REQUEST, f"no session {'/'.join(key)}", {"not_found": True})
    return record, outcome.results
