"""What a node announces of itself on the LAN by mDNS (SPEC "Discovery"). Sans-IO.

Whoever reads an announcement reads a stranger's words: names are checked, anything else makes it none.
"""

from collections.abc import Mapping
from typing import NamedTuple

from .ids import valid_name

SERVICE = "_edged._tcp.local."
PROTO = b"1"
MAX_TEXT = 63


class Announced(NamedTuple):
    """A broker as it was announced: nothing says that it is there, or that it tells the truth."""

    mesh: str
    node: str
    address: str


def properties(mesh: str, node: str) -> dict[str, str]:
    """The TXT record."""
    return {"mesh": mesh, "node": node, "proto": PROTO.decode()}


def read(values: Mapping[bytes, bytes | None]) -> tuple[str, str] | None:
    """Mesh and node of a TXT record, or None for what is none of this protocol."""
    if values.get(b"proto") != PROTO:
        return None
    mesh, node = _name(values.get(b"mesh")), _name(values.get(b"node"))
    return None if mesh is None or node is None else (mesh, node)


def _name(value: bytes | None) -> str | None:
    if value is None or len(value) > MAX_TEXT or not value.isascii():
        return None
    text = value.decode("ascii")
    return text if valid_name(text) else None


def address_of(host: str, port: int) -> str:
    """host:port, with brackets where the host has colons."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
