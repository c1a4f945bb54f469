"""A container from its process to its end: its link, its HELLO, and what tells that it is gone (SPEC "Containers").

Decides when one can be used, and when it has ended. Refuses to know what it is wanted for, and
whether there is a slot for it (`workers`, `slots`); how a process is made is `host`'s.
"""

import logging
from collections.abc import Callable, Iterator

import trio

from edged_protocol import messages as m
from edged_protocol.connection import Connection
from edged_protocol.forms import decode_ran
from edged_protocol.limits import MAX_STATE, PROTO

from .deployed import MAX_CHILDREN, Deployed, Worker
from .host import Host, StartFailed
from .hub import Hub
from .link import Link
from .slots import Slots

log = logging.getLogger(__name__)

LAST_WORDS = 0.2
"""Seconds after a container's death in which what it had answered is read."""


async def _cut_when_dead(worker: Worker) -> None:
    """Its socket may be held open by a process that it left behind: then nothing would tell that it has ended."""
    await worker.container.dead.wait()
    await trio.sleep(LAST_WORDS)
    worker.link.cut("its process has ended")


class Lifetimes:
    """`start` one; `received` is what the containers say from then on, `ended` that one is gone."""

    def __init__(
        self,
        host: Host,
        slots: Slots,
        welcome: m.Map,
        serials: Iterator[int],
        received: Callable[[Link, list[m.Message]], None],
        ended: Callable[[Worker], None],
        hub: Hub,
    ) -> None:
        self._host = host
        self._slots = slots
        self._welcome = {"proto": PROTO, "max_frame": MAX_STATE, "max_inflight": MAX_CHILDREN, **welcome}
        self._serials = serials
        self._received = received
        self._ended = ended
        self._hub = hub

    async def start(self, function: Deployed, nursery: trio.Nursery) -> Worker:
        """A container that is ready, in the slot that was begun for it. Raises StartFailed."""
        name = f"{function.spec.manifest.name}-{next(self._serials)}"
        try:
            container = await self._host.start(function.spec, name)
        except BaseException:
            self._slots.failed(function)
            raise
        connection = Connection.acceptor(lambda _: m.Welcome(self._welcome))
        connection.decode = decode_ran
        worker = Worker(function, container, Link(container.sock, connection, self._received, self._hub))
        worker.link.name = name
        worker.link.role = "worker"
        worker.link.info["worker"] = worker
        self._slots.started(worker)
        function.workers.add(worker)
        nursery.start_soon(self._serve, worker)
        await worker.ready.wait()  # one that says no HELLO in time is cut by its link, as any connection
        if worker.link.closed:
            logs = f"see edgectl logs {function.spec.manifest.name}"
            raise StartFailed(f"the container ended while it started: {worker.link.reason} ({logs})")
        return worker

    async def _serve(self, worker: Worker) -> None:
        """A container from its first byte to its end; what fails meanwhile ends this one only."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cut_when_dead, worker)
                await worker.link.run()
                nursery.cancel_scope.cancel()
        except* Exception:
            log.exception("container %s failed", worker.name)
        finally:
            worker.container.kill()
            worker.ready.set()
            self._ended(worker)
