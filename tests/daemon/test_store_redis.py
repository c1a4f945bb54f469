"""The Redis store on a real server that is killed or silent; whose a session is, and what its settings promise."""

from pathlib import Path

import pytest
import trio
from support.redis_server import PATIENCE, RedisServer
from support.redis_store import failed, opened, until, usable, version_of, won, write
from support.tcp_proxy import proxy

from edged.core.records import (
    Listed,
    ListSessions,
    Load,
    Loaded,
    Outcome,
    SessionKey,
    StoreFailed,
    Write,
    Written,
)
from edged.daemon.stores import Store, ask, redis_line
from edged.daemon.stores.interface import MAX_WAITING

SHORT = 2.0
"""A deadline for tests in which the server is silent."""


class Writer:
    """Commits to one session as nodes do: what is unknown is looked up, what is refused is tried again."""

    def __init__(self, store: Store, session: str) -> None:
        self._store = store
        self._session = session
        self.acknowledged: list[bytes] = []
        self.unknown = self.refused = 0

    async def run(self, stop: trio.Event) -> None:
        number = version = 0
        while not stop.is_set():
            number += 1
            op = write(self._session, version + 1, number=number)
            outcome = await self._asked(op)
            if isinstance(outcome, Written) and outcome.won:
                self.acknowledged.append(op.results[0].call_id)
                version += 1
            else:
                version = await self._look()

    async def _look(self) -> int:
        while True:
            outcome = await self._asked(Load(SessionKey("f", self._session)))
            if isinstance(outcome, Loaded):
                return outcome.record.version if outcome.record is not None else 0
            await trio.sleep(0.005)

    async def _asked(self, op: Write | Load) -> Outcome:
        with trio.fail_after(PATIENCE):
            outcome = await ask(self._store, op)
        if isinstance(outcome, StoreFailed):
            self.unknown += outcome.applied is None
            self.refused += outcome.applied is False
        return outcome


async def test_nothing_acknowledged_is_lost_with_the_server(server: RedisServer) -> None:
    """Killed under load and started again, three times: what was acknowledged is there, once, in order."""
    stop = trio.Event()
    async with opened(server.url) as store:
        writers = [Writer(store, f"s{n}") for n in range(8)]
        async with trio.open_nursery() as nursery:
            for writer in writers:
                nursery.start_soon(writer.run, stop)
            for life in range(1, 4):
                await until(lambda life=life: all(len(w.acknowledged) >= 40 * life for w in writers))  # type: ignore[misc]
                server.kill()
                await until(lambda: all(w.refused for w in writers))
                await trio.to_thread.run_sync(server.start)
            await until(lambda: all(len(w.acknowledged) >= 160 for w in writers))
            stop.set()
        for number, writer in enumerate(writers):
            outcome = await ask(store, Load(SessionKey("f", f"s{number}")))
            assert isinstance(outcome, Loaded)
            assert outcome.record is not None
            ids = [entry.call_id for entry in outcome.results]
            assert [i for i in ids if i in set(writer.acknowledged)] == writer.acknowledged
            assert outcome.record.version == len(ids)


async def test_silence_is_unknown_by_the_deadline(server: RedisServer) -> None:
    """A paused server: all that was sent is unknown, the rest refused; awake, each request gets its own answer."""
    async with opened(server.url, SHORT) as store:
        await won(store, write("a", 1))
        server.pause()
        outcomes: list[Outcome] = []
        for op in (write("a", 2), write("b", 1), Load(SessionKey("f", "a"))):
            store.submit(op, outcomes.append)
        await until(lambda: len(outcomes) == 3)
        assert {outcome.applied for outcome in outcomes if isinstance(outcome, StoreFailed)} == {None}
        assert (await failed(store, write("c", 1))).applied is False
        server.resume()
        await until(usable(store))
        # The server had them in its hands: they may have been applied, and their answers go nowhere.
        await until_applied(store)
        assert await version_of(store, "c") == 0
        await won(store, write("c", 1))
        counts = store.statistics()
        assert (counts.waiting, counts.waiting_bytes) == (0, 0)


async def until_applied(store: Store) -> None:
    """Wait for what a paused server still had to do."""
    with trio.fail_after(PATIENCE):
        while await version_of(store, "a") != 2 or await version_of(store, "b") != 1:  # noqa: ASYNC110 - as above
            await trio.sleep(0.01)


async def test_a_lost_answer_leaves_the_write_applied(server: RedisServer) -> None:
    """The reply is swallowed behind an applied claim: unknown; the record tells, and repeating it wins again."""
    claim = write("a", 1)._replace(epoch=2, mode="local", owner="n1", owner_boot="b", move=b"m" * 16)
    async with proxy(server.port) as line, opened(f"redis://127.0.0.1:{line.port}", SHORT) as store:
        line.lose()
        assert (await failed(store, claim)).applied is None
        line.pass_on()
        await until(usable(store))
        outcome = await ask(store, Load(claim.key))
        assert isinstance(outcome, Loaded)
        assert outcome.record is not None
        assert outcome.record.move == claim.move
        await won(store, claim)


async def test_a_late_answer_is_nobody_elses(server: RedisServer) -> None:
    """Answers held beyond the deadline and then let go: no later request gets one of them."""
    async with proxy(server.port) as line, opened(f"redis://127.0.0.1:{line.port}", SHORT) as store:
        await won(store, write("a", 1, state=b"old"))
        line.hold()
        outcomes: list[Outcome] = []
        for _ in range(20):
            store.submit(Load(SessionKey("f", "a")), outcomes.append)
        await until(lambda: len(outcomes) == 20)
        assert all(isinstance(o, StoreFailed) and o.applied is None for o in outcomes)
        line.pass_on()
        await until(usable(store))
        for n in range(20):
            await won(store, write(f"late-{n}", 1))
            assert await version_of(store, f"late-{n}") == 1


