"""Containers as processes: one zygote per function version, forks on request (DESIGN §8).

Starts, kills and reaps; refuses to know calls and sessions. A container is killed by pidfd, never by a
number that may belong to somebody else by then.
"""

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgpack  # type: ignore[import-untyped]
import trio

from edged.core.manifest import Manifest
from edged.sdk.zygote import receive, send

log = logging.getLogger(__name__)

START_SECONDS = 10.0
"""For an import or a fork; a Pi imports numpy in about three."""

MAX_LINE = 8192
"""Bytes of one log line; the rest of a longer one becomes lines of its own."""

LogLine = Callable[[str, str, bytes], None]


class StartFailed(Exception):
    """No container: why, with the tail of the function's traceback."""


@dataclass(frozen=True, slots=True)
class Spec:
    """One installed function version: manifest, content hash, directory of its files."""

    manifest: Manifest
    hash: str
    path: str


class Container:
    """One process; `sock` is the daemon's end of its socket."""

    def __init__(self, name: str, pid: int, pidfd: int, sock: socket.socket) -> None:
        self.name = name
        self.pid = pid
        self.sock = sock
        self._pidfd = pidfd

    def kill(self) -> None:
        """SIGKILL, at once; harmless when it is dead already."""
        if self._pidfd < 0:
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        os.close(self._pidfd)
        self._pidfd = -1


class _Zygote:
    """The daemon's side of one zygote's control socket."""

    def __init__(self, spec: Spec, control: socket.socket, process: subprocess.Popen[bytes]) -> None:
        self.spec = spec
        self.process = process
        self._control = control
        self._serial = 0
        self._answers: dict[int, tuple[trio.Event, list[Any]]] = {}
        self.ready = trio.Event()
        self.failure = ""
        self.dead = False

    async def run(self) -> None:
        """Read what the zygote tells until it is gone."""
        try:
            while await self._read():
                pass
        finally:
            self.dead = True
            self.failure = self.failure or "the zygote died"
            self.ready.set()
            for event, _ in self._answers.values():
                event.set()
            self._control.close()
            self.process.kill()
            self.process.wait()

    async def _read(self) -> bool:
        await trio.lowlevel.wait_readable(self._control)
        data, fds = receive(self._control)
        if not data:
            return False
        message = msgpack.unpackb(data)
        if message[0] == "ready":
            self.ready.set()
        elif message[0] == "failed":
            self.failure = message[1]
        elif message[0] in ("forked", "refused") and message[1] in self._answers:
            event, answer = self._answers[message[1]]
            answer += [message, *fds]
            event.set()
            return True
        for fd in fds:
            os.close(fd)
        return True

    def tell(self, message: list[Any], fds: list[int]) -> None:
        """One request. Raises StartFailed when the zygote is gone."""
        try:
            send(self._control, message, fds)
        except OSError as error:
            raise StartFailed(f"the zygote cannot be reached: {error}") from error

    async def fork(self, name: str, sock: int, out: int) -> tuple[int, int]:
        """Pid and pidfd of a new container. Raises StartFailed."""
        self._serial += 1
        serial, event = self._serial, trio.Event()
        answer: list[Any] = []
        self._answers[serial] = (event, answer)
        try:
            self.tell(["fork", serial, name], [sock, out])
            with trio.move_on_after(START_SECONDS):
                await event.wait()
        finally:
            del self._answers[serial]
        if not answer:
            raise StartFailed(self.failure if self.dead else "the zygote did not fork in time")
        if answer[0][0] == "refused":
            raise StartFailed(answer[0][2])
        return answer[0][2], answer[1]


class Host:
    """Zygotes by function hash; `run` owns their tasks."""

    def __init__(self, log_line: LogLine) -> None:
        self._log_line = log_line
        self._zygotes: dict[str, _Zygote] = {}
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; then every zygote ends, and with it its containers."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            await trio.sleep_forever()

    async def warm(self, spec: Spec) -> None:
        """A zygote that has imported the function. Raises StartFailed."""
        await self._zygote(spec)

    async def retire(self, hash_: str) -> None:
        """No more containers of that version; its zygote ends with the last one."""
        zygote = self._zygotes.pop(hash_, None)
        if zygote is not None and not zygote.dead:
            zygote.tell(["retire"], [])

    async def start(self, spec: Spec, name: str) -> Container:
        """A new container. Raises StartFailed."""
        zygote = await self._zygote(spec)
        ours, theirs = socket.socketpair()
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        try:
            pid, pidfd = await zygote.fork(name, theirs.fileno(), write_end)
        except BaseException:
            ours.close()
            os.close(read_end)
            raise
        finally:
            theirs.close()
            os.close(write_end)
        assert self._nursery is not None
        self._nursery.start_soon(self._read_log, spec.manifest.name, name, read_end)
        return Container(name, pid, pidfd, ours)

    async def _zygote(self, spec: Spec) -> _Zygote:
        zygote = self._zygotes.get(spec.hash)
        if zygote is None or zygote.dead:
            zygote = self._zygotes[spec.hash] = self._spawn(spec)
        with trio.move_on_after(START_SECONDS):
            await zygote.ready.wait()
        if zygote.failure or not zygote.ready.is_set():
            reason = zygote.failure or f"the import took longer than {START_SECONDS:.0f} s"
            self._zygotes.pop(spec.hash, None)
            zygote.process.kill()
            raise StartFailed(reason)
        return zygote

    def _spawn(self, spec: Spec) -> _Zygote:
        assert self._nursery is not None
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", "edged.sdk.zygote", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=write_end,
                stderr=write_end,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        os.close(write_end)
        ours.setblocking(False)
        manifest = spec.manifest
        setup = {
            "function": manifest.name,
            "entry": manifest.entry,
            "runtime": manifest.runtime,
            "path": spec.path,
            "memory": manifest.limits.memory,
            "max_state": manifest.state.max_bytes,
        }
        zygote = _Zygote(spec, ours, process)
        zygote.tell(["setup", setup], [])
        self._nursery.start_soon(zygote.run)
        self._nursery.start_soon(self._read_log, manifest.name, "zygote", read_end)
        return zygote

    async def _read_log(self, function: str, container: str, fd: int) -> None:
        rest = b""
        async with trio.lowlevel.FdStream(fd) as stream:
            async for data in stream:
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    for at in range(0, max(len(line), 1), MAX_LINE):
                        self._log_line(function, container, line[at : at + MAX_LINE])
                if len(rest) > MAX_LINE:
                    self._log_line(function, container, rest[:MAX_LINE])
                    rest = rest[MAX_LINE:]
        if rest:
            self._log_line(function, container, rest)
