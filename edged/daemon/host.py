"""Containers as processes: started, watched, killed and reaped (DESIGN §8, §10).

Decides when a zygote is started again and what a container's end means for its descriptors. Refuses to
know calls, pools and frames: nothing here reads or writes a container's socket.

A container is only ever signalled through its pidfd, so never a stranger that got its number. It outlives
its zygote: then it becomes a child of this process, which declared itself the reaper of orphans.
"""

import contextlib
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

import trio

from edged.core.manifest import Manifest
from edged.sdk.launch import become_subreaper

from .cgroups import Cgroups
from .loglines import Pace, read_lines
from .orphans import find_orphans, reap, reap_group
from .tasks import tasks_allowed
from .zygotes import Exit, StartFailed, Zygote, both_ends

__all__ = ["Container", "Host", "Spec", "StartFailed"]

log = logging.getLogger(__name__)

START_SECONDS = 10.0
"""From the request to the container. An import may take longer: then a later start finds it done."""

IMPORT_SECONDS = 120.0
"""An import that takes longer is taken to hang."""

BACKOFF_SECONDS = (0.0, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0)
"""Pause after the n-th failure in a row of one version: a death by accident costs no wait at all."""

REMEMBERED_TROUBLES = 256
"""Versions whose failures are remembered; the oldest is forgotten first."""

TOLD_SECONDS = 1.0
"""A container's exit status comes with the zygote's next packet, unless that is stuck."""

LOG_SECONDS = 0.5
"""After a container's end its pipe is read to its end, or so long if something else holds it open."""

KILL_SECONDS = 2.0
"""A killed process ends at once unless the kernel holds it."""


@dataclass(frozen=True)
class Spec:
    """One version of one function on this node's disk."""

    manifest: Manifest
    hash: str
    path: str
    """The unpacked bundle."""


class Container:
    """One process. The socket belongs to whoever asked for the container, who also closes it."""

    def __init__(self, name: str, pid: int, pidfd: int, sock: socket.socket) -> None:
        self.name = name
        self.pid = pid
        self.sock = sock
        self.dead = trio.Event()
        self.returncode: int | None = None
        self._pidfd = pidfd
        self._closed = trio.Event()

    def kill(self) -> None:
        """SIGKILL, if it still lives."""
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def wake(self) -> None:
        """Tell one whose HELLO says `beside` that readers wait (SPEC "Containers")."""
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGUSR2)

    async def wait(self) -> int | None:
        """Until it has ended and its last line is logged; its status, negative for a signal, if known."""
        await self._closed.wait()
        return self.returncode

    def ended(self, returncode: int | None) -> None:
        """It is gone."""
        self.returncode = returncode
        self.dead.set()

    def close(self) -> None:
        """Nothing is left of it."""
        self.dead.set()
        os.close(self._pidfd)
        self._pidfd = -1
        self._closed.set()


@dataclass
class _Trouble:
    """Failures in a row of one version's zygote."""

    count: int
    until: float
    reason: str


