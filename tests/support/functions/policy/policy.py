"""A call takes three times as long when the session's state is remote; it counts, and asks for a mode when told to."""

import time

from edged.sdk import Function, Session

fn = Function("policy", state=dict)


@fn.handler
def work(s: Session, prefer: str = "") -> list:
    s.state["n"] = s.state.get("n", 0) + 1
    time.sleep(0.01 if s.mode == "local" else 0.03)
    if prefer:
        s.prefer(prefer)
    return [s.state["n"], s.mode]
