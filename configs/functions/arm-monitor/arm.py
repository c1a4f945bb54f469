"""Smart factory: watches one robot arm, and asks for a container of its own while it is abnormal.

The state is a moving mean and variance (exponentially weighted, so a reading costs the same after a year),
and how many normal readings came since the last abnormal one.
"""

from dataclasses import dataclass
from typing import Any

from edged.sdk import Function, Session

WEIGHT = 0.05
"""Of the newest reading; the mean follows about the last twenty."""

LEARNING = 20
"""Readings before a deviation counts: the variance of the first few says nothing."""

SIGMAS = 4.0
"""Deviations from the mean that are abnormal; normal noise reaches it once in 15,000 readings."""

ABSOLUTE = 3.0
"""Abnormal whatever the history: the arm's own limit, in its unit."""

CALM = 50
"""Normal readings in a row before the container of its own is given back."""


@dataclass
class Arm:
    n: int = 0
    mean: float = 0.0
    variance: float = 0.0
    normal: int = 0
    alarms: int = 0


fn = Function("arm-monitor", state=Arm)


@fn.handler
def sample(s: Session, v: float) -> dict[str, Any]:
    """One reading; the statistics with it, and whether it is abnormal."""
    arm: Arm = s.state
    alarm = abnormal(arm, v)
    arm.n += 1
    if alarm:
        arm.alarms += 1
        arm.normal = 0
        s.prefer("local")
    else:
        learn(arm, v)
        arm.normal += 1
        if arm.normal >= CALM and arm.alarms and s.mode == "local":
            s.prefer("remote")
    return {"n": arm.n, "mean": arm.mean, "alarm": alarm, "mode": s.mode, "node": s.node}


@fn.shared
def report(s: Session) -> Arm:
    """The statistics as they are."""
    state: Arm = s.state
    return state


def abnormal(arm: Arm, v: float) -> bool:
    """Whether a reading is out of bounds or far from what this arm does."""
    far = arm.n >= LEARNING and (v - arm.mean) ** 2 > SIGMAS**2 * arm.variance > 0
    return far or abs(v) > ABSOLUTE


def learn(arm: Arm, v: float) -> None:
    """Let a normal reading move mean and variance."""
    if arm.n == 1:
        arm.mean = v
    delta = v - arm.mean
    arm.mean += WEIGHT * delta
    arm.variance = (1 - WEIGHT) * (arm.variance + WEIGHT * delta**2)
