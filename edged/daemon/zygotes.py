"""The daemon's end of one zygote: ask for forks, hear of ends (DESIGN §8; the packets: edged/sdk/zygote.py).

Decides when a zygote counts as ready, failed or gone. Refuses to know pools and when to try again (host.py).
The other end runs a function's import and may send anything: what does not parse ends the zygote.
"""

import array
import contextlib
import itertools
import os
import secrets
import signal
import socket
import subprocess
import sys
from typing import Any, NamedTuple

import msgpack  # type: ignore[import-untyped]
import trio

from .loglines import Emit, Pace, read_lines

PACKET = 16 * 1024
"""No packet is longer: a traceback tail is the largest part."""

EXIT_SECONDS = 2.0
"""A zygote whose control socket was closed has that long to end by itself."""

SEND_SECONDS = 1.0
"""A zygote that is stuck takes no packet; it will end with the daemon."""


class StartFailed(Exception):
    """No container: the text says why, with the tail of the traceback if there is one."""


class Exit:
    """The end of one container, as its zygote will tell it."""

    def __init__(self) -> None:
        self.told = trio.Event()
        self.status: int | None = None


class Forked(NamedTuple):
    """What a fork gave."""

    pid: int
    pidfd: int
    exit: Exit

    def discard(self) -> None:
        """End a container nobody waits for."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        os.close(self.pidfd)


class _Start:
    """One fork under way."""

    def __init__(self) -> None:
        self.answered = trio.Event()
        self.forked: Forked | None = None
        self.refused = ""


class Zygote:
    """One zygote process; `run` lives as long as it does."""

    def __init__(self, setup: dict[str, Any], emit: Emit, pace: Pace) -> None:
        self._setup = setup
        self._emit = emit
        self._pace = pace
        self._serials = itertools.count(1)
        self._starts: dict[int, _Start] = {}
        self._exits: dict[int, Exit] = {}
        self._unheld: list[int] = []
        self._process: trio.Process | None = None
        self._control: trio.socket.SocketType | None = None
        self._sending = trio.Lock()
        self._settled = trio.Event()
        self.token = secrets.token_hex(8)
        """In the environment of this zygote and its forks: tells whose an orphan is."""
        self.reason = ""
        """Why it is not there any more; empty while it is, and after an orderly end."""
        self.ready = False
        self.upgrades: bool | None = None
        """Whether its function has an upgrade for older states; None: its containers will say."""
        self.retired = False
        self.gone = trio.Event()

    @property
    def pid(self) -> int | None:
        """The process, once there is one."""
        return None if self._process is None else self._process.pid

    async def run(self) -> None:
        """Start the process and serve its packets until it ends; cancelled, it ends it."""
        try:
            ours, theirs, log, log_end = both_ends(socket.SOCK_SEQPACKET)
        except OSError as error:
            self.reason = f"the zygote could not be started: {error}"
            self._close_accounts()
            return
        self._control = control = trio.socket.from_stdlib_socket(ours)
        try:
            with theirs:
                await self._spawn(theirs.fileno(), log_end)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read_lines, log, self._emit, self._pace)
                try:
                    await self._converse(control)
                except trio.Cancelled:
                    self.retired = True  # it will end because we do
                    raise
                finally:
                    control.close()
                    await self._end()
                    nursery.cancel_scope.cancel()
        except OSError as error:
            self.reason = f"the zygote could not be started: {error}"
        finally:
            control.close()
            os.close(log)
            self._close_accounts()

    async def _spawn(self, control: int, log_end: int) -> None:
        variables = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"}
        variables["EDGED_ZYGOTE"] = self.token
        if "PYTHONPATH" in os.environ:
            variables["PYTHONPATH"] = os.environ["PYTHONPATH"]
        try:
            self._process = await trio.lowlevel.open_process(
                [sys.executable, "-P", "-B", "-m", "edged.sdk.zygote", str(control)],
                stdin=subprocess.DEVNULL,
                stdout=log_end,
                stderr=log_end,
                pass_fds=[control],
                env=variables,
                start_new_session=True,
            )
        finally:
            os.close(log_end)

    async def _converse(self, control: trio.socket.SocketType) -> None:
        try:
            await control.send(msgpack.packb(["setup", self._setup]))
            while not self.reason:
                data, ancillary, _, _ = await control.recvmsg(
                    PACKET, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC
                )
                if not data:
                    return
                self._take(data, _descriptors(ancillary))
                while self._unheld:
                    await control.send(msgpack.packb(["kill", self._unheld.pop()]))
        except OSError:
            return  # it died with our packets unread; how, its exit status tells
        except (ValueError, TypeError, LookupError, msgpack.exceptions.UnpackException) as error:
            self.kill(f"the zygote sent what is no packet of its own: {error}")

    def _take(self, data: bytes, fds: list[int]) -> None:
        try:
            self._heard(msgpack.unpackb(data), fds)
        finally:
            for fd in fds:
                os.close(fd)

    def _heard(self, packet: list[Any], fds: list[int]) -> None:
        kind, *rest = packet
        if kind == "forked":
            self._forked(int(rest[0]), int(rest[1]), fds)
        elif kind == "exited":
            self._told(rest[0], rest[1])
        elif kind == "refused":
            self._refused(rest[0], rest[1])
        elif kind == "ready":
            self.upgrades = None if rest[0] is None else bool(rest[0])
            self.ready = True
            self._settled.set()
        else:
            self.reason = str(rest[0])

    def _forked(self, serial: int, pid: int, fds: list[int]) -> None:
        if not fds:  # the kernel had no number for it: then nobody here could end that container
            self._unheld.append(pid)
            self._refused(serial, "no descriptors for a container")
            return
        forked = Forked(pid, fds.pop(), Exit())
        self._exits[pid] = forked.exit
        start = self._starts.pop(serial, None)
        if start is None:  # whoever asked has gone
            forked.discard()
            return
        start.forked = forked
        start.answered.set()

    def _refused(self, serial: int, why: str) -> None:
        start = self._starts.pop(serial, None)
        if start is not None:
            start.refused = why
            start.answered.set()

    def _told(self, pid: int, status: int | None) -> None:
        exit_ = self._exits.pop(pid, None)
        if exit_ is not None:
            exit_.status = status
            exit_.told.set()

    async def _end(self) -> None:
        """The control socket is closed: the process kills its containers and ends, or is killed."""
        process = self._process
        assert process is not None
        with trio.CancelScope(shield=True):
            with trio.move_on_after(EXIT_SECONDS):
                await process.wait()
            if process.returncode is None:
                process.kill()
                await process.wait()
        orderly = process.returncode == 0 and (self.retired or not self.ready)
        if not self.reason and not orderly:
            self.reason = f"the zygote {_how(process.returncode)}"

    def _close_accounts(self) -> None:
        """Nobody waits for a process that is gone."""
        self.ready = False
        self.gone.set()
        self._settled.set()
        for serial in list(self._starts):
            self._refused(serial, self.reason or "the zygote has ended")
        for pid in list(self._exits):
            self._told(pid, None)

    async def settled(self) -> None:
        """Wait until the import is through. Raises StartFailed if it did not work."""
        await self._settled.wait()
        if not self.ready:
            raise StartFailed(self.reason or "the zygote has ended")

    async def fork(self, name: str, sock: int, log: int) -> Forked:
        """A container on these descriptors. Raises StartFailed."""
        await self.settled()
        assert self._control is not None
        serial = next(self._serials)
        start = self._starts[serial] = _Start()
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [sock, log]))
        try:
            async with self._sending:
                await self._control.sendmsg([msgpack.packb(["fork", serial, name])], [rights])
            await start.answered.wait()
        except (OSError, trio.ClosedResourceError) as error:
            raise StartFailed(self.reason or f"the zygote is gone: {error}") from error
        except trio.Cancelled:
            if start.forked is not None:
                start.forked.discard()
            raise
        finally:
            self._starts.pop(serial, None)
        if start.forked is None:
            raise StartFailed(start.refused)
        return start.forked

    async def retire(self) -> None:
        """No more forks; the process ends with its last container."""
        self.retired = True
        with contextlib.suppress(OSError, trio.ClosedResourceError), trio.move_on_after(SEND_SECONDS):
            if self._control is not None:
                async with self._sending:
                    await self._control.send(msgpack.packb(["retire"]))

    def kill(self, reason: str) -> None:
        """End it now; its containers go on and become the daemon's own children."""
        self.reason = self.reason or reason
        if self._process is not None:
            self._process.kill()


def both_ends(kind: socket.SocketKind) -> tuple[socket.socket, socket.socket, int, int]:
    """A pair of sockets and a pipe, or none of the four. Raises OSError."""
    with contextlib.ExitStack() as unless_all:
        ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
        unless_all.callback(ours.close)
        unless_all.callback(theirs.close)
        log, log_end = os.pipe()
        unless_all.pop_all()
    return ours, theirs, log, log_end


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    fds = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
    return list(fds)


def _how(returncode: int | None) -> str:
    if returncode is not None and returncode < 0:
        return f"was killed by signal {-returncode}"
    return f"ended with status {returncode}"
