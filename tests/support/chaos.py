"""Sessions in Redis that are called while they are moved, their nodes killed and their store paused; every call counted.

`python -m support.chaos SESSIONS INCREMENTS MOVES KILLS PAUSES [SEED]` (in tests/) runs it by hand. Faults come as the
calls advance, not by the clock: however slow the machine is, each finds calls under way.
"""

import logging
import signal
import socket
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from typing import NamedTuple

import trio

from edged_protocol.errors import CallError, outcome_of
from edged_protocol.trio_client import Mesh, connect

from .nodes import COUNTER, Nodes, deploy, served_by
from .redis_server import RedisServer

log = logging.getLogger(__name__)

NAMES = ("n1", "n2", "n3")
CALL_SECONDS = 120.0
"""For one call with all its repeats: a node that was killed is back much sooner."""


class Size(NamedTuple):
    """How much of everything; `kills` for each node."""

    sessions: int
    increments: int
    moves: int
    kills: int
    pauses: int
    pause_seconds: float


class Account(NamedTuple):
    """What came of it: by session the acknowledged values and those in doubt, and what is in the state in the end."""

    acknowledged: list[list[int]]
    in_doubt: list[int]
    found: list[int]
    refused: Counter[int]
    moves: Counter[str]

    def wrong(self) -> list[str]:
        """Every session in which an acknowledged increment is missing, or one counted twice."""
        told = []
        for number, (values, doubt, found) in enumerate(zip(self.acknowledged, self.in_doubt, self.found, strict=True)):
            twice = len(set(values)) != len(values) or values != sorted(values)
            if twice or not len(values) <= found <= len(values) + doubt:
                told.append(f"s{number}: {len(values)} acknowledged, {doubt} in doubt, {found} found, in order: {not twice}")
        return told