class Host:
    """Zygotes by bundle hash, and the containers they gave."""

    def __init__(self, log: Callable[[str, str, bytes], None], cgroups: Cgroups) -> None:
        self._log = log
        self._pace = Pace()
        self._tasks = 0
        self._cgroups = cgroups
        self._nursery: trio.Nursery | None = None
        self._zygotes: dict[str, Zygote] = {}
        self._running: set[Zygote] = set()
        self._troubles: dict[str, _Trouble] = {}
        self._containers: set[Container] = set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Own the processes; cancelled, it ends them all."""
        become_subreaper()
        self._tasks = await trio.to_thread.run_sync(tasks_allowed)
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._nursery = None

    async def start(self, spec: Spec, name: str) -> Container:
        """A container of that version. Raises StartFailed, at the latest after START_SECONDS."""
        zygote = self._zygote(spec)
        with trio.move_on_after(START_SECONDS):
            container = await self._fork(zygote, spec, name)
            self._troubles.pop(spec.hash, None)
            return container
        if not zygote.ready:
            raise StartFailed(f"still importing after {START_SECONDS:g} s")
        zygote.kill("the zygote did not answer")
        raise StartFailed(f"the zygote did not answer in {START_SECONDS:g} s")

    async def warm(self, spec: Spec) -> bool | None:
        """Import that version, start no container; whether it upgrades older states, if that is known. Raises StartFailed."""
        zygote = self._zygote(spec)
        await zygote.settled()
        return zygote.upgrades

    async def retire(self, hash_: str) -> None:
        """Start no more of that version; its containers run on."""
        self._troubles.pop(hash_, None)
        zygote = self._zygotes.pop(hash_, None)
        if zygote is not None:
            await zygote.retire()

    def _zygote(self, spec: Spec) -> Zygote:
        """That of this version, a new one if need be."""
        zygote = self._zygotes.get(spec.hash)
        if zygote is not None and not zygote.reason:
            return zygote
        trouble = self._troubles.get(spec.hash)
        if zygote is not None and trouble is None:
            raise StartFailed(zygote.reason)  # it is just ending
        left = trouble.until - trio.current_time() if trouble is not None else 0.0
        if trouble is not None and left > 0:
            raise StartFailed(f"{trouble.reason} (next try in {left:.1f} s)")
        return self._new_zygote(spec)

    def _new_zygote(self, spec: Spec) -> Zygote:
        if self._nursery is None:
            raise StartFailed("the worker host is not running")
        manifest = spec.manifest
        setup = {
            "function": manifest.name,
            "entry": manifest.entry,
            "runtime": manifest.runtime,
            "path": spec.path,
            "memory": manifest.limits.memory,
            "tasks": self._tasks,
            "max_state": manifest.state.max_bytes,
            "cpu": manifest.limits.cpu,
            "cgroup": self._cgroups.path,
        }
        zygote = Zygote(setup, partial(self._log, manifest.name, "zygote"), self._pace)
        self._zygotes[spec.hash] = zygote
        self._running.add(zygote)
        self._nursery.start_soon(_contained, partial(self._keep, zygote, spec))
        self._nursery.start_soon(self._limit_import, zygote)
        return zygote

    async def _keep(self, zygote: Zygote, spec: Spec) -> None:
        """Run a zygote to its end and remember how that was."""
        try:
            await zygote.run()
        finally:
            self._running.discard(zygote)
            if self._zygotes.get(spec.hash) is zygote:
                del self._zygotes[spec.hash]
            if zygote.reason and not zygote.retired:
                self._failed(spec, zygote.reason)
            with trio.CancelScope(shield=True):
                await self._reap_orphans(zygote.token)

    async def _limit_import(self, zygote: Zygote) -> None:
        with trio.move_on_after(IMPORT_SECONDS), contextlib.suppress(StartFailed):
            await zygote.settled()
            return
        if not zygote.ready and not zygote.reason:
            zygote.kill(f"importing took longer than {IMPORT_SECONDS:g} s")

    def _failed(self, spec: Spec, reason: str) -> None:
        log.error("%s: %s", spec.manifest.name, reason)
        before = self._troubles.pop(spec.hash, None)
        count = before.count + 1 if before is not None else 0
        pause = BACKOFF_SECONDS[min(count, len(BACKOFF_SECONDS) - 1)]
        while len(self._troubles) >= REMEMBERED_TROUBLES:
            del self._troubles[next(iter(self._troubles))]
        self._troubles[spec.hash] = _Trouble(count, trio.current_time() + pause, reason)

    async def _fork(self, zygote: Zygote, spec: Spec, name: str) -> Container:
        await zygote.settled()
        try:
            ours, theirs, log_fd, log_end = both_ends(socket.SOCK_STREAM)
        except OSError as error:
            raise StartFailed(f"no descriptors for a container: {error}") from error
        try:
            forked = await zygote.fork(name, theirs.fileno(), log_end)
        except BaseException:
            ours.close()
            os.close(log_fd)
            await self._cgroups.remove(name)
            raise
        finally:
            theirs.close()
            os.close(log_end)
        ours.setblocking(False)
        container = Container(name, forked.pid, forked.pidfd, ours)
        self._containers.add(container)
        attend = partial(self._attend, container, forked.exit, log_fd, forked.pidfd, zygote.token)
        if self._nursery is not None:
            self._nursery.start_soon(_contained, partial(attend, spec.manifest.name))
        return container

    async def _attend(
        self, container: Container, exit_: Exit, log_fd: int, pidfd: int, token: str, function: str
    ) -> None:
        """Read what it prints and wait for its end; cancelled, end it."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read_lines, log_fd, partial(self._log, function, container.name), self._pace)
                try:
                    await trio.lowlevel.wait_readable(pidfd)
                finally:
                    container.kill()
                    with trio.CancelScope(shield=True), trio.move_on_after(KILL_SECONDS):
                        await trio.lowlevel.wait_readable(pidfd)
                        container.ended(await self._status(container, exit_, pidfd))
                nursery.cancel_scope.deadline = trio.current_time() + LOG_SECONDS
        finally:
            self._containers.discard(container)
            os.close(log_fd)
            container.close()
            await self._cgroups.remove(container.name)
        if exit_.told.is_set() and exit_.status is None:
            await self._reap_orphans(token)

    async def _status(self, container: Container, exit_: Exit, pidfd: int) -> int | None:
        """From its zygote; without one it is our own child."""
        with trio.move_on_after(TOLD_SECONDS):
            await exit_.told.wait()
        if exit_.status is not None or not exit_.told.is_set():
            return exit_.status
        return reap_group(container.pid, pidfd)

    async def _reap_orphans(self, token: str) -> None:
        """After a zygote's death: end and reap what it had not told us of, and what containers left."""
        known = {container.pid for container in self._containers}
        known |= {zygote.pid for zygote in self._running if zygote.pid is not None}
        for pidfd in await trio.to_thread.run_sync(find_orphans, known, token):
            try:
                with trio.move_on_after(KILL_SECONDS):
                    await trio.lowlevel.wait_readable(pidfd)
                reap(pidfd)
            finally:
                os.close(pidfd)


async def _contained(task: Callable[[], Awaitable[None]]) -> None:
    """One container's or zygote's trouble is never the daemon's."""
    try:
        await task()
    except Exception:
        log.exception("a task of the worker host failed")
