"""Calls that calls make: who waits for whom (DESIGN §8, SPEC "Calls from containers").

Decides whether one more call may join a chain of calls that wait for each other. A session runs one call at a time,
so a call back into a session of its own chain would wait for itself until its deadline: it is refused at once. To let
it in, as some actor systems do, was the alternative; it would see and change a half-run call's state.
Refuses to know containers, queues and time.
"""

from typing import Any

MAX_CHAIN = 16
"""Calls that wait for each other; it travels with each of them. A longer one is a recursion without end."""

Link = tuple[str, str | None]
"""A function, and the session or None."""


def why_not(chain: tuple[Link, ...], function: str, session: str | None) -> str | None:
    """Why a call of that function and session may not be made by the last of `chain`; None: it may."""
    if session is not None and (function, session) in chain:
        return f"it would wait for itself: {shown((*chain, (function, session)))}"
    if len(chain) >= MAX_CHAIN:
        return f"more than {MAX_CHAIN} calls wait for each other: {shown(chain)}"
    return None


def shown(chain: tuple[Link, ...]) -> str:
    """For people: `arm/7 -> cell/2 -> arm/7`."""
    return " -> ".join(function if session is None else f"{function}/{session}" for function, session in chain)


def chain_of(value: Any) -> tuple[Link, ...]:
    """The chain in a frame's meta; empty for what is none."""
    if type(value) is not list or len(value) > MAX_CHAIN:
        return ()
    links = [tuple(item) for item in value if type(item) is list and len(item) == 2]
    fits = len(links) == len(value) and all(type(f) is str and type(s) in (str, type(None)) for f, s in links)
    return tuple(links) if fits else ()
