"""How many bytes of bodies a node has in hand (DESIGN §10): decides whether one more call still fits.

A bound on the number of calls alone would let one connection put 256 MiB into a queue. Light bodies are not
counted: their number bounds them, and most calls pay nothing for this.
"""

from .link import Link

LIGHT = 16 * 1024
"""Bytes of a body that are not counted: 256 of them, which one connection may have in flight, are 4 MiB."""

MAX_LINK = 16 * 1024 * 1024
MAX_ALL = 128 * 1024 * 1024
"""Bytes of heavier bodies in hand of one connection's calls, and of all: what a machine of 1 GB can spare."""


class Burden:
    """`take` before a call with a heavy body, `drop` after it."""

    def __init__(self) -> None:
        self._all = 0

    def take(self, link: Link, size: int) -> bool:
        """Whether there is room for `size` bytes of that connection, which then are counted. What a node passes on is
        bounded together with the rest only: many clients stand behind it."""
        own_share = link.role != "node"
        if self._all + size > MAX_ALL or (own_share and link.heavy + size > MAX_LINK):
            return False
        link.heavy += size
        self._all += size
        return True

    def drop(self, link: Link, size: int) -> None:
        """They are gone."""
        link.heavy -= size
        self._all -= size
