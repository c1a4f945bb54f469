"""A node's sessions in a few numbers: what it tells the others, and what it believes of each session itself.

Decides whose place is the policy's to choose, and how far a measured rate is believed. Rates rest on few calls: of
seventy sessions that are all alike the luckiest ten seem to call half as often again. Taken at their word, those would be
made local for ever anew, and the pool left with more calls than expected. So what differs no more than chance does is
taken for equal (empirical Bayes: a Gamma prior, its spread taken from the node's own sessions).
"""

from collections.abc import Sequence
from math import inf
from typing import Literal

from .view import GROUPS, Figures, Function, Session

Place = Literal["held", "fixed", "free"]

DOUBT = 2.0
"""Times the variance that chance alone explains, before sessions are held to differ."""


def place(function: Function, session: Session) -> Place:
    """Whether a session is to be local, to be remote-state, or the policy's to choose."""
    if "local" not in function.allow or function.policy == "pinned-remote":
        return "fixed"
    if "remote" not in function.allow or function.policy == "pinned-local":
        return "held"
    if session.wish is not None:
        return "held" if session.wish == "local" else "fixed"
    if function.policy == "application":
        return "held" if session.mode == "local" else "fixed"
    return "free"


def believed(sessions: Sequence[Session]) -> list[float]:
    """The rate of each, drawn to the mean of all as far as chance explains the difference."""
    known = [s for s in sessions if s.calls > 0 and s.rate > 0]
    if not known:
        return [s.rate for s in sessions]
    seconds = [s.calls / s.rate for s in known]
    mean = sum(s.calls for s in known) / sum(seconds)
    chance = sum(mean / time for time in seconds) / len(known)
    spread = sum((s.rate - mean) ** 2 for s in known) / len(known) - DOUBT * chance
    shape = mean**2 / spread if spread > 0 else inf
    return [_posterior(s, mean, shape) for s in sessions]


def _posterior(session: Session, mean: float, shape: float) -> float:
    if shape == inf or session.calls <= 0 or session.rate <= 0:
        return mean
    return (session.calls + shape) / (session.calls / session.rate + shape / mean)


def figures(function: Function) -> Figures:
    """What this node tells of a function."""
    sorted_: dict[Place, list[Session]] = {"held": [], "fixed": [], "free": []}
    for session in function.sessions:
        sorted_[place(function, session)].append(session)
    rates = sorted(believed(sorted_["free"]), reverse=True)
    return Figures(
        local=sum(s.mode == "local" for s in function.sessions),
        queued=function.queued,
        held=len(sorted_["held"]),
        granted=sum(s.mode == "local" for s in sorted_["held"]),
        fixed=len(sorted_["fixed"]),
        free=len(rates),
        held_rate=sum(believed(sorted_["held"])),
        fixed_rate=sum(believed(sorted_["fixed"])),
        service_local=function.service_local,
        service_remote=function.service_remote,
        rates=groups(rates),
    )


def groups(rates: Sequence[float]) -> tuple[float, ...]:
    """Means of equal parts; one where all are equal."""
    if not rates:
        return ()
    many = 1 if rates[0] == rates[-1] else min(GROUPS, len(rates))
    parts, at = [], 0
    for size in sizes(len(rates), many):
        parts.append(sum(rates[at : at + size]) / size)
        at += size
    return tuple(parts)


def sizes(sessions: int, groups: int) -> list[int]:
    """How many sessions are in each group: as equal as can be."""
    return [sessions // groups + (number < sessions % groups) for number in range(groups)] if groups else []
