"""A real redis-server of the test's own: on a free port, with its log of writes, to be killed and started again."""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from .lan_hosts import Host
from .ports import free_port

PATIENCE = 60.0
PROGRAM = shutil.which("redis-server") or shutil.which("valkey-server")


class RedisServer:
    """`start`, `kill`, `pause`; what it wrote lies in a directory and is read by its next life."""

    def __init__(self, directory: Path, *options: str, host: Host | None = None) -> None:
        """On this machine's loopback, or on a `host` of a LAN."""
        assert PROGRAM, "no redis-server here: make deps"
        self._inside, self._ip = (host.inside, host.ip) if host is not None else ([], "127.0.0.1")
        directory.mkdir(exist_ok=True)
        self.port = free_port()
        self._directory = directory
        self._options = options or ("--appendonly", "yes", "--appendfsync", "always", "--save", "")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://{self._ip}:{self.port}/0"

    def start(self, *more: str, loading: bool = False) -> "RedisServer":
        """Begin a life; `more` are options for this one. When this returns it has read its files, or with `loading`
        is still at it."""
        where = ("--port", str(self.port), "--bind", self._ip, "--dir", str(self._directory))
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._inside, str(PROGRAM), *where, "--protected-mode", "no", *self._options, *more], stdout=log, stderr=log
            )
        deadline = time.monotonic() + PATIENCE
        while not self._answers(loading):
            assert time.monotonic() < deadline
            assert self._process.poll() is None, (self._directory / "log").read_text()[-2000:]
            time.sleep(0.005)
        return self

    def _answers(self, loading: bool) -> bool:
        try:
            said = self.say("PING")
        except OSError:
            return False
        return said.startswith("-LOADING") is loading

    def say(self, *words: str, password: str = "") -> str:
        """One command; its reply as it came."""
        with socket.create_connection((self._ip, self.port), timeout=PATIENCE) as connection:
            said = [("AUTH", password), words] if password else [words]
            for command in said:
                parts = "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in command)
                connection.sendall(f"*{len(command)}\r\n{parts}".encode())
                reply = connection.recv(65536)
                if not reply:
                    raise ConnectionError("closed")
        return reply.decode()

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """As with power gone, but for what the kernel has."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def pause(self) -> None:
        """Until `resume` it does nothing, and its connections stay."""
        assert self._process is not None
        self.signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOWAIT)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)
