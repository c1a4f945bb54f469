"""`python -m edged.sdk.zygote FD`: one process per function version, from which containers are forked.

The function is imported once; a container is a fork of it, there in a millisecond, sharing its memory
(DESIGN §8, §11). For the exec runtime nothing is imported and the fork becomes the bundle's program.
Decides nothing: the daemon asks over FD (a SEQPACKET socket, one msgpack list per packet), this process
forks, reaps and tells. It holds no session, no key and no listening socket, and has one thread only.

daemon to zygote                        zygote to daemon
["setup", {…}]                          ["ready", has @fn.upgrade] or ["failed", traceback tail]
["fork", serial, name] + [socket, log]  ["forked", serial, pid] + [pidfd] or ["refused", serial, why]
["retire"]: no more forks,              ["exited", pid, wait status]
  exit with the last container
["kill", pid]: its pidfd got lost
end of stream: kill all, exit
"""

import array
import contextlib
import errno
import fcntl
import gc
import importlib
import io
import os
import select
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgpack  # type: ignore[import-untyped]

from . import launch, worker
from .answers import traceback_tail
from .function import Function

PACKET = 16 * 1024
"""No control packet is longer: a traceback tail is the largest part."""


GENERATIONS = 64
"""Of processes that containers left behind, ended one after the other; who forks faster than that is not waited for."""

FIRST_LOOK, LOOK = 2.0, 1.0
"""Seconds of an import after which, and between which, is looked whether the daemon lives: most imports are through."""


class Setup(NamedTuple):
    """What the daemon says about the function."""

    function: str
    entry: str
    runtime: str
    path: str
    memory: int
    tasks: int
    max_state: int
    cpu: float
    cgroup: str
    """Below which containers are held to `cpu`; "": they are not."""


class ImportFailed(Exception):
    """The bundle has no such function; the text is for its author."""


def import_function(entry: str, path: str) -> Function:
    """The Function object `module:name` of the bundle in `path`."""
    module_name, _, attribute = entry.partition(":")
    sys.path.insert(0, path)
    module = importlib.import_module(module_name)
    origin = os.path.realpath(getattr(module, "__file__", None) or "")
    if not origin.startswith(os.path.realpath(path) + os.sep):
        raise ImportFailed(f"entry {entry!r}: {module_name} is a module of Python's own; rename yours")
    function = getattr(module, attribute or "fn", None)
    if not isinstance(function, Function):
        raise ImportFailed(f"entry {entry!r}: {module_name} has no Function named {attribute or 'fn'}")
    if not function.methods:
        raise ImportFailed(f"entry {entry!r}: no method is declared; put @fn.handler on one")
    function.kind()
    return function


@contextlib.contextmanager
def _ending_with(parent: int) -> Iterator[None]:
    """While a module is imported nobody reads the control socket: one that hangs would outlive a daemon that was killed.

    The kernel's own signal at a parent's death was the alternative; it comes when the thread that forked ends.
    """

    def look(*_: object) -> None:
        if os.getppid() != parent:
            os._exit(1)

    signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, FIRST_LOOK, LOOK)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGALRM) is look:  # the module may have taken it for itself
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)


def _look_for(program: str) -> None:
    """A deploy that could never start a container should say so."""
    if not os.access(program, os.X_OK) or os.path.isdir(program):
        why = errno.EACCES if os.path.exists(program) else errno.ENOENT
        raise ImportFailed(f"{program}: {os.strerror(why)}")


