"""What was probably meant by a name that is not found (DESIGN §9).

Decides which names are similar enough. Costs nothing while all is well: only after a failure the node is asked
for the names it has, and of sessions only for the first of them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

from edged_protocol.blocking import Mesh
from edged_protocol.errors import CallError

from .failures import NOT_FOUND, exit_code

MOST = 3
"""More suggestions are no help."""


@contextmanager
def hinting(mesh: Mesh, function: str, session: str | None) -> Iterator[None]:
    """Give a CallError that means "not found" a note with similar names that are there."""
    try:
        yield
    except CallError as error:
        if exit_code(error) == NOT_FOUND and "node" not in error.meta:  # else the node named those there are
            unknown = session if session is not None and error.meta.get("not_found") else None
            for note in _notes(mesh, function, unknown):
                error.add_note(note)
        raise


def _notes(mesh: Mesh, function: str, session: str | None) -> list[str]:
    """Nothing, if the node has just been lost: the first error is the one that counts."""
    try:
        if session is None:
            return [suggestion(function, _names(mesh, "function.list", {}, "name"), "functions")]
        params = {"function": function}
        there = _names(mesh, "session.list", params, "session")
        return [suggestion(session, there, f"sessions of {function}")]
    except CallError:
        return []


def _names(mesh: Mesh, verb: str, params: dict[str, Any], column: str) -> list[str]:
    rows, _ = mesh.request(verb, params)
    return [str(row[column]) for row in rows if isinstance(row, dict) and column in row]


def suggestion(wanted: str, there: list[str], kind: str) -> str:
    """One line: the most similar names, or what there is."""
    similar = get_close_matches(wanted, there, n=MOST)
    if similar:
        return f"did you mean {' or '.join(similar)}?"
    if not there:
        return f"there are no {kind}"
    rest = ", ..." if len(there) > MOST else ""
    return f"there are {kind}: {', '.join(there[:MOST])}{rest}"
