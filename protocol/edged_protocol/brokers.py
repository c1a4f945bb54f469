"""Which broker to try next (DESIGN §4 WELCOME, GOAWAY).

Decides the order of candidates and how long one that failed is left alone. Refuses to know sockets. Those
given come first, in their order; those the mesh tells of join behind them, but never a path on this machine.
"""

from collections.abc import Container, Iterable
from dataclasses import dataclass
from math import inf
from typing import Any, NamedTuple

from .retrying import FIRST_PAUSE, LONGEST_PAUSE, Chance, doubled

MAX_BROKERS = 64
"""Candidates kept; a client needs a few that live, not a map of the mesh."""


class Address(NamedTuple):
    """A TCP address, or with `port` None the path of a Unix socket."""

    host: str
    port: int | None

    def __str__(self) -> str:
        if self.port is None:
            return f"unix:{self.host}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """`host:port`, `[v6]:port` or `unix:/path`. Raises ValueError."""
    if text.startswith("unix:"):
        if len(text) == len("unix:") or "\0" in text:
            raise ValueError(f"{text!r} names no socket")
        return Address(text.removeprefix("unix:"), None)
    host, _, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r}: an IPv6 address is written [address]:port")
    if not host or not host.isprintable() or not port.isascii() or not port.isdigit():
        raise ValueError(f"{text!r} is not host:port")
    if not 0 < int(port[:6]) < 65536:
        raise ValueError(f"{text!r} has no valid port")
    return Address(host, int(port))


@dataclass(slots=True)
class Candidate:
    """An address that may lead to the mesh. `reason` says how it failed last."""

    address: Address
    given: bool
    failures: int = 0
    not_before: float = -inf
    reason: str = ""


class Brokers:
    """The candidates, bounded. Those given are never forgotten."""

    def __init__(self, given: Iterable[str], chance: Chance) -> None:
        addresses = [parse_address(text) for text in given]
        if not 0 < len(addresses) <= MAX_BROKERS:
            raise ValueError(f"1 to {MAX_BROKERS} brokers are needed")
        self._known = {address: Candidate(address, True) for address in addresses}
        self._chance = chance
        self._nodes: dict[str, Address] = {}

    def __len__(self) -> int:
        return len(self._known)

    def learn(self, rows: Any, busy: Container[Address]) -> None:
        """Brokers as WELCOME and GOAWAY list them, `[node, address]`; what is malformed is skipped."""
        for row in rows[:MAX_BROKERS] if isinstance(rows, list) else ():
            text = row[1] if isinstance(row, list) and len(row) == 2 else None
            try:
                address = parse_address(text) if isinstance(text, str) else None
            except ValueError:
                continue
            if address is None or address.port is None:
                continue
            if address not in self._known:
                self._add(address, busy)
            if isinstance(row[0], str) and (row[0] in self._nodes or len(self._nodes) < MAX_BROKERS):
                self._nodes[row[0]] = address

    def of_node(self, node: str, now: float) -> Address | None:
        """Where that node may be dialled now, if the mesh has told."""
        candidate = self._known.get(self._nodes.get(node, Address("", None)))
        return candidate.address if candidate is not None and candidate.not_before <= now else None

    def _add(self, address: Address, busy: Container[Address]) -> None:
        if len(self._known) >= MAX_BROKERS:
            old = [c for c in self._known.values() if not c.given and c.address not in busy]
            if not old:
                return
            del self._known[max(old, key=lambda candidate: candidate.failures).address]
        self._known[address] = Candidate(address, False)

    def choose(self, now: float, busy: Container[Address]) -> Address | None:
        """The candidate to dial now: of those that may be, the first that failed least."""
        ready = [c for c in self._free(busy) if c.not_before <= now]
        return min(ready, key=lambda candidate: candidate.failures).address if ready else None

    def next_time(self, busy: Container[Address]) -> float:
        """When the next candidate may be dialled; infinite if there is none."""
        return min((candidate.not_before for candidate in self._free(busy)), default=inf)

    def _free(self, busy: Container[Address]) -> list[Candidate]:
        return [c for c in self._known.values() if c.address not in busy]

    def failed(self, address: Address, reason: str, now: float, *, refused: bool = False) -> None:
        """Leave it alone for a while: longer each time, longest if it refused in so many words."""
        candidate = self._known.get(address)
        if candidate is None:
            return
        pause = LONGEST_PAUSE if refused else doubled(FIRST_PAUSE, candidate.failures)
        candidate.not_before = now + pause * self._chance.uniform(0.5, 1.0)
        candidate.failures += 1
        candidate.reason = reason

    def worked(self, address: Address) -> None:
        """It served for a while: earlier failures no longer count."""
        candidate = self._known.get(address)
        if candidate is not None:
            candidate.failures = 0

    @property
    def exhausted(self) -> bool:
        """Whether every candidate has failed since it last served."""
        return all(candidate.failures for candidate in self._known.values())

    def explain(self) -> str:
        """How each that failed did, in one line."""
        told = [f"{c.address}: {c.reason}" for c in self._known.values() if c.reason]
        return "; ".join(told) or "no broker answered"
