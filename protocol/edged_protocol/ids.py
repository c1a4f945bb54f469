"""Identifiers of the wire: what a name, a session key and a call id may look like (SPEC "Identifiers")."""

import re
from collections.abc import Callable
from typing import NewType

from .limits import CALL_ID_BYTES, MAX_SESSION_KEY

CallId = NewType("CallId", bytes)
"""16 bytes chosen by the client; a retry repeats it."""

NAME_RE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\Z")
METHOD_RE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}\Z")


def valid_name(name: object) -> bool:
    """Whether `name` may name a function, a node or a mesh."""
    return isinstance(name, str) and NAME_RE.match(name) is not None


def valid_session(key: object) -> bool:
    """Whether `key` may be a session key: 1 to 255 bytes of printable UTF-8."""
    if not isinstance(key, str) or not key.isprintable():
        return False
    return 0 < len(key.encode()) <= MAX_SESSION_KEY


def new_call_id(random_bytes: Callable[[int], bytes]) -> CallId:
    """A fresh call id from a source of random bytes (`os.urandom` outside the cores)."""
    return CallId(random_bytes(CALL_ID_BYTES))