async def test_a_state_that_is_on_its_way_is_waited_for(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reply that takes longer than the deadline but keeps coming is no silence: what is behind it is answered too."""
    monkeypatch.setattr(redis_line, "SILENCE", PATIENCE)
    state = bytes(1_500_000)
    async with proxy(server.port) as line, opened(f"redis://127.0.0.1:{line.port}", SHORT) as store:
        await won(store, write("a", 1, state=state))
        line.drip(SHORT / 12)
        outcomes: list[Outcome] = []
        for session in ("a", "b"):
            store.submit(Load(SessionKey("f", session)), outcomes.append)
        await until(lambda: len(outcomes) == 2)
        large, small = outcomes
        assert isinstance(large, Loaded)
        assert large.record is not None
        assert (large.record.state, small) == (state, Loaded(None))


async def test_operations_under_way_are_bounded(server: RedisServer) -> None:
    """Beyond the bound an operation is refused and nothing is sent for it; the others are answered."""
    async with opened(server.url) as store:
        server.pause()
        outcomes: list[Outcome] = []
        for _ in range(MAX_WAITING + 1):
            store.submit(Load(SessionKey("f", "a")), outcomes.append)
        await until(lambda: len(outcomes) == 1)
        server.resume()
        await until(lambda: len(outcomes) == MAX_WAITING + 1)
    assert [type(outcome) for outcome in outcomes] == [StoreFailed] + [Loaded] * MAX_WAITING


async def test_at_the_end_everybody_is_told(server: RedisServer) -> None:
    """A cancelled store answers what waits as unknown, and refuses what comes later."""
    outcomes: list[Outcome] = []
    async with opened(server.url) as store:
        server.pause()
        store.submit(write("a", 1), outcomes.append)
    assert outcomes == [StoreFailed(None, "the store is closed")]
    store.submit(write("a", 1), outcomes.append)
    await until(lambda: len(outcomes) == 2)
    assert isinstance(outcomes[1], StoreFailed)
    assert outcomes[1].applied is False


async def test_a_store_of_another_format_is_left_alone(server: RedisServer) -> None:
    """What a later edged has written is not read by guesswork."""
    server.say("HSET", "{edged}:store", "format", "9")
    async with opened(server.url) as store:
        assert "format b'9'" in (await failed(store, write("a", 1))).reason


@pytest.mark.parametrize("other", ["/3", "/0?prefix=plant-7"])
async def test_databases_and_prefixes_are_stores_of_their_own(server: RedisServer, other: str) -> None:
    """Two meshes on one server: neither sees the other's sessions."""
    base = server.url.removesuffix("/0")
    async with opened(f"{base}/0") as one, opened(base + other) as two:
        await won(one, write("a", 1, state=b"one"))
        await won(two, write("a", 1, state=b"two"))
        await won(two, write("b", 1))
        listed = await ask(one, ListSessions())
        assert isinstance(listed, Listed)
        assert [key.session for key, _ in listed.rows] == ["a"]


@pytest.mark.parametrize(
    ("settings", "promise", "weak"),
    [
        ({"appendfsync": "always"}, "every acknowledged write is on its disk", False),
        ({"appendfsync": "everysec"}, "may cost the last two seconds", False),
        ({"appendonly": "no", "save": "60 1"}, "since its last snapshot", True),
        ({"appendonly": "no"}, "its end costs everything", True),
        ({"maxmemory-policy": "allkeys-lru"}, "throws sessions away", True),
    ],
)
async def test_what_a_write_survives_is_said(
    server: RedisServer, caplog: pytest.LogCaptureFixture, settings: dict[str, str], promise: str, weak: bool
) -> None:
    """The operator reads what the server's settings mean, as a warning where that is too little."""
    for name, value in settings.items():
        server.say("CONFIG", "SET", name, value)
    async with opened(server.url) as store:
        assert promise in store.statistics().durability
    warned = [r for r in caplog.records if r.levelname == "WARNING" and promise in r.getMessage()]
    assert bool(warned) is weak


async def test_a_durable_write_waits_for_its_replicas(server: RedisServer, tmp_path: Path) -> None:
    """With `?replicas=1` an acknowledged write is on the replica; without one it is unknown, and others go on."""
    server.say("CONFIG", "SET", "repl-diskless-sync-delay", "0")
    replica = RedisServer(tmp_path / "replica").start("--replicaof", "127.0.0.1", str(server.port))
    try:
        await until(lambda: "state=online" in server.say("INFO", "replication"))
        async with opened(f"{server.url}?replicas=1") as store:
            await won(store, write("a", 1))
            assert replica.say("HGET", "{edged}:session:f/a", "version") == "$1\r\n1\r\n"
            replica.pause()
            unknown = await failed(store, write("a", 2))
            assert (unknown.applied, unknown.reason) == (None, "fewer than 1 replicas have it")
            await won(store, write("a", 3, durable=False))
            server.say("CONFIG", "SET", "min-replicas-max-lag", "1", "min-replicas-to-write", "2")
            refused = await failed(store, write("a", 4))
            assert (refused.applied, refused.reason[:10]) == (False, "NOREPLICAS")
    finally:
        replica.kill()
