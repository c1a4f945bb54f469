"""Where a function may run, and why not (DESIGN §6, §8 `[placement]`).

Decides by labels and capacity, for this node as for any other that told what it is.
"""

from collections.abc import Iterable
from typing import NamedTuple


class Place(NamedTuple):
    """A node as placement sees it. `status`: as gossip does; `state`: its own word, "" when it is not connected."""

    node: str
    status: str
    state: str
    labels: tuple[str, ...]
    slots: int
    memory: int = 0
    """Bytes for all containers, 0 for any."""


def missing(require: Iterable[str], labels: Iterable[str]) -> list[str]:
    """The labels that are asked for and not there."""
    return [label for label in require if label not in set(labels)]


def too_large(limit: int, memory: int) -> bool:
    """Whether no container with that limit has room where all have `memory`, 0 for any."""
    return 0 < memory < limit


def why_not(require: Iterable[str], place: Place, memory: int = 0) -> str:
    """The rule that keeps a function whose containers take `memory` off a node; "" when none does."""
    if place.status != "alive":
        return f"the node is {place.status}"
    if not place.state:
        return "no connection to the node"
    if place.state != "alive":
        return f"the node is {place.state}"
    if place.slots == 0:
        return "the node has no container slots ([capacity] containers)"
    if too_large(memory, place.memory):
        return "one container of the function is to have more memory than the node has for all ([capacity] memory)"
    absent = missing(require, place.labels)
    if absent:
        return "the node lacks " + ", ".join(f'the label "{label}"' for label in absent)
    return ""
