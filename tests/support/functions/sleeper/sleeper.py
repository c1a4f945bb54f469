"""A call takes as long as it is told, on node n4 four times as long, or until a file is there."""

import os
import time

from edged.sdk import Function, Session

fn = Function("sleeper", state=dict)

SLOW_NODE = "n4"


@fn.handler
def sleep(s: Session, seconds: float) -> str:
    time.sleep(seconds * (4 if s.node == SLOW_NODE else 1))
    return s.node


@fn.handler
def hold(s: Session, until: str) -> str:
    while not os.path.exists(until):
        time.sleep(0.005)
    return s.node


@fn.handler
def incr(s: Session) -> int:
    s.state["n"] = s.state.get("n", 0) + 1
    return s.state["n"]
