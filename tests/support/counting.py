"""A client of `keyed` that counts without a break and knows what the next answer has to be."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from edged_protocol.blocking import connect
from edged_protocol.errors import CallError, Code, UnknownOutcome
from support.nodes import PATIENCE, until


class Counting:
    """A client that counts without a break; `total` calls are acknowledged."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._stop = threading.Event()
        self.total = 0
        self.failure: Exception | None = None
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            with connect([self._address], name="counting") as mesh:
                session = mesh.session("keyed", "s")
                while not self._stop.is_set():
                    try:
                        assert session.call("incr", timeout=PATIENCE) == self.total + 1
                        self.total += 1
                    except UnknownOutcome as error:
                        # Whether it counted is not known any more; this client is the only one, so the state tells.
                        assert error.code == Code.OUTCOME_FORGOTTEN, error
                        found = session.call("get", "n", timeout=PATIENCE)
                        assert found in (self.total, self.total + 1)
                        self.total = found
        except (AssertionError, CallError, OSError) as error:
            self.failure = error

    def end(self) -> int:
        """Stop; how many were acknowledged."""
        self._stop.set()
        self._thread.join(60)
        assert self.failure is None, self.failure
        return self.total

    @property
    def ended(self) -> bool:
        """Whether it has failed or stopped."""
        return self.failure is not None or not self._thread.is_alive()


@contextmanager
def counting(address: str) -> Iterator[Counting]:
    """One at work."""
    counter = Counting(address)
    counter._thread.start()
    try:
        until(lambda: counter.total > 0 or counter.failure is not None)
        yield counter
    finally:
        counter._stop.set()
        counter._thread.join(60)
