"""Remembers every call that took effect, in order."""

from edged.sdk import Function, Session

fn = Function("ledger", state=dict)


@fn.handler
def add(s: Session, token: str) -> int:
    """Append it; how many there are now."""
    lines = s.state.setdefault("lines", [])
    lines.append(token)
    return len(lines)


@fn.handler
def read(s: Session) -> list[str]:
    """All that took effect."""
    return s.state.get("lines", [])
