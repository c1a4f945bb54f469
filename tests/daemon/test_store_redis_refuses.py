"""The Redis store on a server that is full, loading, busy, a replica, or wants another password."""

import socket
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from support.ports import free_port
from support.redis_server import RedisServer
from support.redis_store import failed, opened, until, usable, won, write

from edged.core.records import Listed, ListSessions, Load, Outcome, SessionKey, StoreFailed, Written
from edged.daemon.stores import ask


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
    port = free_port()
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
