"""A counter per session: the smallest function with a state."""

from edged.sdk import Function, Session

fn = Function("counter", state=dict)


@fn.handler
def incr(s: Session, by: int = 1) -> int:
    """Add `by`; the new value."""
    s.state["n"] = s.state.get("n", 0) + by
    return s.state["n"]


@fn.shared
def get(s: Session) -> int:
    """The value."""
    return s.state.get("n", 0)
