"""Readers beside a handler that keeps its thread: another thread, woken by the daemon (SPEC "Containers").

Decides who of the two may touch what: whoever holds the gate. The serve loop has it but while a handler runs; the
other thread takes it then to read the socket and to copy the state, and lets go of it while a reader runs. A signal
wakes that thread, as the daemon alone knows that a reader waits behind a long call; to have it look at the socket by itself
was the alternative, and cost every call a second wakeup. A function without readers has no thread and no gate.
Refuses to know what a reader is.
"""

import signal
import threading
from collections.abc import Callable

from .channel import Closed

WAKE = signal.SIGUSR2
"""Sent to containers whose HELLO says `beside`. It is blocked in every thread, so that no system call is broken off."""


class Beside:
    """The gate, and the thread that runs `look` while the serve loop is in a handler."""

    def __init__(self, look: Callable[[], None]) -> None:
        self.gate = threading.RLock()
        self._look = look
        self._ended = False
        signal.pthread_sigmask(signal.SIG_BLOCK, {WAKE})
        self._thread = threading.Thread(target=self._run, name="readers", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            signal.sigwait({WAKE})
            if self._ended:
                return
            if self.gate.acquire(blocking=False):  # else the loop itself is about to look
                try:
                    self._look()
                except Closed:
                    return
                finally:
                    self.gate.release()

    def close(self) -> None:
        """End the thread, once what it runs has ended."""
        self._ended = True
        if self._thread.is_alive():
            signal.pthread_kill(self._thread.ident or 0, WAKE)