class Chaos:
    """One run."""

    def __init__(self, root: Path, size: Size, seed: int) -> None:
        self._size = size
        self._chance = Random(seed)
        self._server = RedisServer(root / "redis")
        self._nodes = Nodes(root)
        self._listen = {name: f"127.0.0.1:{free_port()}" for name in NAMES}
        self._root = root
        self._done = 0
        self.account = Account([[] for _ in range(size.sessions)], [0] * size.sessions, [], Counter(), Counter())

    async def run(self) -> Account:
        """Everything; the account of it."""
        try:
            await trio.to_thread.run_sync(self._start)
            async with self._meshes() as meshes:
                async with trio.open_nursery() as telling:
                    telling.start_soon(self._tell)
                    await self._play(meshes)
                    telling.cancel_scope.cancel()
                for number in range(self._size.sessions):
                    session = meshes[0].session("counter", f"s{number}")
                    self.account.found.append(await session.call("get", timeout=CALL_SECONDS))
        finally:
            self._nodes.close()
            self._server.kill()
        return self.account

    def _start(self) -> None:
        self._server.start()
        for name in NAMES:
            self._start_node(name)
        function = self._root / "counter"
        function.mkdir()
        for file in COUNTER.glob("*.*"):
            (function / file.name).write_text(file.read_text())
        with (function / "function.toml").open("a") as manifest:
            manifest.write('\n[durability]\nlocal = "sync"\n\n[calls]\ndeadline = "5s"\n')
        deploy(self._nodes.addresses["n1"], function)
        served_by(self._nodes.addresses["n1"], "counter", len(NAMES))

    def _start_node(self, name: str) -> None:
        containers = self._size.sessions + 8  # any of them may have to hold all
        self._nodes.start(name, containers=containers, store=self._server.url, listen=self._listen[name])

    @asynccontextmanager
    async def _meshes(self) -> AsyncIterator[list[Mesh]]:
        """A client at each node; it goes to another when that one is killed."""
        addresses = [self._nodes.addresses[name] for name in NAMES]
        async with AsyncExitStack() as stack:
            rotated = [addresses[n:] + addresses[:n] for n in range(len(addresses))]
            yield [await stack.enter_async_context(connect(brokers, name="chaos")) for brokers in rotated]

    async def _play(self, meshes: list[Mesh]) -> None:
        async with trio.open_nursery() as faults:
            faults.start_soon(self._move)
            faults.start_soon(self._kill)
            faults.start_soon(self._pause)
            async with trio.open_nursery() as callers:
                for number in range(self._size.sessions):
                    callers.start_soon(self._call, meshes[number % len(meshes)], number)

    async def _tell(self) -> None:
        """How far it is, for who watches."""
        while True:
            await trio.sleep(5)
            log.info("%d calls done; %s; %s", self._done, dict(self.account.refused), dict(self.account.moves))

    # ---- the calls

    async def _call(self, mesh: Mesh, number: int) -> None:
        session = mesh.session("counter", f"s{number}")
        for _ in range(self._size.increments):
            try:
                self.account.acknowledged[number].append(await session.call("incr", timeout=CALL_SECONDS))
            except CallError as error:
                self.account.refused[error.code] += 1
                self.account.in_doubt[number] += outcome_of(error.code) == "unknown"
            self._done += 1

    async def _reached(self, share: float) -> None:
        """Wait until so much of all calls is done."""
        while self._done < share * self._size.sessions * self._size.increments:  # noqa: ASYNC110 - a tool of tests
            await trio.sleep(0.01)

    # ---- the faults

    async def _move(self) -> None:
        local: set[str] = set()
        for step in range(self._size.moves):
            await self._reached(0.95 * step / self._size.moves)
            session = f"s{self._chance.randrange(self._size.sessions)}"
            move = self._chance.choice(["migrate", "migrate", "externalize"]) if session in local else "localize"
            params = {"function": "counter", "session": session}
            if move != "externalize":
                params["to"] = self._chance.choice(NAMES)
            ended = await self._ask(f"session.{move}", params)
            self.account.moves[f"{move}: {ended}"] += 1
            if ended == "done":
                local.symmetric_difference_update({session} if move != "migrate" else set())

    async def _ask(self, verb: str, params: dict[str, str]) -> str:
        """Any node that is there; how it ended."""
        addresses = [self._nodes.addresses[name] for name in self._chance.sample(NAMES, len(NAMES))]
        try:
            async with connect(addresses, name="chaos", role="operator") as mesh:
                await mesh.request(verb, params, timeout=15)
        except CallError as error:
            return str(error.code)
        return "done"

    async def _kill(self) -> None:
        names = [name for name in NAMES for _ in range(self._size.kills)]
        self._chance.shuffle(names)
        for step, name in enumerate(names):
            await self._reached(0.9 * (step + 0.5) / len(names))
            log.info("kill %s", name)
            self._nodes.signal(name, signal.SIGKILL)
            await trio.to_thread.run_sync(self._nodes.ended, name)
            await trio.to_thread.run_sync(self._start_node, name)

    async def _pause(self) -> None:
        for step in range(self._size.pauses):
            await self._reached(0.9 * (step + 1) / (self._size.pauses + 1))
            log.info("pause")
            self._server.pause()
            await trio.sleep(self._size.pause_seconds)
            self._server.resume()


def free_port() -> int:
    """One that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def main(words: list[str]) -> int:
    """See the module."""
    sessions, increments, moves, kills, pauses, *rest = map(int, words)
    seed = rest[0] if rest else Random().randrange(2**32)
    log.addHandler(logging.StreamHandler())
    log.setLevel(logging.INFO)
    log.info("seed %d", seed)
    with tempfile.TemporaryDirectory() as root:
        account = trio.run(Chaos(Path(root), Size(sessions, increments, moves, kills, pauses, 2.0), seed).run)
    print(sum(map(len, account.acknowledged)), "acknowledged,", sum(account.in_doubt), "in doubt,", dict(account.refused))
    print("moves:", dict(account.moves))
    print("\n".join(account.wrong()) or "every acknowledged increment is there once")
    return 1 if account.wrong() else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
