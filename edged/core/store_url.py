"""What the URL of a state store says (DESIGN §9): one reading for the configuration and for the drivers.

Decides which URLs name a store. Refuses to know drivers: a configuration is checked without opening anything.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from edged_protocol.ids import valid_name

_EXPECTED = "sqlite:, sqlite:PATH, redis://HOST:PORT/DB or mesh:NODE"

_SHAPE = "redis://HOST:PORT/DB was expected; in a password # / ? and @ are written %23 %2F %3F %40"

MAX_REPLICAS = 16
"""More than anybody waits for."""


@dataclass(frozen=True, slots=True)
class SqliteUrl:
    """`sqlite:PATH`; no path is the store in the node's own directory."""

    path: str


@dataclass(frozen=True, slots=True)
class MeshUrl:
    """`mesh:NODE`"""

    node: str


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """`redis://USER:PASSWORD@HOST:PORT/DB?prefix=NAME&replicas=N`; `rediss://` with `?ca=FILE`."""

    host: str
    port: int
    db: int
    user: str | None
    password: str | None
    tls: bool
    ca: Path | None
    prefix: str
    replicas: int

    @property
    def shown(self) -> str:
        """For people: no secret."""
        return f"{'rediss' if self.tls else 'redis'}://{self.host}:{self.port}/{self.db}"


StoreUrl = SqliteUrl | MeshUrl | RedisUrl


def parse_store_url(url: str) -> StoreUrl:
    """The store that `url` names. Raises ValueError, which never repeats a password."""
    scheme, colon, rest = url.partition(":")
    if scheme == "sqlite" and colon:
        return SqliteUrl(rest)
    if scheme == "mesh" and valid_name(rest):
        return MeshUrl(rest)
    if scheme in ("redis", "rediss"):
        return _redis(url)
    raise ValueError(f"{_EXPECTED} was expected, not {re.sub('//.*@', '//…@', url)!r}")


def shown(url: str) -> str:
    """The URL for people to read, without user and password."""
    parsed = parse_store_url(url)
    return parsed.shown if isinstance(parsed, RedisUrl) else url


def _redis(url: str) -> RedisUrl:
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError:
        raise ValueError(f"{_SHAPE}, and a port is at most 65535") from None
    if not host or parts.fragment:
        raise ValueError(_SHAPE)
    options = _options(parts.query)
    tls = parts.scheme == "rediss"
    if "ca" in options and not tls:
        raise ValueError("ca= belongs to rediss://")
    return RedisUrl(
        host=host,
        port=port or 6379,
        db=_whole(parts.path.strip("/") or "0", "the database", 65_535),
        user=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        tls=tls,
        ca=Path(options["ca"]) if "ca" in options else None,
        prefix=_prefix(options.get("prefix", "edged")),
        replicas=_whole(options.get("replicas", "0"), "replicas", MAX_REPLICAS),
    )


def _options(query: str) -> dict[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    unknown = options.keys() - {"ca", "prefix", "replicas"}
    if unknown:
        raise ValueError(f"{min(unknown)!r} is no option of a redis store: ca, prefix, replicas")
    return options


def _prefix(text: str) -> str:
    if not valid_name(text):
        raise ValueError("prefix: 1 to 63 of a-z, 0-9 and - were expected")
    return text


def _whole(text: str, what: str, most: int) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) > most:
        raise ValueError(f"{what}: a number up to {most} was expected, not {text!r}")
    return int(text)
