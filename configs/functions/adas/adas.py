"""Smart vehicle: regular driving shares containers, autonomous parking gets its own.

Driving tolerates a second; parking does not, so its first step asks for local state and its last one
gives it back.
"""

from typing import Any

from edged.sdk import Function, Session

SAFE_SECONDS = 2.0
"""Distance to the car ahead, in time."""

STOP = 0.15
"""Metres to the obstacle at which the car is parked."""

CRAWL = 1.5
"""Highest speed while parking, in metres a second."""

fn = Function("adas", state=dict)


@fn.handler
def drive(s: Session, speed: float, ahead: float = 100.0) -> dict[str, Any]:
    """Regular driving: metres a second and metres to the car ahead; what to do about it."""
    s.state["trips"] = s.state.get("trips", 0) + (s.state.get("phase") != "driving")
    s.state["phase"] = "driving"
    s.state["steps"] = s.state.get("steps", 0) + 1
    advice = min(speed, ahead / SAFE_SECONDS)
    return answer(s, speed=advice)


@fn.handler
def park(s: Session, distance: float) -> dict[str, Any]:
    """One step of parking: metres to the obstacle; the speed to go on with, 0 when done."""
    s.state["phase"] = "parking"
    s.state["steps"] = s.state.get("steps", 0) + 1
    s.state.setdefault("approach", []).append(round(distance, 3))
    if distance > STOP:
        s.prefer("local")
        return answer(s, speed=min(CRAWL, distance - STOP), done=False)
    del s.state["approach"]
    s.state["phase"] = "parked"
    s.prefer("remote")
    return answer(s, speed=0.0, done=True)


@fn.shared
def where(s: Session) -> str:
    """What the car is doing."""
    phase: str = s.state.get("phase", "idle")
    return phase


def answer(s: Session, **advice: object) -> dict[str, Any]:
    """Advice, and who gave it."""
    return {**advice, "phase": s.state["phase"], "mode": s.mode, "node": s.node, "steps": s.state["steps"]}
