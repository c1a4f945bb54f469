"""What is measured: every row of the table with the load that fills it (see run.py for the order).

Each row has a connection of its own, opened once. Rows of edged are asked where and in which mode they ran,
before the first round and after the last: a figure of the wrong path would be worse than none.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import NamedTuple

import machine
import mesh
import natspair
from generator import Line, Round, Target
from processes import Children
from report import NATS, Row

SESSIONS = 64
ECHO = Target("echo", args=(b"x" * 125,))
"""Its body has 128 bytes: an array of one byte string."""

RAW = ("raw echo", "raw, 1 relay", "raw, 2 relays")
RAW_APART = f"{RAW[2]}, apart"


class WrongPath(Exception):
    """A row's calls did not run where the row says."""


class Work(NamedTuple):
    """A row, how to run one round of it, how to make sure that it is what it says, and where its processes are meanwhile."""

    row: Row
    drive: Callable[[float], Round]
    check: Callable[[], None]
    placed: Callable[[], AbstractContextManager[None]] = nullcontext


def _nothing() -> None:
    """The raw chains and NATS have one path only."""


def raw(children: Children) -> list[Work]:
    """The raw chains with none, one and two relays."""
    works: list[Work] = []
    for relays, name in enumerate(RAW):
        line = Line(children.chain(relays))
        works += [_driven(name, k, name, line, [ECHO], _nothing) for k in (1, 64)]
    *behind, head = children.pids[-len(RAW) :]
    rows = [_driven(RAW_APART, k, RAW_APART, line, [ECHO], _nothing) for k in (1, 64)]
    return works + _apart(rows, [head], behind)


def edged(far: mesh.Node, near: mesh.Node) -> list[Work]:
    """Stateless calls through one node and both, sessions of both modes at their node."""
    works: list[Work] = []
    for name, entry, length in (("local", far, RAW[1]), ("second", near, RAW[2])):
        works += _rows(f"edged echo, {name} node", entry, length, [ECHO], None)
    rows = _rows("edged echo, second node, apart", near, RAW_APART, [ECHO], None)
    works += _apart(rows, [near.process.pid], [far.process.pid])
    for mode in ("remote", "local"):
        targets = [Target("counter", f"{mode}-{n}", "incr", once=True) for n in range(SESSIONS)]
        if mode == "local":
            mesh.localize(far, targets)
        works += _rows(f"edged counter, {mode}-state, 1 session", far, RAW[1], targets[:1], mode)
        many = f"edged counter, {mode}-state, {SESSIONS} sessions"
        works += _rows(many, far, RAW[1], targets, mode)[1:]
    return works


def density(children: Children, root: Path) -> list[Work]:
    """As many local sessions, each in a container of its own or eight in one."""
    node = mesh.start_node(children, root, "dense", "sqlite:", SESSIONS + SESSIONS // 8 + 8, [])
    works: list[Work] = []
    for sharing in (1, 8):
        name = f"counter-{sharing}"
        with Line(node.address, "operator") as operator:
            mesh.deploy(operator, mesh.a_counter(root, name, sharing))
        targets = [Target(name, f"s{n}", "incr", once=True) for n in range(SESSIONS)]
        mesh.localize(node, targets)
        shown = f"edged counter, {SESSIONS} local sessions in {SESSIONS // sharing}"
        works += _rows(shown, node, RAW[1], targets, "local", "dense")[1:]
    return works


def _rows(
    name: str, entry: mesh.Node, length: str, targets: list[Target], mode: str | None, runs_on: str = "far"
) -> list[Work]:
    line = Line(entry.address)

    def check() -> None:
        for target in targets:
            _, meta = line.call(target)
            if (meta.get("node"), meta.get("mode")) != (runs_on, mode):
                raise WrongPath(f"{name}: {target.session} ran on {meta}")

    return [_driven(name, in_flight, length, line, targets, check) for in_flight in (1, 64)]


def _driven(
    name: str,
    in_flight: int,
    length: str,
    line: Line,
    targets: list[Target],
    check: Callable[[], None],
) -> Work:
    def drive(seconds: float) -> Round:
        return line.drive(targets, in_flight, seconds=seconds)

    return Work(Row(name, in_flight, length), drive, check)


def _apart(works: list[Work], first: list[int], second: list[int]) -> list[Work]:
    """The same with each node on a core of its own, as far as there are two."""
    placed = partial(machine.apart, first, second)
    return [work._replace(placed=placed) for work in works] if len(machine.cores()) > 1 else []


def nats(children: Children) -> list[Work]:
    """NATS through one server, as far as it is installed."""
    pair = natspair.Pair(children, mesh.free_address())

    def work(in_flight: int) -> Work:
        row = Row(NATS, in_flight, RAW[1])
        return Work(row, lambda seconds: pair.drive(in_flight, seconds), _nothing)

    return [work(1), work(64)]
