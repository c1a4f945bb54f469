"""Runs a node with its connections first and trio as their guest (DESIGN §11).

Decides what a node's thread waits for: the hub's sockets and a bell. Trio's guest mode leaves its own waiting to a
thread, which rings the bell when a task has to run; a call that a connection brings is answered without trio having a
turn, which takes 20 microseconds of processor time where a call takes ten. The price is paid by what goes through
trio, connecting, deploying, moving sessions: one change of threads each time it wakes.

Not taken: waiting for trio's own epoll beside the hub's (it is private); an event loop of our own without trio
(everything but calls is better off with it).
"""

import os
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import trio
from outcome import Outcome

from .hub import Hub


class Bell:
    """Wakes the hub from another thread."""

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def ring(self) -> None:
        """From any thread."""
        os.eventfd_write(self.fd, 1)

    def readable(self) -> None:
        """It was heard."""
        os.eventfd_read(self.fd)

    def cut(self, reason: str) -> None:
        """It is no connection: nothing to end."""


def run(main: Callable[[Hub], Awaitable[Any]]) -> Any:
    """`trio.run(main, hub)`, with the hub's connections read outside trio's turns."""
    hub, bell, soon = Hub(), Bell(), deque[Callable[[], object]]()
    outcomes: list[Outcome[Any]] = []
    hub.hosts = True
    hub.add(bell.fd, bell)

    def ring(action: Callable[[], object]) -> None:
        soon.append(action)
        bell.ring()

    trio.lowlevel.start_guest_run(
        main,
        hub,
        run_sync_soon_threadsafe=ring,
        run_sync_soon_not_threadsafe=soon.append,
        done_callback=outcomes.append,
        restrict_keyboard_interrupt_to_checkpoints=True,
    )
    try:
        while not outcomes:
            hub.look(0 if soon else hub.patience())
            for _ in range(len(soon)):
                soon.popleft()()
    finally:
        hub.close()
        os.close(bell.fd)
    return outcomes[0].unwrap()
