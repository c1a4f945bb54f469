"""The times and numbers of a network (reliability §2.6)."""

from math import log10
from typing import NamedTuple


class Profile(NamedTuple):
    """Seconds, unless said otherwise."""

    interval: float = 1.0
    timeout: float = 0.5
    helpers: int = 3
    suspicion: float = 3.0
    suspicion_most: int = 6
    confirmations: int = 2
    gossip: float = 0.2
    fanout: int = 3
    retransmit: int = 4
    sync: float = 30.0
    gossip_to_dead: float = 30.0
    tombstone: float = 86_400.0
    bytes_per_second: float = 20_000.0

    def repeats(self, nodes: int) -> int:
        """How often one word is passed on by each node."""
        return max(1, round(self.retransmit * log10(nodes + 1) + 0.5))

    def least_suspicion(self, nodes: int) -> float:
        """From suspicion to down, when others confirm it."""
        return self.suspicion * max(1.0, log10(max(1, nodes)))


LAN = Profile()
WAN = Profile(interval=5.0, timeout=3.0, suspicion_most=6, gossip=0.5, fanout=4)

MAX_PAYLOAD = 1_300
"""Bytes of a datagram before it is sealed; sealed it has at most 1,400 and is never cut up on the way."""
