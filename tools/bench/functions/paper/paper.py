"""The paper's function: a call works for as long as it is told, three times as long when its state is remote."""

import time

from edged.sdk import Function, Session

fn = Function("paper", state=dict)

REMOTE = 3


@fn.handler
def work(s: Session, seconds: float) -> str:
    """`seconds` in local-state."""
    s.state["n"] = s.state.get("n", 0) + 1
    time.sleep(seconds if s.mode == "local" else seconds * REMOTE)
    return s.mode
