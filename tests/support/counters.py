"""Counters with other promises than the example's, and devices that count with them by the book."""

import os
from pathlib import Path
from typing import Any

from edged_protocol.errors import Code, NotRunRetry, UnknownOutcome
from support.nodes import COUNTER, Nodes, edgectl, until
from support.wire_client import WireClient


def a_counter(root: Path, name: str, durability: str) -> Path:
    """The counter under another name, with `durability`."""
    directory = root / name
    directory.mkdir()
    (directory / "counter.py").write_bytes((COUNTER / "counter.py").read_bytes())
    (directory / "function.toml").write_text(
        f'[function]\nname = "{name}"\nentry = "counter:fn"\n[modes]\nmin_dwell = "0s"\n[durability]\n{durability}\n'
    )
    return directory


class Device:
    """One that repeats each call by the book, and keeps what its answers said."""

    def __init__(self, address: str, function: str) -> None:
        self._client = WireClient(address)
        self._function = function
        self.given_up = False
        self.epochs: list[int] = []
        self.codes: set[int] = set()
        self.meta: dict[str, Any] = {}
        self._last = b""

    def incr(self) -> int:
        """The new value; 0 once it is `given_up`, or if nobody remembers what became of the call. Raises CallError for what is not to be repeated."""
        call_id, attempt = os.urandom(16), 0
        self._last = call_id
        answered: list[int] = []

        def done() -> bool:
            nonlocal attempt
            if self.given_up:
                return True
            try:
                value, self.meta = self._client.once(
                    self._function, "s", "incr", call_id=call_id, attempt=attempt, timeout_ms=1000
                )
            except (NotRunRetry, UnknownOutcome) as error:
                self.codes.add(error.code)
                if error.meta.get("state_lost"):
                    raise
                if error.code == Code.OUTCOME_FORGOTTEN:
                    return True
                attempt += isinstance(error, UnknownOutcome)
                return False
            self.epochs.append(self.meta["epoch"])
            answered.append(value)
            return True

        until(done)
        return answered[0] if answered else 0

    def again(self) -> int:
        """What the last call gets when it is repeated, as if its answer had been lost."""
        value, self.meta = self._client.once(self._function, "s", "incr", call_id=self._last, attempt=1, timeout_ms=1000)
        return int(value)

    def close(self) -> None:
        self._client.close()


def localized(nodes: Nodes, function: str, at: str) -> None:
    edgectl(nodes.addresses[at], "session", "localize", f"{function}/s", "--to", at)


def stored(nodes: Nodes, function: str) -> int:
    return int(edgectl(nodes.addresses["n1"], "session", "get", f"{function}/s")["stored_version"])


