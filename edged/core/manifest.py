"""`function.toml` (DESIGN §8): what a function says of itself. Two lines suffice.

Decides nothing beyond whether the manifest is right.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from edged_protocol.ids import valid_name
from edged_protocol.limits import MAX_STATE, MIB

from . import schema as s
from .records import Mode
from .schema import REQUIRED, Field, Mistakes

__all__ = ["Manifest", "Mistakes", "parse_manifest"]


MOST_SESSIONS = 256
"""Of one container: with it all of them die, and are recovered."""

LARGE = (
    f"is more than the {MAX_STATE // MIB} MiB that a store takes: a larger state moves between nodes, but it is not saved"
    " and cannot become remote-state"
)
"""What is said of a state's `max_bytes`."""


def _name(value: Any) -> str:
    if not valid_name(value):
        raise ValueError(f"1 to 63 of a-z, 0-9 and - were expected, not {value!r}")
    return str(value)


SCHEMA: s.Schema = {
    "function": {
        "name": Field(_name, REQUIRED),
        "entry": Field(s.text, REQUIRED),
        "version": Field(s.text, "0.0.0"),
        "runtime": Field(s.choice("python", "exec"), "python"),
    },
    "state": {
        "store": Field(s.choice("default"), "default"),
        "schema": Field(s.whole(1, 1_000_000), 1),
        "max_bytes": Field(s.some(s.size), 1 << 20),
        "ttl": Field(s.seconds, 0.0),
    },
    "modes": {
        "allow": Field(s.many(s.choice("remote", "local")), ("remote", "local")),
        "start": Field(s.choice("remote", "local"), "remote"),
        "min_dwell": Field(s.seconds, 5.0),
        "idle": Field(s.seconds, 600.0),
        "follow": Field(s.boolean, False),
        "max_pause": Field(s.seconds, 0.5),
        "policy": Field(s.choice("application", "auto", "pinned-local", "pinned-remote"), "application"),
        "sessions_per_container": Field(s.whole(1, MOST_SESSIONS), 1),
    },
    "durability": {
        "local": Field(s.choice("none", "checkpoint", "sync"), "checkpoint"),
        "calls": Field(s.whole(1, 1_000_000), 50),
        "seconds": Field(s.real(0.01, 86_400), 1.0),
        "on_partition": Field(s.choice("fence", "hold", "keep"), "fence"),
    },
    "calls": {
        "deadline": Field(s.some(s.seconds), 2.0),
        "hard_limit": Field(s.some(s.seconds), 30.0),
        "queue": Field(s.whole(1, 65_536), 256),
        "dedup": Field(s.whole(1, 1024), 128),
    },
    "pool": {
        "min": Field(s.whole(0, 1024), 0),
        "max": Field(s.whole(0, 1024), 4),
        "idle": Field(s.seconds, 120.0),
    },
    "placement": {"require": Field(s.many(s.text), ())},
    "limits": {"memory": Field(s.some(s.size), 128 << 20), "cpu": Field(s.real(0.01, 1024), 1.0)},
    "balance": {
        "policy": Field(
            s.choice("power-of-d", "least-impedance", "random-proportional", "round-robin"),
            "power-of-d",
        )
    },
}


@dataclass(frozen=True, slots=True)
class State:
    """[state]"""

    store: str
    schema: int
    max_bytes: int
    ttl: float
    """Seconds without a commit after which a session ends; 0: never."""


@dataclass(frozen=True, slots=True)
class Modes:
    """[modes]"""

    allow: tuple[Mode, ...]
    start: str
    min_dwell: float
    idle: float
    """Seconds without a call after which a local session goes back to the store; 0: never."""
    follow: bool
    max_pause: float
    policy: Literal["application", "auto", "pinned-local", "pinned-remote"]
    sessions_per_container: int


@dataclass(frozen=True, slots=True)
class Durability:
    """[durability]"""

    local: str
    calls: int
    seconds: float
    on_partition: str


@dataclass(frozen=True, slots=True)
class Calls:
    """[calls]"""

    deadline: float
    hard_limit: float
    queue: int
    dedup: int


@dataclass(frozen=True, slots=True)
class Pool:
    """[pool]"""

    min: int
    max: int
    idle: float


@dataclass(frozen=True, slots=True)
class Placement:
    """[placement]"""

    require: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Limits:
    """[limits]"""

    memory: int
    cpu: float


@dataclass(frozen=True, slots=True)
class Balance:
    """[balance]"""

    policy: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """A whole `function.toml`."""

    name: str
    entry: str
    version: str
    runtime: str
    state: State
    modes: Modes
    durability: Durability
    calls: Calls
    pool: Pool
    placement: Placement
    limits: Limits
    balance: Balance

    def warnings(self, no_cpu_limit: str, memory: int) -> list[str]:
        """What it asks for and does not get: for whoever deploys it. `no_cpu_limit`: why the node holds nobody to one;
        `memory`: its bytes for all containers, 0 for any. The defaults promise nothing."""
        return [f"{name} {why}" for name, why, asked in (
            ("[limits] cpu", f"has no effect on this node: {no_cpu_limit}", no_cpu_limit and self.limits.cpu != 1.0),
            ("[limits] memory", "is more than this node has for all containers: it does not run here", 0 < memory < self.limits.memory),
            ("[state] max_bytes", LARGE, self.state.max_bytes > MAX_STATE),
        ) if asked]  # fmt: skip


_PYTHON_ENTRY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*\Z")


def _contradictions(values: s.Values) -> Iterator[s.Contradiction]:
    """What is right by itself, and never could be kept."""
    function, modes, pool = values["function"], values["modes"], values["pool"]
    entry, allow, policy = function["entry"] or "", modes["allow"], modes["policy"]
    if function["runtime"] == "python" and entry and not _PYTHON_ENTRY.match(entry):
        yield "function", "entry", "module:object was expected"
    if function["runtime"] == "exec" and (entry.startswith("/") or ".." in entry.split("/")):
        yield "function", "entry", "a path within the bundle was expected"
    if not allow:
        yield "modes", "allow", "remote, local or both were expected"
    if modes["start"] == "local" and "local" not in allow:
        yield "modes", "start", "[modes] allow has no local"
    if policy.startswith("pinned-") and policy.removeprefix("pinned-") not in allow:
        yield "modes", "policy", f"[modes] allow has no {policy.removeprefix('pinned-')}"
    if pool["min"] > pool["max"]:
        yield "pool", "min", f"more than [pool] max, {pool['max']}"
    if not pool["max"] and "remote" in allow:
        yield "pool", "max", "without a container no call runs unless [modes] allow is local alone"


def parse_manifest(source: str) -> Manifest:
    """The manifest, or Mistakes with every line that is wrong."""
    values = s.read(source, SCHEMA, "function.toml", _contradictions)
    return Manifest(
        **values["function"],
        state=State(**values["state"]),
        modes=Modes(**values["modes"]),
        durability=Durability(**values["durability"]),
        calls=Calls(**values["calls"]),
        pool=Pool(**values["pool"]),
        placement=Placement(**values["placement"]),
        limits=Limits(**values["limits"]),
        balance=Balance(**values["balance"]),
    )
