"""The Redis store on a real server that is killed, paused, full, loading, a replica, or none at all."""

import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from support.redis_server import RedisServer
from support.tcp_proxy import proxy

from edged.core.records import (
    Entry,
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
from edged.core.store_url import RedisUrl, parse_store_url
from edged.daemon.stores import Store, ask
from edged.daemon.stores.interface import MAX_WAITING
from edged.daemon.stores.redis import RedisStore

SHORT = 0.4
"""A deadline for tests in which the server is silent."""

PATIENCE = 30.0


def write(session: str, version: int, durable: bool = True, state: bytes = b"s", number: int = 0) -> Write:
    """The commit of `version` on top of the one before, with one result."""
    call = Entry((number or version).to_bytes(16, "big"), 0, b"", version)
    epoch = 1 if version > 1 else 0
    rest = (1, version, "remote", None, None, None, state, (call,), 1024, 65536, durable)
    return Write(SessionKey("f", session), epoch, version - 1, *rest)  # type: ignore[arg-type]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server with a log of writes."""
    server = RedisServer(tmp_path / "redis").start()
    yield server
    server.kill()


@asynccontextmanager
async def opened(url: str, deadline: float = PATIENCE) -> AsyncIterator[RedisStore]:
    """The store at `url`."""
    parsed = parse_store_url(url)
    assert isinstance(parsed, RedisUrl)
    async with trio.open_nursery() as nursery:
        store = RedisStore(parsed, deadline)
        with trio.fail_after(PATIENCE):
            await nursery.start(store.run)
        yield store
        nursery.cancel_scope.cancel()


async def until(holds: Callable[[], bool]) -> None:
    """Wait for something that comes by itself."""
    with trio.fail_after(PATIENCE):
        while not holds():  # noqa: ASYNC110 - another process does it
            await trio.sleep(0.01)


def usable(store: Store) -> Callable[[], bool]:
    """Whether it says that it can be used."""
    return lambda: store.statistics().problem is None


async def version_of(store: Store, session: str) -> int:
    """Of a session; 0 where there is none."""
    outcome = await ask(store, Load(SessionKey("f", session)))
    assert isinstance(outcome, Loaded)
    return outcome.record.version if outcome.record is not None else 0


async def won(store: Store, op: Write) -> None:
    """Do `op`, which must win."""
    outcome = await ask(store, op)
    assert isinstance(outcome, Written)
    assert outcome.won


async def failed(store: Store, op: Write) -> StoreFailed:
    """Do `op`, which must fail."""
    outcome = await ask(store, op)
    assert isinstance(outcome, StoreFailed)
    return outcome


# ---- killed


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


# ---- silent


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


async def test_a_state_that_is_on_its_way_is_waited_for(server: RedisServer) -> None:
    """A reply that takes longer than the deadline but keeps coming is no silence: what is behind it is answered too."""
    state = bytes(1_000_000)
    async with proxy(server.port) as line, opened(f"redis://127.0.0.1:{line.port}", SHORT) as store:
        await won(store, write("a", 1, state=state))
        line.drip(SHORT / 3)
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


# ---- refused


async def test_a_full_server_refuses_writes_whole(server: RedisServer) -> None:
    """Without memory a write changes nothing at all, reads go on, and with memory writes do too."""
    async with opened(server.url) as store:
        await won(store, write("a", 1))
        before = await ask(store, Load(SessionKey("f", "a")))
        server.say("CONFIG", "SET", "maxmemory", "1")
        refused = await failed(store, write("a", 2, state=b"x" * 5000))
        assert refused.applied is False
        assert "OOM" in refused.reason
        assert await ask(store, Load(SessionKey("f", "a"))) == before
        server.say("CONFIG", "SET", "maxmemory", "0")
        await won(store, write("a", 2))


async def test_a_server_that_cannot_write_its_disk_refuses(server: RedisServer, tmp_path: Path) -> None:
    """MISCONF: a failed snapshot stops writes; certainly not applied, until snapshots work again."""
    async with opened(server.url) as store:
        await won(store, write("a", 1))
        server.say("CONFIG", "SET", "save", "3600 1")
        (tmp_path / "redis" / "dump.rdb").mkdir()
        server.say("BGSAVE")
        await until(lambda: "rdb_last_bgsave_status:err" in server.say("INFO", "persistence"))
        refused = await failed(store, write("a", 2))
        assert (refused.applied, refused.reason[:7]) == (False, "MISCONF")
        server.say("CONFIG", "SET", "save", "")
        await won(store, write("a", 2))


async def test_a_master_that_becomes_a_replica_is_not_used(server: RedisServer) -> None:
    """READONLY is certainly not applied; a replica is not read either; promoted again it serves by itself."""
    async with opened(server.url) as store:
        await won(store, write("a", 1))
        server.say("REPLICAOF", "127.0.0.1", "1")
        refused = await failed(store, write("a", 2))
        assert refused.applied is False
        assert "read only" in refused.reason
        await until(lambda: "it is a replica" in (store.statistics().problem or ""))
        outcome = await ask(store, Load(SessionKey("f", "a")))
        assert isinstance(outcome, StoreFailed)
        assert outcome.applied is False
        server.say("REPLICAOF", "NO", "ONE")
        await until(usable(store))
        await won(store, write("a", 2))


async def test_a_demotion_without_a_write_is_noticed(server: RedisServer) -> None:
    """Nobody writes: that the master has become a replica is found out all the same."""
    async with opened(server.url) as store:
        server.say("REPLICAOF", "127.0.0.1", "1")
        await until(lambda: "it is a replica" in (store.statistics().problem or ""))


async def test_a_server_that_loads_is_waited_for(tmp_path: Path) -> None:
    """While the server reads its file everything is refused as not applied; then it serves by itself."""
    options = ("--appendonly", "no", "--save", "")
    server = RedisServer(tmp_path / "redis", *options).start()
    try:
        server.say("EVAL", "for i = 1, 2000 do redis.call('SET', 'k' .. i, i) end", "0")
        server.say("SAVE")
        server.kill()
        slow = ("--key-load-delay", "500", "--loading-process-events-interval-bytes", "1024")
        server.start(*slow, loading=True)
        async with opened(server.url) as store:
            refused = await failed(store, write("a", 1))
            assert refused.applied is False
            assert "loading" in refused.reason
            await until(usable(store))
            await won(store, write("a", 1))
    finally:
        server.kill()


async def test_a_busy_server_refuses(server: RedisServer) -> None:
    """A script that does not end stops the server: what it refuses is not applied, and afterwards it goes on."""
    server.say("CONFIG", "SET", "busy-reply-threshold", "20")
    async with opened(server.url) as store:
        with socket.create_connection(("127.0.0.1", server.port)) as hog:
            hog.sendall(b"EVAL 'while true do end' 0\r\n")
            await until(lambda: server.say("GET", "x").startswith("-BUSY"))
            assert (await failed(store, write("a", 1))).applied is False
            server.say("SCRIPT", "KILL")
            await until(lambda: not server.say("GET", "x").startswith("-BUSY"))
        await until(usable(store))
        await won(store, write("a", 1))


async def test_forgotten_scripts_are_told_again(server: RedisServer) -> None:
    """SCRIPT FLUSH under many requests: none fails, and each takes effect once."""
    async with opened(server.url) as store:
        for round_ in range(1, 4):
            outcomes: list[Outcome] = []
            server.say("SCRIPT", "FLUSH")
            for n in range(50):
                store.submit(write(f"s{n}", round_), outcomes.append)
            store.submit(ListSessions(), outcomes.append)
            await until(lambda found=outcomes: len(found) == 51)  # type: ignore[misc]
            assert sum(isinstance(o, Written) and o.won for o in outcomes) == 50
            assert sum(isinstance(o, Listed) for o in outcomes) == 1


async def test_a_wrong_password_is_said_and_a_right_one_serves(server: RedisServer) -> None:
    """Refused: certainly not applied, in words without the password; once it is right everything goes on."""
    server.say("CONFIG", "SET", "requirepass", "other")
    async with opened(f"redis://:secret@127.0.0.1:{server.port}") as store:
        refused = await failed(store, write("a", 1))
        assert refused.applied is False
        assert "invalid username-password" in refused.reason
        assert "secret" not in refused.reason
        server.say("CONFIG", "SET", "requirepass", "secret", password="other")
        await until(usable(store))
        await won(store, write("a", 1))


async def test_a_user_without_rights_is_refused(server: RedisServer) -> None:
    """Rights taken away while it runs: not applied, with the server's words."""
    server.say("ACL", "SETUSER", "edge", "on", ">pw", "~*", "+@all")
    async with opened(f"redis://edge:pw@127.0.0.1:{server.port}") as store:
        await won(store, write("a", 1))
        server.say("ACL", "SETUSER", "edge", "-evalsha")
        refused = await failed(store, write("a", 2))
        assert refused.applied is False
        assert "evalsha" in refused.reason


async def test_through_tls_only_whom_the_ca_names(tmp_path: Path) -> None:
    """`rediss://` works with the authority that signed the server, and with no other."""
    for name in ("ours", "other"):
        self_signed(tmp_path / name)
    mine, key = str(tmp_path / "ours.pem"), str(tmp_path / "ours.key")
    tls = ("--tls-cert-file", mine, "--tls-key-file", key, "--tls-ca-cert-file", mine, "--tls-auth-clients", "no")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = RedisServer(tmp_path / "redis").start("--tls-port", str(port), *tls)
    try:
        async with opened(f"rediss://127.0.0.1:{port}?ca={mine}") as store:
            await won(store, write("a", 1))
        async with opened(f"rediss://127.0.0.1:{port}?ca={tmp_path}/other.pem") as store:
            refused = await failed(store, write("a", 2))
            assert refused.applied is False
            assert "certificate verify failed" in refused.reason
    finally:
        server.kill()


def self_signed(path: Path) -> None:
    """A certificate for 127.0.0.1 and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "edged test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path.with_suffix(".pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    path.with_suffix(".key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )


# ---- no Redis at all


@pytest.mark.parametrize("says", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", None, b"$-7\r\n%\r\n", b"*3\r\n:1\r\n" * 999, b"-ERR no\r\n"])
async def test_whatever_is_no_redis_is_not_used(says: bytes | None) -> None:
    """A peer that answers nonsense, hangs up or is silent: refused with a reason, and the daemon goes on."""

    async def serve(stream: trio.SocketStream) -> None:
        with trio.CancelScope():
            await stream.receive_some()
            if says is None:
                await trio.sleep_forever()
            await stream.send_all(says or b"")
            await stream.aclose()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        port = listeners[0].socket.getsockname()[1]
        async with opened(f"redis://127.0.0.1:{port}") as store:
            refused = await failed(store, write("a", 1))
            assert refused.applied is False
            assert store.statistics().problem
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("says", [b"$x\r\n", b":1e5\r\n", b"=5\r\nabcde\r\n", b"\xff\xff\r\n", b"*2\r\n$1\r\na\r\n?\r\n", b"-\xff\r\n"])
async def test_nonsense_costs_the_connection_only(server: RedisServer, says: bytes) -> None:
    """Whatever comes in place of a reply: what was under way is unknown, and a new connection serves."""
    async with proxy(server.port) as line, opened(f"redis://127.0.0.1:{line.port}") as store:
        await won(store, write("a", 1))
        line.spoil(says)
        assert (await failed(store, write("a", 2))).applied is None
        await until(lambda: store.statistics().lives == 2)
        assert await version_of(store, "a") in (1, 2)


@pytest.mark.parametrize("behind", range(6))
async def test_nonsense_in_a_greeting_is_no_server(server: RedisServer, behind: int) -> None:
    """At whichever step of it: that connection is not used, the next one is."""
    async with proxy(server.port) as line:
        line.spoil(b"$x\r\n", behind)
        async with opened(f"redis://127.0.0.1:{line.port}") as store:
            await until(lambda: not line.spoiling and usable(store)())
            await won(store, write("a", 1))


async def test_nonsense_in_place_of_the_role_is_no_crash(server: RedisServer) -> None:
    """The look at the server that the store takes by itself meets nonsense: a new connection, no more."""
    async with proxy(server.port) as line, opened(f"redis://127.0.0.1:{line.port}") as store:
        line.spoil(b"$x\r\n")
        await until(lambda: store.statistics().lives == 2)
        await won(store, write("a", 1))


async def test_a_name_that_leads_nowhere_is_said() -> None:
    """No server at all: the node serves without its store, and says why."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    async with opened(f"redis://127.0.0.1:{port}") as store:
        assert "refused" in (await failed(store, write("a", 1))).reason


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


# ---- what is promised


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
