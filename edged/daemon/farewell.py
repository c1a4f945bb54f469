"""Containers that are no longer needed: told to stop, so that they can clean up, and killed when they do not (SPEC "Containers").

Decides for how long one may take. What it still says is not heard: nobody waits for it. One that runs a call is killed at once:
its session may be served elsewhere by now, and what it does outside would be done twice.
"""

from collections.abc import Iterator

import trio

from .deployed import Worker

STOP_SECONDS = 1.0
"""Between `worker.stop` and SIGKILL: to close files and connections. Its slot is taken for so long; to give it away at once
was the alternative, and gave it to whoever asked first instead of who had waited longest."""

MOST = 16
"""Containers leaving at a time: of an idle one the slot is promised already, so they may be more than there are slots. One
more is killed, so that memory stays bounded."""


class Farewell:
    """`begin` for each container, `ended` when it has."""

    def __init__(self, serials: Iterator[int]) -> None:
        self._serials = serials
        self.leaving: set[Worker] = set()

    def begin(self, worker: Worker, nursery: trio.Nursery) -> None:
        """Tell it to stop, and see to it that it does."""
        self.leaving.add(worker)
        if worker.calls or len(self.leaving) > MOST:
            _kill(worker)
            return
        worker.request(next(self._serials), "worker.stop", {}, None, lambda _: None)
        worker.link.flush()
        nursery.start_soon(self._see_off, worker)

    async def _see_off(self, worker: Worker) -> None:
        with trio.move_on_after(STOP_SECONDS):
            await worker.gone.wait()
        _kill(worker)

    def ended(self, worker: Worker) -> None:
        """It is gone."""
        worker.gone.set()
        self.leaving.discard(worker)

    async def all_gone(self) -> None:
        """Until none is left that was told to stop before."""
        for worker in list(self.leaving):
            await worker.gone.wait()


def _kill(worker: Worker) -> None:
    worker.container.kill()
    worker.link.cut("no longer needed")
