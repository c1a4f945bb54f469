"""How long a session's calls wait while it moves, seen by its client.

Three nodes on loopback; the client talks to the first, which also serves the store; the session moves between the two
others while the client calls it without a break. A pause is the longest time that a call took which was under way
during the move. `live` copies the state first, `stop-and-copy` does the same with the session stopped all the time, by
turns. Of the large state one per cent of the keys changes each second. Localize and externalize beside them.

    python tools/bench/migration.py            # about two minutes
    python tools/bench/migration.py --quick    # to see that it works
"""

import argparse
import os
import random
import sys
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple, Self

import machine

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from support.keyed import keyed  # noqa: E402 - the tests' own nodes and function
from support.nodes import Nodes, deploy, served_by  # noqa: E402
from support.wire_client import WireClient  # noqa: E402

VALUE = 1024
ECHOES = 100.0
"""Calls a second, at each node, beside the migrations of the large state."""

SETTLED = 0.3
"""Seconds between two moves: the checkpoint after one is no part of the next."""


class Span(NamedTuple):
    """One call, or one move: when it began and ended."""

    began: float
    ended: float


class Caller:
    """A client that changes one key of `keys` after another, `pace` a second at most, until it is told to stop."""

    def __init__(self, address: str, session: str, keys: int, pace: float) -> None:
        self._address, self._session, self._keys, self._pace = address, session, keys, pace
        self._stop = threading.Event()
        self.calls: list[Span] = []
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        chance = random.Random(1)
        with closing(WireClient(self._address)) as device:
            while not self._stop.is_set():
                began = time.perf_counter()
                key = f"k{chance.randrange(self._keys)}"
                device.call("keyed", self._session, "put", key, chance.randbytes(VALUE if self._keys > 1 else 900))
                ended = time.perf_counter()
                self.calls.append(Span(began, ended))
                time.sleep(max(0.0, 1 / self._pace - (ended - began)))

    def during(self, moves: list[Span]) -> list[float]:
        """Seconds of the calls that began while one of these moves was under way."""
        return [c.ended - c.began for c in self.calls if any(m.began < c.began < m.ended for m in moves)]

    def apart_from(self, moves: list[Span]) -> list[float]:
        """Those of the calls that no move touched."""
        touched = [(m.began - 0.05, m.ended + 0.05) for m in moves]
        return [c.ended - c.began for c in self.calls if not any(c.ended > began and c.began < ended for began, ended in touched)]

    def pause(self, move: Span) -> float:
        """Seconds of the longest call that was under way during the move."""
        return max(c.ended - c.began for c in list(self.calls) if c.ended > move.began and c.began < move.ended)

    def usual(self, moves: list[Span]) -> float:
        """The median of the calls that no move touched."""
        calm = sorted(self.apart_from(moves))
        return calm[len(calm) // 2]


class Echo(Caller):
    """A client that calls the function without a session, at a node that runs such calls itself: what they take longer
    while a state passes through that node is what its loop stands still for, or its processor is used for."""

    def _run(self) -> None:
        with closing(WireClient(self._address)) as device:
            while not self._stop.is_set():
                began = time.perf_counter()
                device.call("keyed", None, "echo", 1)
                ended = time.perf_counter()
                self.calls.append(Span(began, ended))
                time.sleep(max(0.0, 1 / self._pace - (ended - began)))


def at(share: float, ordered: list[float]) -> float:
    """Milliseconds that so many of them did not exceed."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000


def beside(name: str, samples: list[float]) -> str:
    """A line of the table of other calls."""
    ordered = sorted(samples)
    return f"| {name} | {len(ordered)} | {at(0.5, ordered):.2f} | {at(0.99, ordered):.2f} | {ordered[-1] * 1000:.1f} |"


BESIDE = "| calls without a session, 100 a second at each node | n | p50, ms | p99 | max |\n|---|---:|---:|---:|---:|"


class Row(NamedTuple):
    """Of one kind of move: what each showed."""

    name: str
    pauses: list[float]
    moves: list[dict[str, Any]]
    spans: list[Span]
    usual: float

    def shown(self) -> str:
        """A line of the table."""
        ordered = sorted(self.pauses)
        size, wire = self._mean("bytes") / 2**20, self._mean("wire_bytes") / 2**20
        return (
            f"| {self.name} | {len(ordered)} | {at(0.5, ordered):.1f} | {at(0.99, ordered):.1f} | {self._mean('pause_ms'):.1f} "
            f"| {self._mean('copy_ms'):.0f} | {self._mean('rounds'):.1f} | {size:.2f} | {wire:.2f} | {self.usual * 1000:.2f} |"
        )

    def _mean(self, name: str) -> float:
        return fmean(move.get(name, 0) for move in self.moves)


HEAD = (
    "| move | n | pause p50, ms | p99 | mean as the owner has it | copied before, ms | rounds | MiB moved | on the wire | a call otherwise, ms |\n"
    "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
)


def migrations(address: str, session: str, keys: int, pace: float, moves: int) -> list[Row]:
    """By turns live and stop-and-copy, between b and c."""
    size = "1 KiB" if keys == 1 else f"{keys * VALUE // 2**20} MiB {session}"
    rows = {how: Row(f"migrate {size}, {how}", [], [], [], 0.0) for how in ("live", "stop-and-copy")}
    spans: list[Span] = []
    with closing(WireClient(address, "operator")) as operator, Caller(address, session, keys, pace) as caller:
        time.sleep(1.0)
        for number in range(2 * moves):
            # Two of each in a row: one way live and the other way stopped would compare directions.
            how = "live" if number % 4 < 2 else "stop-and-copy"
            to = "c" if number % 2 == 0 else "b"
            params = {"function": "keyed", "session": session, "to": to, "force": True, "stop": how != "live"}
            began = time.perf_counter()
            moved = operator.request("session.migrate", params)
            span = Span(began, time.perf_counter())
            time.sleep(SETTLED)
            spans.append(span)
            rows[how].pauses.append(caller.pause(span))
            rows[how].moves.append(moved)
            rows[how].spans.append(span)
        usual = caller.usual(spans)
    return [row._replace(usual=usual) for row in rows.values()]


def noticed(rows: list[Row], echoes: dict[str, Echo]) -> str:
    """What else was called at the source and at the target during each kind of move, and when nothing moved."""
    spans = [span for row in rows for span in row.spans]
    lines = [beside("nothing moves", [took for echo in echoes.values() for took in echo.apart_from(spans)])]
    for row in rows:
        for end in ("source", "target"):
            samples: list[float] = []
            for node, echo in echoes.items():
                moves = zip(row.moves, row.spans, strict=True)
                samples += echo.during([span for move, span in moves if (move["node"] == node) is (end == "target")])
            lines.append(beside(f"at the {end}: {row.name}", samples))
    return "\n".join(lines)


def transitions(address: str, session: str, moves: int) -> list[Row]:
    """Localize on b and externalize, by turns, of a state of 1 KiB."""
    rows = {verb: Row(f"{verb} 1 KiB", [], [], [], 0.0) for verb in ("localize", "externalize")}
    spans: list[Span] = []
    with closing(WireClient(address, "operator")) as operator, Caller(address, session, 1, 2000.0) as caller:
        time.sleep(0.5)
        for number in range(2 * moves):
            verb = "localize" if number % 2 == 0 else "externalize"
            params = {"function": "keyed", "session": session, "to": "b"}
            began = time.perf_counter()
            moved = operator.request(f"session.{verb}", params)
            span = Span(began, time.perf_counter())
            time.sleep(SETTLED)
            spans.append(span)
            rows[verb].pauses.append(caller.pause(span))
            rows[verb].moves.append(moved)
            rows[verb].spans.append(span)
        usual = caller.usual(spans)
    return [row._replace(usual=usual) for row in rows.values()]


def prepare(address: str, session: str, keys: int, method: str = "fill") -> None:
    """The session on b, with its state."""
    with closing(WireClient(address, "operator")) as operator:
        operator.request("session.localize", {"function": "keyed", "session": session, "to": "b"})
        for first in range(0, keys, 1000):
            operator.call("keyed", session, method, first, min(1000, keys - first), VALUE if keys > 1 else 900)


def measure(root: Path, small: int, large: int, mib: int) -> None:
    """Everything, once."""
    nodes = Nodes(root)
    try:
        addresses = [nodes.start(name) for name in "abc"]
        rows = []
        for name, durability, moves, keys in (("small", "checkpoint", small, 1), ("large", "none", large, mib * 2**20 // VALUE)):
            bundle = keyed(
                root / name,
                state='max_bytes = "100MiB"',
                limits='memory = "2GiB"',
                durability=f'local = "{durability}"',
                modes='min_dwell = "0s"',
            )
            deploy(addresses[0], bundle)
            for address in addresses:
                served_by(address, "keyed", 3)
            if keys == 1:
                prepare(addresses[0], name, keys)
                rows += migrations(addresses[0], name, keys, 2000.0, moves)
                rows += transitions(addresses[0], "both", small)
        moved = []
        with Echo(addresses[1], "", 0, ECHOES) as b, Echo(addresses[2], "", 0, ECHOES) as c:
            for session, method in (("of zeros", "fill"), ("of noise", "noise")):
                prepare(addresses[0], session, keys, method)
                moved += migrations(addresses[0], session, keys, keys / 100, moves)
        print(HEAD)
        for row in rows + moved:
            print(row.shown())
        print(f"\n{BESIDE}")
        print(noticed(moved, {"b": b, "c": c}))
    finally:
        nodes.close()


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few moves of a smaller state")
    quick = parser.parse_args().quick
    with machine.idle_states(True) as idle, tempfile.TemporaryDirectory() as root:
        measure(Path(root), *((3, 2, 4) if quick else (60, 10, 64)))
    print(f"\nload of the machine {os.getloadavg()[0]:.1f}; idle states: {idle}")
    print(", ".join(f"{key} {value}" for key, value in machine.description().items()))


if __name__ == "__main__":
    main()
