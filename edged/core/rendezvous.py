"""Who comes first for a session, without asking anybody (reliability §2.2).

Decides an order only: who tries first. Highest random weight: each node's place depends on the key and its own name, so
that a node that comes or goes moves nobody else. Never who owns: two nodes may see different members.
"""

from collections.abc import Iterable
from hashlib import sha256

from .records import SessionKey


def rank(key: SessionKey, node: str, nodes: Iterable[str]) -> int:
    """How many of `nodes` come before `node` for this session; `node` itself need not be among them."""

    def place(name: str) -> bytes:
        return sha256(f"{name} {key.function}/{key.session}".encode()).digest()

    return sum(place(other) < place(node) for other in nodes if other != node)
