"""Does to its container, and through it to the daemon, whatever a function can do without privileges."""

import ctypes
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import time
from typing import Any

from edged.sdk import Function, Session

fn = Function("hostile", state=dict)
OPENED = open(__file__)  # noqa: SIM115 - a file of the import, which containers must not get


@fn.handler
def call(s: Session, value: Any = None) -> Any:
    return value


@fn.handler
def say(s: Session, text: str, err: bool = False) -> None:
    print(text, file=sys.stderr if err else sys.stdout)


@fn.handler
def leave(s: Session, status: int) -> None:
    print("leaving", flush=True)
    os._exit(status)


@fn.handler
def crash(s: Session) -> None:
    ctypes.string_at(0)


@fn.handler
def signal_self(s: Session, number: int) -> None:
    os.kill(os.getpid(), number)


@fn.handler
def spin(s: Session) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        pass


@fn.handler
def breed(s: Session, count: int) -> list[int]:
    """Children of every kind, which sleep: plain, orphaned."""
    pids = []
    for n in range(count):
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            if n % 2 and os.fork():
                os._exit(0)
            os.write(write, str(os.getpid()).encode())
            time.sleep(1000)
        pids.append(int(os.read(read, 20)))
    return pids


@fn.handler
def elope(s: Session) -> list[int]:
    """A child and its child that have left the container's process group."""
    read, write = os.pipe()
    if os.fork() == 0:
        os.setsid()
        os.write(write, f"{os.getpid()} ".encode())
        if os.fork() == 0:
            os.setsid()
            os.write(write, str(os.getpid()).encode())
        time.sleep(1000)
    pids: list[bytes] = []
    while len(pids) < 2:
        pids += os.read(read, 40).split()
    return [int(pid) for pid in pids]


@fn.handler
def hog(s: Session, size: int) -> int:
    return len(bytearray(size))


@fn.handler
def huge(s: Session, size: int) -> bytes:
    return bytes(size)


@fn.handler
def garbage(s: Session, data: bytes) -> None:
    the_socket().send(data)


@fn.handler
def hang_up(s: Session) -> None:
    the_socket().shutdown(socket.SHUT_RDWR)
    time.sleep(1000)


@fn.handler
def deaf(s: Session) -> None:
    time.sleep(1000)


@fn.handler
def chatter(s: Session, size: int) -> None:
    os.write(1, b"x" * size + b"\n\xff\x00\n" + b"no end")


@fn.handler
def surroundings(s: Session) -> dict[str, Any]:
    """What a container sees of the machine and of the daemon."""
    fds = {int(fd): os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if _open(fd)}
    return {
        "env": dict(os.environ),
        "fds": {str(fd): target for fd, target in fds.items()},
        "cwd": os.getcwd(),
        "session_leader": os.getsid(0) == os.getpid(),
        "limits": [resource.getrlimit(n)[0] for n in (resource.RLIMIT_DATA, resource.RLIMIT_CORE, resource.RLIMIT_NOFILE)],
        "tasks": resource.getrlimit(resource.RLIMIT_NPROC)[0],
        "random": random.random(),
        "child": subprocess.run(["true"], check=False).returncode,
        "modules": sorted({"trio", "click", "rich", "cryptography"} & set(sys.modules)),
    }


def _open(fd: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{fd}")


def the_socket() -> socket.socket:
    """The container's own socket, by looking for it."""
    for fd in map(int, os.listdir("/proc/self/fd")):
        try:
            return socket.socket(fileno=os.dup(fd))
        except OSError:
            continue
    raise RuntimeError("hidden")
