"""Scenarios: what a mesh in virtual time looks like, who calls it and what befalls it (`edged sim`).

Decides whether a file is right: every mistake is told at once, with its line. Refuses to know how a scenario is played.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edged.core import schema as s
from edged.core.planning.view import Settings
from edged.core.schema import Field, Mistakes
from edged.core.sessions import Rules

MAX_NODES = 64
MAX_CLIENTS = 100_000
MAX_SECONDS = 366 * 86_400.0

_NODE = re.compile(r"n([1-9]\d?)\Z")


def _node(value: Any) -> int:
    """"n3" as the index 2."""
    found = _NODE.match(value) if type(value) is str else None
    if found is None:
        raise ValueError(f"a node's name (n1, n2, …) was expected, not {value!r}")
    return int(found[1]) - 1


def _points(value: Any) -> tuple[int, ...] | None:
    return None if value == "auto" else s.many(s.whole(0, MAX_CLIENTS))(value)


DEFAULTS = Settings()
TIME = s.seconds
RATE = s.real(0.0, 100_000.0)
SHARE = s.real(0.0, 1.0)

SCHEMA: s.Schema = {
    "scenario": {
        "title": Field(s.text, ""),
        "seed": Field(s.whole(0, 2**63 - 1), 1),
        "duration": Field(TIME, s.REQUIRED),
        "warmup": Field(TIME, 0.0),
        "static": Field(_points, None),
    },
    "mesh": {
        "nodes": Field(s.whole(1, MAX_NODES), 4),
        "containers": Field(s.many_or_one(s.whole(1, 4096)), (10,)),
        "link": Field(TIME, 0.001),
        "device": Field(TIME, 0.0),
        "gossip": Field(TIME, 1.0),
        "detect": Field(TIME, 5.0),
    },
    "store": {"delay": Field(TIME, 0.0), "bytes_per_second": Field(s.real(0.0, 1e12), 0.0)},
    "policy": {
        "period": Field(TIME, 1.0),
        "guard": Field(s.real(0.05, 1.0), DEFAULTS.guard),
        "wish_guard": Field(s.real(0.05, 1.0), DEFAULTS.wish_guard),
        "budget": Field(s.whole(1, 1000), DEFAULTS.budget),
        "hysteresis": Field(SHARE, DEFAULTS.hysteresis),
    },
    "function.*": {
        "policy": Field(s.choice("auto", "application", "pinned-local", "pinned-remote"), "auto"),
        "local": Field(TIME, s.REQUIRED),
        "remote": Field(TIME, s.REQUIRED),
        "time": Field(s.choice("exponential", "deterministic", "lognormal"), "exponential"),
        "variation": Field(s.real(0.01, 100.0), 1.0),
        "start": Field(TIME, 0.05),
        "idle": Field(TIME, 120.0),
        "pool_max": Field(s.whole(0, 4096), 4096),
        "queue": Field(s.whole(1, 65_536), 65_536),
        "deadline": Field(TIME, 3600.0),
        "dwell": Field(TIME, 5.0),
        "state": Field(s.size, 4096),
        "change": Field(s.size, 0),
        "durability": Field(s.choice("none", "checkpoint", "sync"), "checkpoint"),
        "calls": Field(s.whole(1, 1_000_000), 50),
        "seconds": Field(s.real(0.01, 86_400), 1.0),
        "balance": Field(
            s.choice("power-of-d", "least-impedance", "random-proportional", "round-robin"), "power-of-d"
        ),
        "overlapping": Field(s.boolean, False),
    },
    "clients.*": {
        "function": Field(s.text, s.REQUIRED),
        "count": Field(s.whole(0, MAX_CLIENTS), s.REQUIRED),
        "rate": Field(RATE, s.REQUIRED),
        "arrivals": Field(s.choice("poisson", "bursty", "diurnal", "trace"), "poisson"),
        "burst": Field(TIME, 10.0),
        "calm": Field(TIME, 50.0),
        "factor": Field(s.real(1.0, 1000.0), 4.0),
        "period": Field(TIME, 86_400.0),
        "swing": Field(SHARE, 0.8),
        "trace": Field(s.text, ""),
        "local_share": Field(s.real(0.0, 0.99), 0.0),
        "local_phase": Field(TIME, 600.0),
        "local_rate": Field(RATE, None),
        "roams": Field(TIME, 0.0),
        "from": Field(TIME, 0.0),
        "until": Field(TIME, MAX_SECONDS),
        "nodes": Field(s.many(_node), ()),
    },
    "failure.*": {"node": Field(_node, s.REQUIRED), "at": Field(TIME, s.REQUIRED), "lasts": Field(TIME, s.REQUIRED)},
}


@dataclass(frozen=True, slots=True)
class Function:
    """[function.NAME]: `local` and `remote` are mean seconds of a call in a container; with `overlapping`, calls of
    one remote-state session may run at once, as in the paper's model and unlike edged. A call changes `change` bytes of the
    `state`; 0: the function's containers do not tell what, and states are saved whole."""

    name: str
    policy: str
    local: float
    remote: float
    time: str
    variation: float
    start: float
    idle: float
    pool_max: int
    queue: int
    deadline: float
    dwell: float
    state: int
    change: int
    durability: str
    calls: int
    seconds: float
    balance: str
    overlapping: bool

    @property
    def rules(self) -> Rules:
        """As its manifest would say."""
        return Rules(("remote", "local"), self.dwell, self.queue, 1, self.durability, self.calls, self.seconds)


