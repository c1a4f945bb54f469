"""Sessions in Redis that are called while they are moved, their nodes killed and their store paused; every call counted.

`python -m support.chaos sync|checkpoint SESSIONS INCREMENTS MOVES KILLS PAUSES [SEED]` (in tests/) runs it by hand. Faults
come as the calls advance, not by the clock: however slow the machine is, each finds calls under way. Before a node is
killed each session is asked what that would lose.
"""

import logging
import signal
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
from .ports import free_port
from .redis_server import RedisServer
from .tallies import Loss, Tally

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
    """What came of it, by session; how calls that were not acknowledged ended, and moves."""

    tallies: list[Tally]
    refused: Counter[int]
    moves: Counter[str]

    @property
    def acknowledged(self) -> int:
        return sum(tally.acknowledged for tally in self.tallies)

    @property
    def losses(self) -> list[Loss]:
        return [loss for tally in self.tallies for loss in tally.losses]

    def wrong(self, may_lose: bool) -> list[str]:
        """Every acknowledged call that is missing or counted twice, but for losses that were promised and told."""
        told = []
        for number, tally in enumerate(self.tallies):
            told += [f"s{number}: {what}" for what in tally.wrong]
            for loss in tally.losses:
                if not may_lose or not loss.told or (loss.allowed is not None and loss.calls > loss.allowed):
                    told.append(f"s{number}: {loss}")
        return told


class Chaos:
    """One run."""

    def __init__(self, root: Path, size: Size, seed: int, durability: str = 'local = "sync"') -> None:
        self._size = size
        self._durability = durability
        self._chance = Random(seed)
        self._server = RedisServer(root / "redis")
        self._nodes = Nodes(root)
        self._listen = {name: f"127.0.0.1:{free_port()}" for name in NAMES}
        self._root = root
        self._done = 0
        self.account = Account([Tally() for _ in range(size.sessions)], Counter(), Counter())

    async def run(self) -> Account:
        """Everything; the account of it."""
        try:
            await trio.to_thread.run_sync(self._start)
            async with self._meshes() as meshes:
                async with trio.open_nursery() as telling:
                    telling.start_soon(self._tell)
                    await self._play(meshes)
                    telling.cancel_scope.cancel()
                for number, tally in enumerate(self.account.tallies):
                    session = meshes[0].session("counter", f"s{number}")
                    answer = await session.invoke("get", timeout=CALL_SECONDS)
                    tally.ended(answer.value, answer.meta, trio.current_time())
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
            manifest.write(f'\n[durability]\n{self._durability}\n\n[calls]\ndeadline = "5s"\n')
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
        session, tally = mesh.session("counter", f"s{number}"), self.account.tallies[number]
        for _ in range(self._size.increments):
            try:
                answer = await session.invoke("incr", timeout=CALL_SECONDS)
                tally.ack(answer.value, answer.meta, trio.current_time())
            except CallError as error:
                self.account.refused[error.code] += 1
                if outcome_of(error.code) == "unknown":
                    tally.doubt()
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
            said = await self._would_lose(name)
            log.info("kill %s", name)
            self._nodes.signal(name, signal.SIGKILL)
            for number, (unsaved, acknowledged) in said.items():
                self.account.tallies[number].crash(unsaved, acknowledged, trio.current_time())
            await trio.to_thread.run_sync(self._nodes.ended, name)
            await trio.to_thread.run_sync(self._start_node, name)

    async def _would_lose(self, name: str) -> dict[int, tuple[int, int]]:
        """By session what `session get` says that a crash of its owner would lose, and how many calls had been acknowledged."""
        said, refused = {}, ""
        async with connect([self._nodes.addresses[name]], name="chaos", role="operator") as mesh:
            for number, tally in enumerate(self.account.tallies):
                acknowledged = tally.acknowledged
                try:
                    row, _ = await mesh.request("session.get", {"function": "counter", "session": f"s{number}"})
                except CallError as error:  # its owner has just been killed, or the store is paused
                    refused = str(error)
                    continue
                said[number] = (row["unsaved_calls"], acknowledged)
        log.info("%d of %d said what would be lost; %s", len(said), len(self.account.tallies), refused)
        return said

    async def _pause(self) -> None:
        for step in range(self._size.pauses):
            await self._reached(0.9 * (step + 1) / (self._size.pauses + 1))
            log.info("pause")
            self._server.pause()
            await trio.sleep(self._size.pause_seconds)
            self._server.resume()


CHECKPOINT_CALLS = 50
"""After so many calls a function that does not say otherwise has a checkpoint, if the store answers."""

DURABILITY = {"sync": 'local = "sync"', "checkpoint": 'local = "checkpoint"'}


def main(durability: str, *words: str) -> int:
    """See the module."""
    sessions, increments, moves, kills, pauses, *rest = map(int, words)
    seed = rest[0] if rest else Random().randrange(2**32)
    log.addHandler(logging.StreamHandler())
    log.setLevel(logging.INFO)
    log.info("seed %d", seed)
    size = Size(sessions, increments, moves, kills, pauses, 2.0)
    with tempfile.TemporaryDirectory() as root:
        account = trio.run(Chaos(Path(root), size, seed, DURABILITY[durability]).run)
    wrong = account.wrong(may_lose=durability != "sync")
    in_doubt = sum(tally.in_doubt for tally in account.tallies)
    print(durability, account.acknowledged, "acknowledged,", in_doubt, "in doubt,", dict(account.refused))
    print("moves:", dict(account.moves))
    if account.losses:
        print(told_of(account.losses))
    print("\n".join(wrong) or "every acknowledged increment is there once, or was promised and told to be lost")
    return 1 if wrong else 0


def told_of(losses: list[Loss]) -> str:
    """The losses in one line."""
    calls = sorted(loss.calls for loss in losses)
    beyond = sum(number > CHECKPOINT_CALLS for number in calls)
    asked = [loss for loss in losses if loss.allowed is not None]
    return (
        f"lost {sum(calls)} in {len(calls)} crashes of an owner: {calls[len(calls) // 2]} in the middle, {calls[-1]} at most, "
        f"{beyond} of them more than {CHECKPOINT_CALLS}; "
        f"{sum(loss.told for loss in losses)} told, {len(asked)} asked for before; "
        f"the oldest lost call was {max((loss.age for loss in asked), default=0.0):.1f} s old"
    )


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
