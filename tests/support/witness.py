"""Clients of `ledger` that remember what they were told, and what that promises (reliability §3, checker).

One thread for each session calls it without a break while nodes die and sessions move. What it was told must fit one
sequential execution: each acknowledged call is in the ledger once, at the place its answer named.
"""

import threading
from collections.abc import Callable

from edged_protocol.blocking import connect
from edged_protocol.client import Answer
from edged_protocol.errors import CallError

FUNCTION = "ledger"
TIMEOUT = 60.0
"""Seconds for one call through everything that a test does to the mesh."""


class Witness:
    """The calls of one session."""

    def __init__(self, brokers: list[str], session: str) -> None:
        self.session = session
        self.acknowledged: list[tuple[str, Answer]] = []
        self.failed: list[tuple[str, CallError]] = []
        self._brokers = brokers
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._call, name=session, daemon=True)
        self._thread.start()

    def _call(self) -> None:
        with connect(self._brokers, name=self.session, timeout=TIMEOUT) as mesh:
            ledger, number = mesh.session(FUNCTION, self.session), 0
            while not self._over.is_set():
                number += 1
                token = f"{self.session}-{number}"
                try:
                    self.acknowledged.append((token, ledger.invoke("add", token, timeout=TIMEOUT)))
                except CallError as error:
                    self.failed.append((token, error))

    def goes_on(self) -> Callable[[], bool]:
        """Whether a call that began after now has been answered."""
        seen = len(self.acknowledged)
        return lambda: len(self.acknowledged) > seen + 1

    def stop(self) -> None:
        """After the call that runs."""
        self._over.set()
        self._thread.join(2 * TIMEOUT)
        assert not self._thread.is_alive()

    def check(self, address: str) -> list[str]:
        """Stop, and compare with the ledger; what was acknowledged and is lost."""
        self.stop()
        with connect([address], name="auditor", timeout=TIMEOUT) as mesh:
            lines: list[str] = mesh.session(FUNCTION, self.session).call("read", timeout=TIMEOUT)
        assert len(set(lines)) == len(lines), "a call took effect twice"
        epochs = [answer.epoch or 0 for _, answer in self.acknowledged]
        assert epochs == sorted(epochs), "an answer of an older epoch was believed"
        lost = [token for token, _ in self.acknowledged if token not in lines]
        kept = [token for token, _ in self.acknowledged if token in lines]
        assert [token for token in lines if token in set(kept)] == kept, "calls changed places"
        if not lost:
            for token, answer in self.acknowledged:
                assert lines[answer.value - 1] == token, "an answer was of another state"
        return lost
