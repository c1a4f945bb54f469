"""The embedded store and Redis, asked the same at random: they must give the same answers."""

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import trio
from support.redis_server import RedisServer

from edged.core.records import (
    Entry,
    Forget,
    ListAlarms,
    Listed,
    ListSessions,
    Load,
    Loaded,
    Op,
    Outcome,
    ReadLeases,
    Renew,
    SessionKey,
    Write,
    Written,
)
from edged.daemon.stores import Store, open_store

KEYS = [SessionKey(f, s) for f in ("a", "ab", "b") for s in ("x", "x/y", "}{", "é")]
IDS = [bytes([n]) * 16 for n in range(12)]
NODES = ("n1", "n2")
ROUNDS, OPS = 60, 40


class Asker:
    """Operations that often apply: it remembers what the records were like."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self._known: dict[SessionKey, tuple[int, int]] = {}
        self._seq = dict.fromkeys(NODES, 0)

    def op(self) -> Op:
        """The next one."""
        key = self._chance.choice(KEYS)
        after = self._chance.choice([None, *KEYS, SessionKey("a", ""), SessionKey("zz", "z")])
        others: list[Op] = [
            Load(key, self._chance.choice([None, (), tuple(self._chance.sample(IDS, 3))])),
            ListSessions(self._chance.choice([None, "a", "ab", "c"]), after, self._chance.choice([0, 1, 3, 500])),
            ListAlarms(self._chance.uniform(0, 10), self._chance.choice([1, 500])),
            self._renew(),
            ReadLeases(),
            Forget(key, *self._expected(key)),
        ]
        return self._write(key) if self._chance.random() < 0.6 else self._chance.choice(others)

    def _expected(self, key: SessionKey) -> tuple[int, int]:
        epoch, version = self._known.get(key, (0, 0))
        return (epoch, version) if self._chance.random() < 0.8 else (epoch, version + 1)

    def _renew(self) -> Renew:
        node = self._chance.choice(NODES)
        self._seq[node] += self._chance.choice([1, 1, 1, 2])
        return Renew(node, self._chance.choice(["boot", "boot", "boot 2"]), self._seq[node], 15.0, self._over(node))

    def _over(self, node: str) -> int | None:
        return self._chance.choice([None, None, 0, self._seq[node] - 1])

    def _write(self, key: SessionKey) -> Write:
        c = self._chance
        epoch, version = self._expected(key)
        moves = c.random() < 0.2
        results = tuple(Entry(i, c.choice([0, 301]), self._bytes(), version + 1) for i in c.sample(IDS, c.choice([0, 1, 1, 3])))
        node = c.choice(NODES)
        return Write(
            key=key,
            expect_epoch=epoch,
            expect_version=version,
            epoch=epoch + moves,
            version=version + 1,
            mode=c.choice(["remote", "local"]),
            owner=c.choice([None, node, ""]),
            owner_boot=c.choice([None, "boot"]),
            move=c.choice(IDS[:3]) if moves else None,
            state=self._bytes(),
            results=results,
            keep=c.choice([0, 2, 5, 128]),
            keep_bytes=c.choice([0, 50, 65536]),
            durable=c.random() < 0.5,
            schema=c.choice([0, 1, 2]),
            lease=(node, self._seq[node]) if c.random() < 0.1 else None,
            delta=self._bytes() if c.random() < 0.3 else None,
            alarms=self._bytes() if c.random() < 0.3 else None,
            due=c.choice([None, c.uniform(0, 10)]),  # no two alike: their order is nobody's promise
        )

    def _bytes(self) -> bytes | None:
        return self._chance.choice([None, b"", b"x" * 30, bytes(range(256)) * 12])

    def learn(self, op: Op, outcome: Outcome) -> None:
        """What an answer says of a record."""
        if isinstance(op, Write | Forget) and isinstance(outcome, Written):
            record = outcome.current
            self._known[op.key] = (record.epoch, record.version) if record else (0, 0)


def plain(outcome: Outcome) -> Outcome:
    """Without the wall clock."""
    if isinstance(outcome, Loaded) and outcome.record:
        return outcome._replace(record=replace(outcome.record, updated=0.0))
    if isinstance(outcome, Written) and outcome.current:
        return outcome._replace(current=replace(outcome.current, updated=0.0))
    if isinstance(outcome, Listed):
        return Listed(tuple((key, replace(record, updated=0.0)) for key, record in outcome.rows))
    return outcome


async def answers(store: Store, ops: list[Op]) -> list[Outcome]:
    """All of them, submitted in one go."""
    outcomes: list[Outcome] = []
    for op in ops:
        store.submit(op, outcomes.append)
    with trio.fail_after(60):
        while len(outcomes) < len(ops):  # noqa: ASYNC110 - two stores answer in their own time
            await trio.sleep(0.001)
    return [plain(outcome) for outcome in outcomes]


@pytest.mark.parametrize("seed", range(3))
async def test_redis_answers_as_the_embedded_store_does(tmp_path: Path, seed: int) -> None:
    """Thousands of operations of every kind, wins and losses: not one answer differs."""
    asker = Asker(Random(seed))
    server = RedisServer(tmp_path / "redis").start()
    won = 0
    try:
        async with trio.open_nursery() as nursery:
            urls = ("sqlite:", server.url)
            stores = [open_store(url, tmp_path, reach=None, timers=None) for url in urls]  # type: ignore[arg-type]
            for store in stores:
                await nursery.start(store.run)
            for _ in range(ROUNDS):
                ops = [asker.op() for _ in range(OPS)]
                mine, theirs = [await answers(store, ops) for store in stores]
                for op, one, other in zip(ops, mine, theirs, strict=True):
                    assert one == other, op
                    asker.learn(op, one)
                    won += isinstance(op, Write) and isinstance(one, Written) and one.won
            nursery.cancel_scope.cancel()
    finally:
        server.kill()
    assert won > ROUNDS * OPS / 10