class Zygote:
    """Forks on request until the daemon is gone."""

    def __init__(self, control: socket.socket, setup: Setup) -> None:
        self._control = control
        self._setup = setup
        self._children: set[int] = set()
        self._retired = False
        self._function: Function | None = None
        self._variables = launch.environment(setup.function, os.environ.get("PATH", os.defpath))

    def prepare(self) -> bool:
        """Import the function; whether that worked. The daemon is told either way."""
        launch.become_subreaper()
        launch.limit_process(launch.Limits(self._setup.memory, self._setup.tasks))
        os.chdir(self._setup.path)
        os.environ.clear()
        os.environ.update(self._variables)
        try:
            if self._setup.runtime == "python":
                self._import()
            else:
                _look_for(self._setup.entry)
        except ImportFailed as error:
            self._tell(["failed", str(error)])
            return False
        except BaseException as error:  # noqa: BLE001 - a module may raise anything, SystemExit too
            self._tell(["failed", traceback_tail(_from_bundle(error, self._setup.path))])
            return False
        self._tell(["ready", None if self._function is None else self._function.hook("upgrade") is not None])
        return True

    def _import(self) -> None:
        gc.disable()
        with _ending_with(os.getppid()):
            self._function = import_function(self._setup.entry, self._setup.path)
        if self._function.is_async:
            importlib.import_module("trio")
        if threading.active_count() > 1:
            print("threads started while importing do not exist in containers", file=sys.stderr)
        sys.stdout.flush()
        gc.collect()
        gc.freeze()

    def serve(self) -> None:
        """Until the daemon closes the control socket, or retired and without children."""
        wake, wakeup = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(wake, select.POLLIN)
        while self._children or not self._retired:
            ready = {fd for fd, _ in poll.poll()}
            if wake in ready:
                os.read(wake, 4096)
                self._reap()
            if self._control.fileno() in ready and not self._obey():
                self._kill_all()
                return

    def _obey(self) -> bool:
        """One request; False when the daemon is gone."""
        data, fds = receive(self._control)
        if not data:
            return False
        message = msgpack.unpackb(data)
        if message[0] == "retire":
            self._retired = True
        elif message[0] == "fork" and len(fds) == 2:
            self._fork(message[1], message[2], *fds)
        elif message[0] == "kill" and message[1] in self._children:
            os.kill(message[1], signal.SIGKILL)
        for fd in fds:
            os.close(fd)
        return True

    def _fork(self, serial: int, name: str, sock: int, log: int) -> None:
        broken, report = os.pipe2(os.O_CLOEXEC)
        try:
            pid = os.fork()
        except OSError as error:
            os.close(broken)
            os.close(report)
            self._tell(["refused", serial, f"fork: {error}"])
            return
        if pid == 0:
            self._become_container(name, sock, log, report)
        os.close(report)
        self._children.add(pid)
        # Closed by exec, or by the container once it is set up: until then it is not told of.
        why = os.read(broken, 4096).decode("utf-8", "replace")
        os.close(broken)
        if why:
            self._tell(["refused", serial, why])
            return
        pidfd = os.pidfd_open(pid)
        self._tell(["forked", serial, pid], [pidfd])
        os.close(pidfd)

    def _become_container(self, name: str, sock: int, log: int, report: int) -> None:
        """In the child; does not return."""
        status = 1
        try:
            launch.detach(log)
            self._limit_cpu(name, report)
            if self._function is None:
                self._execute(sock, report)
            else:
                status = self._serve_calls(self._function, name, sock)
        except BaseException:  # noqa: BLE001 - nothing may climb back into the zygote's loop
            traceback.print_exc()
        finally:
            with contextlib.suppress(OSError, ValueError):  # the log may be gone
                sys.stdout.flush()
            os._exit(status)

    def _limit_cpu(self, name: str, report: int) -> None:
        """A container that cannot be held to its limit does not run."""
        if not self._setup.cgroup:
            return
        try:
            launch.enter_cgroup(self._setup.cgroup, name, self._setup.cpu)
        except OSError as error:
            os.write(report, f"[limits] cpu: {error}".encode())
            raise

    def _execute(self, sock: int, report: int) -> None:
        program = os.path.join(self._setup.path, self._setup.entry)
        report = fcntl.fcntl(report, fcntl.F_DUPFD_CLOEXEC, launch.EXEC_FD + 1)
        try:
            launch.execute(program, sock, {**self._variables, "EDGED_MAX_STATE": str(self._setup.max_state)})
        except OSError as error:
            os.write(report, f"{self._setup.entry}: {error.strerror}".encode())

    def _serve_calls(self, function: Function, name: str, sock: int) -> int:
        launch.close_all_but(sock)
        launch.reseed()
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
        gc.enable()
        worker.run(function, socket.socket(fileno=sock), name, self._setup.max_state)
        return 0

    def _reap(self) -> None:
        """Tell of every container that ended, after ending what it left behind."""
        while (pid := _ended_child()) is not None:
            if pid in self._children:
                # Not reaped yet, so the number is still the container's, and so is the group.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
            status = os.waitpid(pid, 0)[1]
            if pid in self._children:
                self._children.discard(pid)
                self._tell(["exited", pid, os.waitstatus_to_exitcode(status)])

    def _kill_all(self) -> None:
        """The containers, their groups, and what left those: that is this process's child when its parent has ended."""
        children = self._children
        for _ in range(GENERATIONS):
            for pid in children:
                for kill in (os.killpg, os.kill):  # the group may not exist yet, or not any more
                    with contextlib.suppress(ProcessLookupError):
                        kill(pid, signal.SIGKILL)
            for pid in children:
                os.waitpid(pid, 0)
            children = _own_children()

    def _tell(self, message: list[Any], fds: list[int] | None = None) -> None:
        with contextlib.suppress(OSError):  # the daemon is gone: the next read says so
            send(self._control, message, fds or [])


def _from_bundle(error: BaseException, path: str) -> BaseException:
    """The error without the frames that led into the bundle, which are this file's and importlib's."""
    frame = error.__traceback__
    while frame is not None and not frame.tb_frame.f_code.co_filename.startswith(path):
        frame = frame.tb_next
    return error.with_traceback(frame)


def _own_children() -> set[int]:
    """Of this process, the adopted ones too; none where the kernel does not say."""
    found: set[int] = set()
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError), open(f"/proc/self/task/{thread}/children") as file:
            found.update(map(int, file.read().split()))
    return found


def _ended_child() -> int | None:
    """A child that ended and was not reaped, adopted ones included."""
    try:
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return ended.si_pid if ended is not None else None


def send(control: socket.socket, message: list[Any], fds: list[int]) -> None:
    """One packet with descriptors."""
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    control.sendmsg([msgpack.packb(message)], rights)


def receive(control: socket.socket) -> tuple[bytes, list[int]]:
    """One packet and its descriptors; empty at the end of the stream."""
    try:
        data, ancillary, _, _ = control.recvmsg(PACKET, socket.CMSG_SPACE(8), socket.MSG_CMSG_CLOEXEC)
    except ConnectionError:
        return b"", []
    fds = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
    return data, list(fds)


def main() -> None:
    """Read the set-up, import, fork on request."""
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    data, _ = receive(control)
    if not data:
        return
    zygote = Zygote(control, Setup(**msgpack.unpackb(data)[1]))
    if zygote.prepare():
        zygote.serve()
    sys.stdout.flush()
    os._exit(0)  # without waiting for threads a function started while it was imported


if __name__ == "__main__":
    main()
