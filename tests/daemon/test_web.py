"""HTTP for watchers: what a request is answered with, and that no client can hold a node up."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio

from edged.core.records import LeaseTable, StoreFailed
from edged.daemon import health, web
from edged.daemon.web import Page, Web


async def hello() -> Page:
    return Page(200, b"hello\n")


async def fails() -> Page:
    raise RuntimeError("a defect")


@asynccontextmanager
async def served() -> AsyncIterator[tuple[str, int]]:
    """Where it listens."""
    one = Web("127.0.0.1:0", {"/hello": hello, "/fails": fails})
    host, _, port = one.address.rpartition(":")
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.run)
            yield host, int(port)
            nursery.cancel_scope.cancel()
    finally:
        one.close()


async def said(address: tuple[str, int], request: bytes) -> bytes:
    """All that comes back until the connection ends."""
    stream = await trio.open_tcp_stream(*address)
    async with stream:
        await stream.send_all(request)
        return b"".join([part async for part in stream])


def get(path: str, method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


@pytest.mark.parametrize(
    ("request_", "status", "body"),
    [
        (get("/hello"), 200, b"hello\n"),
        (get("/hello?x=1"), 200, b"hello\n"),
        (get("/hello", "HEAD"), 200, b""),
        (get("/hello", "POST"), 405, b"GET or HEAD\n"),
        (get("/"), 404, b"there are /hello, /fails\n"),
        (get("/../etc/passwd"), 404, b"there are /hello, /fails\n"),
    ],
)
async def test_a_page_is_answered(request_: bytes, status: int, body: bytes) -> None:
    """By its path, to GET and HEAD; then the connection ends."""
    async with served() as address:
        head, _, rest = (await said(address, request_)).partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert rest == body


@pytest.mark.parametrize(
    ("request_", "status"), [(b"\x16\x03\x01\x00\r\n\r\n", 400), (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n", 431)]
)
async def test_what_is_no_request_is_refused(request_: bytes, status: int) -> None:
    """With 4xx, before much of it is kept; the next one is served."""
    async with served() as address:
        assert (await said(address, request_)).startswith(f"HTTP/1.1 {status} ".encode())
        assert (await said(address, get("/hello"))).endswith(b"hello\n")


async def test_a_defect_ends_its_own_connection() -> None:
    """Whoever asked gets nothing, the next one is served."""
    async with served() as address:
        assert await said(address, get("/fails")) == b""
        assert (await said(address, get("/hello"))).endswith(b"hello\n")


async def test_who_is_silent_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a connection that says nothing nor one that stops in the middle stays."""
    monkeypatch.setattr(web, "SECONDS", 0.05)
    async with served() as address:
        assert await said(address, b"") == b""
        assert await said(address, b"GET /hel") == b""


async def test_connections_are_bounded() -> None:
    """One more than there may be is closed at once; when one has gone there is room again."""
    async with served() as address:
        streams = [await trio.open_tcp_stream(*address) for _ in range(web.MAX_CONNECTIONS)]
        assert await said(address, b"") == b""
        for stream in streams:
            await stream.aclose()
        answer = b""
        while not answer:
            answer = await said(address, get("/hello"))
        assert answer.endswith(b"hello\n")


def a_node(trouble: str | None, lease: bool, draining: bool) -> Any:
    outcome = LeaseTable(()) if trouble is None else StoreFailed(None, trouble)

    async def probe(op: object) -> tuple[object, str | None]:
        return outcome, trouble

    return SimpleNamespace(
        store=SimpleNamespace(probe=probe),
        leasing=SimpleNamespace(core=SimpleNamespace(good=lease)),
        relay=SimpleNamespace(draining=draining),
        workers=SimpleNamespace(resting=False),
    )


@pytest.mark.parametrize(
    ("trouble", "lease", "draining", "reasons"),
    [
        (None, True, False, []),
        ("no answer", True, False, ["the state store: no answer"]),
        (None, False, False, ["the node has no lease in the state store"]),
        (None, True, True, ["the node is stopping"]),
        ("away", False, True, ["the node is stopping", "the state store: away", "the node has no lease in the state store"]),
    ],
)
async def test_a_node_is_ready_or_says_why_not(trouble: str | None, lease: bool, draining: bool, reasons: list[str]) -> None:
    """503 with all reasons at once; that it lives is another question."""
    page = await health.readyz(cast(Any, a_node(trouble, lease, draining)))
    assert page.status == (503 if reasons else 200)
    assert page.body.decode().splitlines() == (reasons or ["ready"])
    assert (await health.healthz()).status == 200
