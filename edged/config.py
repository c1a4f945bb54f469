"""`edged.toml` (DESIGN §9): the settings of one node, checked whole before anything starts."""

import os
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edged.core import schema as s
from edged.core.schema import Field, Mistakes
from edged.core.store_url import parse_store_url
from edged_protocol.ids import valid_name

_ADDRESS = re.compile(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):(\d{1,5})\Z")
_LOOPBACK = re.compile(r"(127\.[\d.]+|localhost|\[::1\]):\d+\Z")

MAX_SOCKET_PATH = 107
"""Bytes of a Unix socket's path (unix(7))."""


def _address(value: Any) -> str:
    match = _ADDRESS.match(value) if type(value) is str else None
    if match is None or int(match[2]) > 65_535:
        raise ValueError(f"host:port was expected, not {value!r}")
    return str(value)


def _optional_address(value: Any) -> str:
    return "" if value == "" else _address(value)


def _name(value: Any) -> str:
    if not valid_name(value):
        raise ValueError(f"1 to 63 of a-z, 0-9 and - were expected, not {value!r}")
    return str(value)


def _url(value: Any) -> str:
    url = s.text(value)
    parse_store_url(url)
    return url


def _key(value: Any) -> str:
    if type(value) is not str or re.fullmatch("[0-9a-f]{64}", value) is None:
        raise ValueError("64 hexadecimal digits were expected, as `openssl rand -hex 32` makes them")
    return value


def _lease(value: Any) -> float:
    seconds = s.seconds(value)
    if not 3 <= seconds <= 3600:
        raise ValueError(f"3s to 1h were expected, not {value!r}")
    return seconds


def _whole_path(value: Any) -> str:
    if not s.text(value).startswith("/"):
        raise ValueError(f"a whole path was expected, not {value!r}")
    return str(value)


def _socket_path(value: Any) -> str:
    if value and len(os.fsencode(_whole_path(value))) > MAX_SOCKET_PATH:
        raise ValueError(f"at most {MAX_SOCKET_PATH} bytes were expected, not {len(os.fsencode(value))}: the system takes no more")
    return s.text(value)


def _host_name() -> str:
    name = re.sub(r"[^a-z0-9-]+", "-", socket.gethostname().lower()).strip("-")[:63]
    return name or "node"


SCHEMA: s.Schema = {
    "node": {
        "name": Field(_name, _host_name()),
        "data_dir": Field(_whole_path, "/var/lib/edged"),
        "labels": Field(s.many(s.text), ()),
    },
    "listen": {
        "address": Field(_address, "127.0.0.1:7400"),
        "advertise": Field(_optional_address, ""),
        "admin": Field(_socket_path, "/run/edged/admin.sock"),
        "http": Field(_optional_address, ""),
    },
    "mesh": {
        "name": Field(_name, "edged"),
        "discovery": Field(s.many(s.choice("mdns", "static")), ("mdns",)),
        "seeds": Field(s.many(_address), ()),
        "lease": Field(_lease, 15.0),
    },
    "store": {"url": Field(_url, "sqlite:")},
    "capacity": {"containers": Field(s.whole(0, 4096), 8), "memory": Field(s.size, 0)},
    "policy": {
        "guard": Field(s.real(0.1, 0.99), 0.8),
        "wish_guard": Field(s.real(0.1, 0.99), 0.95),
        "budget": Field(s.whole(0, 1000), 2),
        "hysteresis": Field(s.real(0.0, 1.0), 0.02),
    },
    "security": {
        "insecure": Field(s.boolean, False),
        "gossip_keys": Field(s.many(_key), ()),
    },
}


@dataclass(frozen=True, slots=True)
class NodeSection:
    """[node]"""

    name: str
    data_dir: str
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ListenSection:
    """[listen]"""

    address: str
    advertise: str
    admin: str
    http: str


@dataclass(frozen=True, slots=True)
class MeshSection:
    """[mesh]"""

    name: str
    discovery: tuple[str, ...]
    seeds: tuple[str, ...]
    lease: float


@dataclass(frozen=True, slots=True)
class StoreSection:
    """[store]"""

    url: str


@dataclass(frozen=True, slots=True)
class CapacitySection:
    """[capacity]"""

    containers: int
    memory: int


@dataclass(frozen=True, slots=True)
class PolicySection:
    """[policy]"""

    guard: float
    wish_guard: float
    budget: int
    hysteresis: float


@dataclass(frozen=True, slots=True)
class SecuritySection:
    """[security]"""

    insecure: bool
    gossip_keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Config:
    """All of it."""

    node: NodeSection
    listen: ListenSection
    mesh: MeshSection
    store: StoreSection
    capacity: CapacitySection
    policy: PolicySection
    security: SecuritySection


def _contradictions(values: s.Values) -> Iterator[s.Contradiction]:
    """What no node can or may do, though each setting is right by itself."""
    if values["store"]["url"] == f"mesh:{values['node']['name']}":
        yield "store", "url", "this is the node itself: the one that serves the store to the others has sqlite:"
    beside = f"{values['node']['data_dir']}/admin.sock"
    if not values["listen"]["admin"] and len(os.fsencode(beside)) > MAX_SOCKET_PATH:
        yield "node", "data_dir", f"too long for the admin socket in it, of {MAX_SOCKET_PATH} bytes at most: say [listen] admin"
    reason = "TLS is not available in this version: beyond loopback it needs [security] insecure = true"
    for key in ("address", "http"):
        address = values["listen"][key]
        if address and not _LOOPBACK.match(address) and not values["security"]["insecure"]:
            yield "listen", key, reason


def parse_config(source: str, name: str = "") -> Config:
    """The settings in `source`. Raises Mistakes with every line that is wrong."""
    values = s.read(source, SCHEMA, name, _contradictions)
    return Config(
        node=NodeSection(**values["node"]),
        listen=ListenSection(**values["listen"]),
        mesh=MeshSection(**values["mesh"]),
        store=StoreSection(**values["store"]),
        capacity=CapacitySection(**values["capacity"]),
        policy=PolicySection(**values["policy"]),
        security=SecuritySection(**values["security"]),
    )


def load_config(path: Path) -> Config:
    """The settings in a file. Raises Mistakes, OSError."""
    try:
        source = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise Mistakes([(line, f"not UTF-8: {error}")], str(path)) from None
    return parse_config(source, str(path))