@dataclass(frozen=True, slots=True)
class Clients:
    """[clients.NAME]: so many, alike and independent. `rate` is the long-run mean outside local phases."""

    name: str
    function: str
    count: int
    rate: float
    arrivals: str
    burst: float
    calm: float
    factor: float
    period: float
    swing: float
    trace: tuple[tuple[float, int], ...]
    local_share: float
    local_phase: float
    local_rate: float | None
    roams: float
    since: float
    until: float
    nodes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """[failure.NAME]: a node is killed, and is back after a while."""

    node: int
    at: float
    lasts: float


@dataclass(frozen=True, slots=True)
class Scenario:
    """A whole file. `containers`: of each node; `static`: the numbers of local sessions to compare with."""

    name: str
    title: str
    seed: int
    duration: float
    warmup: float
    static: tuple[int, ...] | None
    containers: tuple[int, ...]
    link: float
    device: float
    gossip: float
    detect: float
    store_delay: float
    store_speed: float
    policy_period: float
    settings: Settings
    functions: dict[str, Function]
    clients: tuple[Clients, ...]
    failures: tuple[Failure, ...]

    @property
    def nodes(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(f"n{number + 1}" for number in range(len(self.containers)))


def load_scenario(path: Path, seed: int | None = None) -> Scenario:
    """The scenario in a file, with its own seed or another. Raises Mistakes, OSError."""
    try:
        source = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise Mistakes([(line, f"not UTF-8: {error}")], str(path)) from None
    found = parse_scenario(source, path.stem, path.parent, str(path))
    return found if seed is None else replace(found, seed=seed)


def parse_scenario(source: str, name: str, folder: Path, shown: str = "") -> Scenario:
    """The scenario, or Mistakes with every line that is wrong. Traces are looked for in `folder`."""
    values = s.read(source, SCHEMA, shown)
    checks = _Checks(source, values, folder)
    scenario = checks.scenario(name)
    if checks.wrong:
        raise Mistakes(checks.wrong, shown)
    return scenario


class _Checks:
    """What one section alone cannot tell."""

    def __init__(self, source: str, values: dict[str, dict[str, Any]], folder: Path) -> None:
        self._where = s.locate(source)
        self._values = values
        self._folder = folder
        self.wrong: list[tuple[int, str]] = []

    def scenario(self, name: str) -> Scenario:
        """Everything in its place; what is wrong is in `wrong`."""
        values = self._values
        head, mesh, store, policy = (dict(values[key]) for key in ("scenario", "mesh", "store", "policy"))
        period = policy.pop("period")
        containers = self._containers(mesh.pop("nodes"), mesh.pop("containers"))
        functions = {key: Function(key, **row) for key, row in self._family("function")}
        self._need(bool(functions), "scenario", "", "no [function.NAME] is there")
        clients = tuple(self._clients(key, row, functions, len(containers)) for key, row in self._family("clients"))
        failures = tuple(self._failure(key, row, len(containers)) for key, row in self._family("failure"))
        self._need(head["duration"] > 0, "scenario", "duration", "a time above 0 was expected")
        self._need(head["warmup"] < max(head["duration"], 1e-9), "scenario", "warmup", "shorter than duration was expected")
        return Scenario(
            name=name,
            **head,
            containers=containers,
            **mesh,
            store_delay=store["delay"],
            store_speed=store["bytes_per_second"],
            policy_period=period,
            settings=Settings(**policy),
            functions=functions,
            clients=clients,
            failures=failures,
        )

    def _family(self, head: str) -> list[tuple[str, dict[str, Any]]]:
        start = f"{head}."
        return [(key.removeprefix(start), dict(row)) for key, row in self._values.items() if key.startswith(start)]

    def _need(self, holds: bool, section: str, key: str, text: str) -> None:
        if not holds:
            line = self._where.get((section, key), self._where.get((section, ""), 1))
            self.wrong.append((line, f"{section}.{key}: {text}" if key else text))

    def _containers(self, nodes: int, given: tuple[int, ...]) -> tuple[int, ...]:
        self._need(len(given) in (1, nodes), "mesh", "containers", f"one number, or one for each of {nodes} nodes, was expected")
        return given if len(given) == nodes else given[:1] * nodes

    def _clients(self, name: str, row: dict[str, Any], functions: dict[str, Function], nodes: int) -> Clients:
        section = f"clients.{name}"
        known = ", ".join(functions)
        self._need(row["function"] in functions, section, "function", f"one of {known} was expected, not {row['function']!r}")
        self._need(all(node < nodes for node in row["nodes"]), section, "nodes", f"there are {nodes} nodes")
        row["trace"] = self._trace(section, row)
        return Clients(name=name, since=row.pop("from"), **row)

    def _failure(self, name: str, row: dict[str, Any], nodes: int) -> Failure:
        self._need(row["node"] < nodes, f"failure.{name}", "node", f"there are {nodes} nodes")
        return Failure(**row)

    def _trace(self, section: str, row: dict[str, Any]) -> tuple[tuple[float, int], ...]:
        """`seconds,client` a line, in order; clients are numbered from 0."""
        wanted = row["arrivals"] == "trace"
        self._need(wanted == bool(row["trace"]), section, "trace", 'goes with arrivals = "trace"')
        if not wanted or not row["trace"]:
            return ()
        try:
            return tuple(_trace_rows((self._folder / row["trace"]).read_text(encoding="utf-8"), row["count"]))
        except (OSError, ValueError) as error:
            self._need(False, section, "trace", str(error))
            return ()


def _trace_rows(text: str, clients: int) -> list[tuple[float, int]]:
    rows: list[tuple[float, int]] = []
    for number, line in enumerate(text.splitlines(), 1):
        at, _, client = line.partition(",")
        try:
            rows.append((float(at), int(client)))
        except ValueError:
            raise ValueError(f"line {number}: seconds,client was expected, not {line!r}") from None
        if rows[-1][0] < (rows[-2][0] if len(rows) > 1 else 0.0) or not 0 <= rows[-1][1] < clients:
            raise ValueError(f"line {number}: times rise and clients go from 0 to {clients - 1}")
    return rows
