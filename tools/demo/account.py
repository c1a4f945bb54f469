"""The account: what was asked, what was acknowledged, what is there, and whether that adds up (DESIGN §5).

Decides the demo's exit code. A function that counts its calls gives the n-th one the value n, so the values
acknowledged must be 1 to n, each once, and the state must say n. Refuses to know where the figures come from.
"""

from dataclasses import dataclass, field
from typing import NamedTuple


class Check(NamedTuple):
    """One thing that must hold, whether it does, and the figures that say so."""

    name: str
    ok: bool
    detail: str


@dataclass(slots=True)
class Ledger:
    """One session as its callers saw it."""

    name: str
    asked: int = 0
    values: list[int] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)
    """Why calls were given up without an answer."""
    abnormal: int = 0
    """Readings above the threshold that were acknowledged."""
    moves: int = 0
    """Switches and migrations that were seen to end well."""
    backwards: int = 0
    """Answers whose epoch was below one the same caller had seen before."""


class Final(NamedTuple):
    """One session as the mesh has it in the end."""

    state: int
    version: int
    epoch: int
    mode: str
    alarms: int | None = None


class Count(NamedTuple):
    """What became of a session's calls."""

    name: str
    asked: int
    acknowledged: int
    lost: int
    doubled: int
    wrong: int
    """Values acknowledged that no correct run has."""
    final: int

    @property
    def exact(self) -> bool:
        """Whether every call counted once, and there were calls."""
        return self.acknowledged > 0 and not (self.lost or self.doubled or self.wrong)


def count(ledger: Ledger, final: int) -> Count:
    """Compare what callers were told with what the state says.

    Lost: asked but never acknowledged, or acknowledged and gone from the state. Doubled: one value told
    twice, or more effects in the state than were ever asked for.
    """
    told = len(ledger.values)
    distinct = set(ledger.values)
    return Count(
        ledger.name,
        ledger.asked,
        told,
        lost=ledger.asked - told + max(0, told - final),
        doubled=told - len(distinct) + max(0, final - ledger.asked),
        wrong=len(distinct - set(range(1, told + 1))),
        final=final,
    )


class Carried(NamedTuple):
    """What went to the store, and which way."""

    round_trip: float
    """Seconds that the line adds to a question and its answer."""
    fastest_remote: float
    """Seconds of the fastest remote-state call."""
    remote_calls: int
    """Remote-state calls that were acknowledged: each is one commit or more."""
    frames_up: int
    frames_down: int
    bytes_up: int
    bytes_down: int
    edge_nodes: int
    through_proxy: int
    """Connections open in the proxy."""
    at_cloud: int
    """Connections the store's node has from other nodes."""


def verdict(ledgers: list[Ledger], finals: dict[str, Final], carried: Carried) -> list[Check]:
    """Everything that must hold."""
    return [_counts(ledgers, finals), *_states(ledgers, finals), *_line(carried)]


def _counts(ledgers: list[Ledger], finals: dict[str, Final]) -> Check:
    counts = [count(one, finals[one.name].state if one.name in finals else 0) for one in ledgers]
    off = [one for one in counts if not one.exact]
    asked, told = sum(one.asked for one in counts), sum(one.acknowledged for one in counts)
    lost, doubled = sum(one.lost for one in counts), sum(one.doubled for one in counts)
    detail = (
        f"{told} of {asked} acknowledged in {len(counts)} sessions, {lost} lost, {doubled} doubled"
    )
    for one in off[:3]:
        detail += (
            f"; {one.name}: asked {one.asked}, acknowledged {one.acknowledged}, state {one.final}, "
            f"lost {one.lost}, doubled {one.doubled}, wrong values {one.wrong}"
        )
    reasons = [f"{one.name}: {why}" for one in ledgers for why in one.unanswered]
    return Check(
        "every call counted exactly once",
        bool(counts) and not off,
        "; ".join([detail, *reasons[:3]]),
    )


def _states(ledgers: list[Ledger], finals: dict[str, Final]) -> list[Check]:
    """The record's own figures, which no caller computed."""
    told = [(one, finals[one.name]) for one in ledgers if one.name in finals]
    lacks = [one.name for one in ledgers if one.name not in finals]
    versions = [one.name for one, final in told if final.version != len(one.values)]
    local = [one.name for one, final in told if final.mode != "remote"]
    watched = [(one, final.alarms) for one, final in told if final.alarms is not None]
    alarms = [
        f"{one.name} {said}, sent {one.abnormal}" for one, said in watched if said != one.abnormal
    ]
    epochs = [
        f"{one.name} at {final.epoch}, {one.moves} moves"
        for one, final in told
        if final.epoch != one.moves
    ]
    moves = sum(one.moves for one in ledgers)
    back = sum(one.backwards for one in ledgers)
    return [
        Check(
            "the store's version is the number of calls",
            not versions and not lacks,
            _names([*versions, *lacks]) or f"in {len(told)} sessions",
        ),
        Check(
            "every abnormal reading is in the state",
            not alarms and bool(watched),
            _names(alarms) or f"{sum(one.abnormal for one, _ in watched)} of them",
        ),
        Check(
            "each switch and migration is one epoch",
            not epochs and not lacks and moves > 0,
            _names([*epochs, *lacks]) or f"{moves} of them",
        ),
        Check("no epoch ever went back", back == 0, f"{back} answers of an older epoch"),
        Check(
            "all sessions are remote-state again",
            not local and not lacks,
            _names([*local, *lacks]) or f"{len(told)} sessions",
        ),
    ]


def _names(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _line(carried: Carried) -> list[Check]:
    one_way = carried.edge_nodes == carried.through_proxy == carried.at_cloud
    used = min(carried.frames_up, carried.frames_down)
    megabytes = (carried.bytes_up + carried.bytes_down) / 1e6
    return [
        Check(
            "the store is reached through the proxy only",
            one_way,
            f"{carried.at_cloud} connections at the cloud, {carried.through_proxy} in the proxy, "
            f"{carried.edge_nodes} nodes",
        ),
        Check(
            "the proxy carried every remote-state call",
            used >= carried.remote_calls > 0 and carried.bytes_up > 0 and carried.bytes_down > 0,
            f"{carried.frames_up} frames up, {carried.frames_down} down, {megabytes:.1f} MB "
            f"for {carried.remote_calls} calls",
        ),
        Check(
            "no remote-state call was faster than the line",
            carried.fastest_remote >= carried.round_trip,
            f"fastest {carried.fastest_remote * 1e3:.1f} ms, line {carried.round_trip * 1e3:.0f} ms",
        ),
    ]
