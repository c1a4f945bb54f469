"""URLs of stores: what they mean, and what is wrong with them."""

from pathlib import Path

import pytest

from edged.core.store_url import MeshUrl, RedisUrl, SqliteUrl, parse_store_url, shown

PLAIN = RedisUrl("hall", 6379, 0, None, None, False, None, "edged", 0)


@pytest.mark.parametrize(
    ("url", "store"),
    [
        ("sqlite:", SqliteUrl("")),
        ("sqlite:/var/s.db", SqliteUrl("/var/s.db")),
        ("mesh:pi-1", MeshUrl("pi-1")),
        ("redis://hall", PLAIN),
        ("redis://hall:7000/3", RedisUrl("hall", 7000, 3, None, None, False, None, "edged", 0)),
        ("redis://[::1]:7/", RedisUrl("::1", 7, 0, None, None, False, None, "edged", 0)),
        ("redis://:pa%40ss@hall", RedisUrl("hall", 6379, 0, None, "pa@ss", False, None, "edged", 0)),
        (
            "rediss://me:pw@hall/1?ca=/etc/ca.pem&prefix=plant-7&replicas=2",
            RedisUrl("hall", 6379, 1, "me", "pw", True, Path("/etc/ca.pem"), "plant-7", 2),
        ),
    ],
)
def test_a_url_names_a_store(url: str, store: object) -> None:
    """Every part of it is found, what is left out has its default."""
    assert parse_store_url(url) == store


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "was expected, not ''"),
        ("sqlite", "was expected"),
        ("mesh:", "was expected"),
        ("mesh:Hall 3", "was expected"),
        ("mysql:x", "was expected, not 'mysql:x'"),
        ("redis:", "HOST:PORT"),
        ("redis://", "HOST:PORT"),
        ("redis://hall:99999", "a port is at most 65535"),
        ("redis://hall/x", "the database: a number"),
        ("redis://hall/-1", "the database: a number"),
        ("redis://hall?replica=1", "'replica' is no option"),
        ("redis://hall?replicas=99", "replicas: a number up to 16"),
        ("redis://hall?prefix=A", "prefix: 1 to 63"),
        ("redis://hall?ca=/x", "rediss"),
        ("redis://:a#b@hall", "%23"),
    ],
)
def test_what_is_wrong_is_said(url: str, reason: str) -> None:
    """No URL is guessed at."""
    with pytest.raises(ValueError, match="expected|option|belongs|written") as caught:
        parse_store_url(url)
    assert reason in str(caught.value)


@pytest.mark.parametrize("url", ["redis://me:secret@hall/1", "redis://me:secret@hall:x", "redis+x://me:secret@hall"])
def test_a_password_is_never_shown(url: str) -> None:
    """Neither where the URL is shown nor in what is wrong with it."""
    try:
        said = shown(url)
    except ValueError as error:
        said = str(error)
    assert "secret" not in said
    assert shown("mesh:pi-1") == "mesh:pi-1"
